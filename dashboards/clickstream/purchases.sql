-- Purchases, by their confirmation.
select count(*) as count_purchases
from cdm.purchases
where
    true
    -- [[ and confirmed_at >= {{from}}::date ]]
    -- [[ and confirmed_at < {{to}}::date + 1 ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
