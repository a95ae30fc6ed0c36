with users as (
    select
        coalesce(referer_url, '(direct)') as referer_url,
        coalesce(utm_campaign, '(none)') as utm_campaign,
        count(distinct user_id) as count_users
    from {{ ref('page_views') }}
    where user_id is not null
    group by 1, 2
),

purchases as (
    select
        referer_url,
        utm_campaign,
        count(*) as count_purchases
    from {{ ref('purchases') }}
    group by referer_url, utm_campaign
)

select
    users.referer_url,
    users.utm_campaign,
    users.count_users,
    coalesce(purchases.count_purchases, 0) as count_purchases,
    users.count_users / cast(sum(users.count_users) over () as double precision) as share_users
from users
left join purchases using (referer_url, utm_campaign)
