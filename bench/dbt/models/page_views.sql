-- One row per page view: of rows with the same user, instant and event_id, the first.
with events as (
    select
        id,
        event_id,
        coalesce(nullif(user_domain_id, ''), nullif(user_custom_id, '')) as user_id,
        cast(event_timestamp as timestamp) as viewed_at,
        ltrim(split_part(split_part(coalesce(page_url_path, ''), '?', 1), '#', 1), '/') as page_path,
        page_url,
        nullif(referer_url, '') as referer_url,
        nullif(utm_campaign, '') as utm_campaign,
        row_number() over (
            partition by
                coalesce(nullif(user_domain_id, ''), nullif(user_custom_id, '')),
                cast(event_timestamp as timestamp),
                event_id
            order by batch_id, id
        ) as delivery
    from {{ source('stage', 'events') }}
)

select
    id,
    event_id,
    user_id,
    viewed_at,
    coalesce(nullif(split_part(page_path, '/', 1), ''), '(none)') as page_type,
    case
        when left(page_path, 8) = 'product_' then 1
        when split_part(page_path, '/', 1) = 'cart' then 2
        when split_part(page_path, '/', 1) = 'payment' then 3
        when split_part(page_path, '/', 1) = 'confirmation' then 4
    end as step,
    page_url,
    referer_url,
    utm_campaign
from events
where delivery = 1
