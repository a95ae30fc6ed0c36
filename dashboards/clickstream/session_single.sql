-- The share of sessions with a single page view.
select (count(*) filter (where count_views = 1))::float8 / nullif(count(*), 0) as share_single
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
