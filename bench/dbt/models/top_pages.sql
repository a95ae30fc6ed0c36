with pages as (
    select
        page_url,
        count(distinct confirmation_id) as count_purchases
    from {{ ref('cart_adds') }}
    group by page_url
)

select
    row_number() over (order by count_purchases desc, page_url) as id,
    page_url,
    count_purchases
from pages
order by id
limit 10
