-- Users at each step of a purchase: those who saw a page of it and of every step before it, in whatever order.
with users as (
    select
        user_id,
        bool_or(count_product_views > 0) as has_product,
        bool_or(count_cart_views > 0) as has_cart,
        bool_or(count_payment_views > 0) as has_payment,
        bool_or(count_confirmation_views > 0) as has_confirmation
    from cdm.user_days
    where
        true
        -- [[ and day >= {{from}}::date ]]
        -- [[ and day <= {{to}}::date ]]
        -- [[ and referer_url = {{referer}} ]]
        -- [[ and utm_campaign = {{campaign}} ]]
    group by user_id
),
totals as (
    select
        count(*) filter (where has_product) as product,
        count(*) filter (where has_product and has_cart) as cart,
        count(*) filter (where has_product and has_cart and has_payment) as payment,
        count(*) filter (where has_product and has_cart and has_payment and has_confirmation) as confirmation
    from users
)
select
    steps.step,
    steps.count_users,
    steps.count_users / nullif(first_value(steps.count_users) over by_number, 0)::float8 as share_of_first,
    1 - steps.count_users / nullif(lag(steps.count_users) over by_number, 0)::float8 as drop_off
from totals
cross join
    lateral unnest(
        array['Product', 'Cart', 'Payment', 'Confirmation'],
        array[totals.product, totals.cart, totals.payment, totals.confirmation]
    ) with ordinality as steps (step, count_users, number)
window by_number as (order by steps.number)
order by steps.number
