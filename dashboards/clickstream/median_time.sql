-- The median time from the first product view of a purchase's path to its confirmation, in seconds.
select
    extract(
        epoch from percentile_cont(0.5) within group (order by confirmed_at - first_product_at)
    )::float8 as median_seconds
from cdm.purchases
where
    true
    -- [[ and confirmed_at >= {{from}}::date ]]
    -- [[ and confirmed_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
