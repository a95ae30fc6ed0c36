-- The median time from the first view of a session to its last, in seconds.
select
    extract(
        epoch from percentile_cont(0.5) within group (order by ended_at - started_at)
    )::float8 as median_seconds
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
