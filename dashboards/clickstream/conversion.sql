-- The share of the users with a purchase, among all who had a page view.
with buyers as (
    select count(distinct user_id) as count_buyers
    from cdm.purchases
    where
        true
        -- [[ and confirmed_at >= {{from}}::date ]]
        -- [[ and confirmed_at < {{to}}::date + 1 ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
),
users as (
    select count(distinct user_id) as count_users
    from cdm.user_days
    where
        true
        -- [[ and day >= {{from}}::date ]]
        -- [[ and day <= {{to}}::date ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
)
select buyers.count_buyers / nullif(users.count_users, 0)::float8 as conversion
from buyers
cross join users
