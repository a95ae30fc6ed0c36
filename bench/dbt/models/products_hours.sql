select
    date_trunc('hour', confirmed_at) as hour_timestamp,
    count(*) as count_products
from {{ ref('cart_adds') }}
group by 1
