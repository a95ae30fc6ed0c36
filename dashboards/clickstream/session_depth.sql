-- The mean number of page views of a session.
select round(avg(count_views), 1)::float8 as views_a_session
from cdm.sessions
where
    true
    -- [[ and started_at >= {{from}}::date ]]
    -- [[ and started_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
