-- One row per bought product: the cart adds of each paid path.
with numbered as (
    select
        *,
        row_number() over (
            partition by user_id order by viewed_at, step, event_id, page_url, referer_url, utm_campaign
        ) as view_number,
        count(*) filter (where step = 4) over (
            partition by user_id order by viewed_at, step, event_id, page_url, referer_url, utm_campaign
            rows between unbounded preceding and 1 preceding
        ) as path_number
    from {{ ref('page_views') }}
    where user_id is not null and step is not null
),

paths as (
    select
        *,
        max(viewed_at) filter (where step = 4) over (partition by user_id, path_number) as confirmed_at,
        max(id) filter (where step = 4) over (partition by user_id, path_number) as confirmation_id
    from numbered
),

within_window as (
    select
        *,
        max(view_number) filter (where step = 3) over (partition by user_id, path_number) as last_payment
    from paths
    where viewed_at >= confirmed_at - interval '1 day'
),

shop_views as (
    select
        *,
        lag(step) over (partition by user_id, path_number order by view_number) as previous_step,
        lag(page_url) over (partition by user_id, path_number order by view_number) as product_page
    from within_window
    where step in (1, 2)
)

select
    user_id,
    confirmation_id,
    confirmed_at,
    coalesce(product_page, '(none)') as page_url
from shop_views
where step = 2 and previous_step = 1 and view_number < last_payment
