-- cdm.explain_user, cdm.explain_purchase: a user's page views in their order, each with what became of it on the way to
-- a purchase (docs/explain.md). Reads stage.page_views and cdm.purchases.

{% from "cdm/10_purchases.sql" import is_bought, is_in_window, last_payment, later_steps -%}
{% set columns %}
viewed_at timestamp,
step text,
page_type text,
page_url text,
referer_url text,
utm_campaign text,
event_id text,
verdict text,
confirmed_at timestamp,
purchase_id bigint,
load_id bigint,
row_id bigint
{% endset -%}
create or replace function cdm.explain_user(of_user text, only_steps boolean default false)
returns table ({{ columns | indent(4) }})
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    return query
    with views as (
        select *
        from stage.page_views
        where
            page_views.user_hash = hashtextextended(of_user, 0)
            and page_views.user_id = of_user
            and (page_views.step is not null or not only_steps)
    ),
    step_views as (
        {{ later_steps("views", columns="*") | indent(8) }}
    ),
    -- What lies before the window of a path's confirmation is kept apart from the path.
    window_views as (
        select
            *,
            coalesce({{ is_in_window }}, false) as is_in_window
        from step_views
    ),
    path_views as (
        select
            *,
            {{ last_payment }} over path as paid_at,
            count(*) filter (where step = 'payment') over later_views > 0 as has_next_payment,
            min(number_from_last) filter (where step = 'product') over earlier_views as previous_product,
            min(number_from_last) filter (where step = 'cart') over earlier_views as previous_cart
        from window_views
        window
            path as (partition by path_number, is_in_window),
            later_views as (path order by number_from_last rows between unbounded preceding and 1 preceding),
            earlier_views as (path order by number_from_last desc rows between unbounded preceding and 1 preceding)
    ),
    marked_views as (
        select
            *,
            {{ is_bought }}
            as is_bought,
            step = 'cart' and coalesce(previous_product < previous_cart, previous_product is not null) as is_cart_add
        from path_views
    ),
    judged_views as (
        select
            *,
            coalesce(bool_or(is_bought) over path, false) as is_of_purchase
        from marked_views
        window path as (partition by path_number, is_in_window)
    )
    select
        views.viewed_at,
        views.step::text,
        views.page_type,
        views.page_url,
        views.referer_url,
        views.utm_campaign,
        views.event_id,
        case
            when views.step is null then 'no step'
            when views.confirmed_at is null then views.step::text || ' ignored: no confirmation after it'
            when not views.is_in_window then views.step::text || ' ignored: before the purchase window'
            when views.step = 'product' then
                case
                    when views.is_bought then 'product bought'
                    when coalesce(views.next_cart_at > views.confirmed_at, true) then 'product ignored: no cart after it'
                    when views.next_product_at <= views.next_cart_at
                        then 'product ignored: another one before the next cart'
                    else 'product not bought: no payment after its cart'
                end
            when views.step = 'cart' then
                case
                    when views.is_cart_add and views.viewed_at <= views.paid_at then 'cart add, bought'
                    when views.is_cart_add then 'cart add, not bought: no payment after it'
                    when views.previous_cart is null then 'cart ignored: no product before it'
                    else 'cart ignored: no product since the last cart'
                end
            when views.step = 'payment' then
                case
                    when views.has_next_payment then 'payment ignored: another one after it'
                    when views.is_of_purchase then 'last payment, of a purchase'
                    else 'payment ignored: no cart add before it'
                end
            when views.is_of_purchase then 'purchase'
            when views.paid_at is null then 'no purchase: no payment in its path'
            else 'no purchase: no cart add before the last payment'
        end as verdict,
        views.confirmed_at,
        purchases.id::bigint as purchase_id,
        views.batch_id,
        views.row_id
    from judged_views as views
    left join cdm.purchases
        on
            views.is_of_purchase
            and hashtextextended(purchases.user_id, 0) = hashtextextended(of_user, 0)
            and purchases.user_id = of_user
            and purchases.confirmed_at = views.confirmed_at
    order by views.number_from_last desc;
end
$$;

comment on function cdm.explain_user(text, boolean) is
'The page views of a user in their order, or those that are a step alone, each with what became of it and why.';

create or replace function cdm.explain_purchase(of_purchase bigint, only_steps boolean default false)
returns table ({{ columns | indent(4) }})
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
    select timeline.*
    from cdm.purchases
    cross join lateral cdm.explain_user(purchases.user_id, only_steps) as timeline
    where purchases.id = of_purchase and timeline.confirmed_at = purchases.confirmed_at
$$;

comment on function cdm.explain_purchase(bigint, boolean) is
'The page views between a purchase''s confirmation and the one before it, as cdm.explain_user tells them.';

revoke execute on function cdm.explain_user(text, boolean), cdm.explain_purchase(bigint, boolean) from public;
