-- Users, buyers and conversion by referer and campaign: who bought by a confirmation that carries the source.
with users as (
    select
        referer_url,
        utm_campaign,
        count(distinct user_id) as count_users
    from cdm.user_days
    where
        true
        -- [[ and day >= {{from}}::date ]]
        -- [[ and day <= {{to}}::date ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
    group by referer_url, utm_campaign
),
buyers as (
    select
        referer_url,
        utm_campaign,
        count(distinct user_id) as count_buyers,
        count(*) as count_purchases
    from cdm.purchases
    where
        true
        -- [[ and confirmed_at >= {{from}}::date ]]
        -- [[ and confirmed_at < {{to}}::date + 1 ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
    group by referer_url, utm_campaign
)
select
    users.referer_url,
    users.utm_campaign,
    users.count_users,
    coalesce(buyers.count_buyers, 0) as count_buyers,
    coalesce(buyers.count_purchases, 0) as count_purchases,
    coalesce(buyers.count_buyers, 0) / users.count_users::float8 as conversion
from users
left join buyers on users.referer_url = buyers.referer_url and users.utm_campaign = buyers.utm_campaign
order by users.count_users desc, users.referer_url, users.utm_campaign
