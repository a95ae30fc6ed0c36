-- The 10 pages on which most sessions began.
select
    entry_page_url,
    count(*) as count_sessions
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
group by entry_page_url
order by count_sessions desc, entry_page_url collate "C"
limit 10
