-- Sessions that began then, by the source of their first view.
select count(*) as count_sessions
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
