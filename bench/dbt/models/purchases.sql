-- One row per purchase.
select
    cart_adds.user_id,
    cart_adds.confirmed_at,
    count(*) as count_products,
    coalesce(confirmations.referer_url, '(direct)') as referer_url,
    coalesce(confirmations.utm_campaign, '(none)') as utm_campaign
from {{ ref('cart_adds') }} as cart_adds
inner join {{ ref('page_views') }} as confirmations on cart_adds.confirmation_id = confirmations.id
group by cart_adds.confirmation_id, cart_adds.user_id, cart_adds.confirmed_at, 4, 5
