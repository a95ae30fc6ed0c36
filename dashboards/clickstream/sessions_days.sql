-- Sessions by the day on which they began, those of a single page view beside.
select
    started_at::date as day,
    count(*) filter (where count_views > 1) as count_longer,
    count(*) filter (where count_views = 1) as count_single
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
group by 1
order by 1
