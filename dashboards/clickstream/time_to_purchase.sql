-- Purchases by the time from the first product view of their path to the confirmation.
with buckets (starts_at, ends_at, bucket) as (
    values
    (interval '0', interval '1 minute', 'under 1 min'),
    (interval '1 minute', interval '5 minutes', '1 to 5 min'),
    (interval '5 minutes', interval '15 minutes', '5 to 15 min'),
    (interval '15 minutes', interval '1 hour', '15 to 60 min'),
    (interval '1 hour', interval '4 hours', '1 to 4 h'),
    (interval '4 hours', interval '12 hours', '4 to 12 h'),
    (interval '12 hours', interval '1 day', '12 to 24 h'),
    (interval '1 day', null, '1 day or more')
)
select
    buckets.bucket,
    count(purchases.confirmed_at) as count_purchases
from buckets
left join cdm.purchases
    on
        purchases.confirmed_at - purchases.first_product_at >= buckets.starts_at
        and (
            purchases.confirmed_at - purchases.first_product_at < buckets.ends_at
            or buckets.ends_at is null
        )
        -- [[ and purchases.confirmed_at >= {{from}}::date ]]
        -- [[ and purchases.confirmed_at < {{to}}::date + 1 ]]
        -- [[ and purchases.referer_url = {{referer}} ]]
        -- [[ and purchases.utm_campaign = {{campaign}} ]]
group by buckets.bucket, buckets.starts_at
order by buckets.starts_at
