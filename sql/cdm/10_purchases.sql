-- cdm.purchases: one row per purchase, a confirmation whose path was paid for and holds a product (docs/meaning.md 3).
-- Reads stage.page_views: of all for a rebuild, else of the paths that pg_temp.changed_views touch.
-- Writes cdm.purchases, and to pg_temp.changed_purchases what came (sign 1) and what went (-1).

{% from "macros.jinja" import purchase_columns, view_order -%}
{#- A running count numbers the paths: one sort, not a self-join over a user's views. A path within the purchase window
    is the end of the whole path, so each view's forerunner there is the same one as here, or none. -#}
{% macro purchases_from(views) -%}
with numbered_views as (
    select
        user_hash,
        user_id,
        viewed_at,
        step,
        page_url,
        referer_url,
        utm_campaign,
        row_number() over user_views as view_number,
        count(*) filter (where step = 'confirmation') over earlier_views as path_number
    from {{ views }}
    where user_id is not null and step is not null
    window
        user_views as (
            partition by user_hash, user_id
            order by {{ view_order() | replace("\n", " ") }}
        ),
        earlier_views as (user_views rows between unbounded preceding and 1 preceding)
),
path_views as (
    select
        user_hash,
        user_id,
        viewed_at,
        step,
        referer_url,
        utm_campaign,
        view_number,
        path_number,
        max(viewed_at) filter (where step = 'confirmation') over path
        - {{ settings.purchase_window | literal }}::interval as window_start,
        max(view_number) filter (where step = 'payment') over path as last_payment,
        lag(step) over shop_views as previous_step,
        lag(viewed_at) over shop_views as previous_at,
        lag(page_url) over shop_views as previous_page_url
    from numbered_views
    window
        path as (partition by user_hash, user_id, path_number),
        -- Products and carts alone: what stands between them doesn't matter.
        shop_views as (
            partition by user_hash, user_id, path_number, step in ('product', 'cart')
            order by view_number
        )
),
marked_views as (
    select
        *,
        step = 'cart' and previous_step = 'product' and previous_at >= window_start and view_number < last_payment
        as is_bought
    from path_views
    where viewed_at >= window_start
)
select
    user_id,
    min(viewed_at) filter (where step = 'product') as first_product_at,
    min(viewed_at) filter (where is_bought) as first_cart_at,
    max(viewed_at) filter (where step = 'payment') as paid_at,
    max(viewed_at) as confirmed_at,
    count(*) filter (where is_bought) as count_products,
    array_agg(coalesce(previous_page_url, '(none)') order by view_number) filter (where is_bought) as page_urls,
    coalesce(max(referer_url) filter (where step = 'confirmation'), '(direct)') as referer_url,
    coalesce(max(utm_campaign) filter (where step = 'confirmation'), '(none)') as utm_campaign
from marked_views
group by user_hash, user_id, path_number
having bool_or(is_bought)
{%- endmacro -%}
create or replace view cdm.computed_purchases as
{{ purchases_from("stage.page_views") }};

comment on view cdm.computed_purchases is
'One row per purchase, computed from all page views when read: the definition of cdm.purchases.';

create or replace function cdm.refresh_purchases(rebuild boolean) returns void
language plpgsql as $$
begin
    create temporary table standing_purchases (like cdm.purchases) on commit drop;
    create temporary table computed_purchases on commit drop as
    select * from cdm.computed_purchases
    with no data;

    if rebuild then
        insert into pg_temp.standing_purchases
        select * from cdm.purchases;
        insert into pg_temp.computed_purchases
        select * from cdm.computed_purchases;
    else
        -- A view bears on the purchase at its own instant, and on the user's next confirmation within the window.
        create temporary table touched_instants on commit drop as
        with changed_instants as (
            select distinct user_hash, user_id, viewed_at
            from pg_temp.changed_views
            where user_id is not null and step is not null
        )
        select user_hash, user_id, viewed_at as confirmed_at
        from changed_instants
        union
        select changed.user_hash, changed.user_id, next_confirmation.viewed_at as confirmed_at
        from changed_instants as changed
        cross join lateral (
            select confirmations.viewed_at
            from stage.page_views as confirmations
            where
                confirmations.step = 'confirmation'
                and confirmations.user_hash = changed.user_hash
                and confirmations.user_id = changed.user_id
                and confirmations.viewed_at > changed.viewed_at
            order by confirmations.viewed_at
            limit 1
        ) as next_confirmation
        where next_confirmation.viewed_at - {{ settings.purchase_window | literal }}::interval <= changed.viewed_at;

        analyze pg_temp.touched_instants;

        insert into pg_temp.standing_purchases
        select purchases.*
        from pg_temp.touched_instants as touched
        inner join cdm.purchases
            on touched.user_hash = hashtextextended(purchases.user_id, 0)
            and touched.user_id = purchases.user_id
            and touched.confirmed_at = purchases.confirmed_at;

        -- Only an instant with a confirmation has a path to read; the others have at most a purchase to take back.
        create temporary table touched_paths on commit drop as
        select
            touched.user_hash,
            touched.user_id,
            touched.confirmed_at,
            (
                select max(confirmations.viewed_at)
                from stage.page_views as confirmations
                where
                    confirmations.step = 'confirmation'
                    and confirmations.user_hash = touched.user_hash
                    and confirmations.user_id = touched.user_id
                    and confirmations.viewed_at < touched.confirmed_at
            ) as previous_at
        from pg_temp.touched_instants as touched
        where exists (
            select from stage.page_views as confirmations
            where
                confirmations.step = 'confirmation'
                and confirmations.user_hash = touched.user_hash
                and confirmations.user_id = touched.user_id
                and confirmations.viewed_at = touched.confirmed_at
        );

        analyze pg_temp.touched_paths;

        create temporary table path_views (like stage.page_views) on commit drop;
        insert into pg_temp.path_views
        select views.*
        from pg_temp.touched_paths as paths
        inner join stage.page_views as views
            on paths.user_hash = views.user_hash
            and paths.user_id = views.user_id
            and views.viewed_at
            >= greatest(paths.previous_at, paths.confirmed_at - {{ settings.purchase_window | literal }}::interval)
            and views.viewed_at <= paths.confirmed_at
        -- At the instant of a confirmation it is the last of the user's views.
        where views.step is not null and views.viewed_at is distinct from paths.previous_at;

        insert into pg_temp.computed_purchases
        {{ purchases_from("pg_temp.path_views") | indent(8) }};
    end if;

    create temporary table changed_purchases on commit drop as
    (
        select -1 as sign, {{ purchase_columns }} from pg_temp.standing_purchases
        except
        select -1 as sign, {{ purchase_columns }} from pg_temp.computed_purchases
    )
    union all
    (
        select 1 as sign, {{ purchase_columns }} from pg_temp.computed_purchases
        except
        select 1 as sign, {{ purchase_columns }} from pg_temp.standing_purchases
    );

    analyze pg_temp.changed_purchases;

    delete from cdm.purchases
    using pg_temp.changed_purchases as changed
    where
        changed.sign = -1
        and hashtextextended(purchases.user_id, 0) = hashtextextended(changed.user_id, 0)
        and purchases.user_id = changed.user_id
        and purchases.confirmed_at = changed.confirmed_at;

    insert into cdm.purchases ({{ purchase_columns }})
    select {{ purchase_columns }}
    from pg_temp.changed_purchases
    where sign = 1
    order by confirmed_at, user_id;

    if rebuild then
        analyze cdm.purchases;
    end if;
end
$$;

comment on table cdm.purchases is
'One row per purchase: a confirmation whose path was paid for and holds a bought product.';
comment on column cdm.purchases.user_id is 'The user, as in stage.page_views.';
comment on column cdm.purchases.first_product_at is 'First product view of the path, within the purchase window.';
comment on column cdm.purchases.first_cart_at is 'First cart view that added a bought product.';
comment on column cdm.purchases.paid_at is 'Last payment view of the path.';
comment on column cdm.purchases.confirmed_at is
'The confirmation; the purchase counts in its hour. All instants are UTC.';
comment on column cdm.purchases.count_products is 'Number of products bought.';
comment on column cdm.purchases.page_urls is
'The page_url of each bought product''s page, in the order of adding; (none) where it is missing.';
comment on column cdm.purchases.referer_url is 'referer_url of the confirmation; (direct) where it is missing.';
comment on column cdm.purchases.utm_campaign is 'utm_campaign of the confirmation; (none) where it is missing.';
comment on function cdm.refresh_purchases(boolean) is
'Brings cdm.purchases up to date with the changed page views, or with all; leaves what changed in pg_temp.';

select cdm.request_rebuild('purchases');
