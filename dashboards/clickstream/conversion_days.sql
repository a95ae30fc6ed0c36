-- The share of a day's users of a referer who bought on that day, by a confirmation that carries the referer.
with users as (
    select
        day,
        referer_url,
        count(distinct user_id) as count_users
    from cdm.user_days
    where
        true
        -- [[ and day >= {{from}}::date ]]
        -- [[ and day <= {{to}}::date ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
    group by day, referer_url
),
buyers as (
    select
        confirmed_at::date as day,
        referer_url,
        count(distinct user_id) as count_buyers
    from cdm.purchases
    where
        true
        -- [[ and confirmed_at >= {{from}}::date ]]
        -- [[ and confirmed_at < {{to}}::date + 1 ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
    group by 1, 2
)
select
    users.day,
    users.referer_url,
    users.count_users,
    coalesce(buyers.count_buyers, 0) as count_buyers,
    coalesce(buyers.count_buyers, 0) / users.count_users::float8 as conversion
from users
left join buyers on users.day = buyers.day and users.referer_url = buyers.referer_url
order by users.day, users.referer_url
