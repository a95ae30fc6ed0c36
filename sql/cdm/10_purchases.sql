-- cdm.purchases: one row per purchase, a confirmation whose path was paid for and holds a product (docs/meaning.md 3).
-- Reads stage.page_views: of all for a rebuild, else of the paths that pg_temp.changed_views touch.
-- Writes cdm.purchases, and to pg_temp.changed_purchases what came (sign 1) and what went (-1).

{% from "macros.jinja" import comments_on_purchases, for_share_of_users, purchase_columns, view_order -%}
{#- What a purchase is told by, and a view's part in one (sql/cdm/20_explain.sql). Each view looks at what comes after
    it, and windows grow from the user's last view back: one sort, no self-join. At one instant a product comes before a
    cart, that before a payment, that before a confirmation, so instants alone tell what comes first. -#}
{% set step_columns -%}
user_hash,
user_id,
viewed_at,
step,
page_url,
referer_url,
utm_campaign
{%- endset %}
{% macro later_steps(views, columns=step_columns) -%}
select
    {{ columns | indent(4) }},
    row_number() over later_views as number_from_last,
    count(*) filter (where step = 'confirmation') over later_views
    + case when step = 'confirmation' then 1 else 0 end as path_number,
    case
        when step = 'confirmation' then viewed_at
        else min(viewed_at) filter (where step = 'confirmation') over later_views
    end as confirmed_at,
    min(viewed_at) filter (where step = 'product') over later_views as next_product_at,
    min(viewed_at) filter (where step = 'cart') over later_views as next_cart_at
from {{ views }}
window later_views as (
    partition by user_hash, user_id
    order by {{ view_order(backwards=true) | replace("\n", " ") }}
    rows between unbounded preceding and 1 preceding
)
{%- endmacro -%}
{% set is_in_window %}viewed_at >= confirmed_at - {{ settings.purchase_window | literal }}::interval{% endset -%}
{% set last_payment %}max(viewed_at) filter (where step = 'payment'){% endset -%}
{#- A product is bought if the next view of a product or cart is a cart, and a payment of the path comes after that. -#}
{% set is_bought %}step = 'product' and next_cart_at <= paid_at and next_cart_at < coalesce(next_product_at, 'infinity'){% endset -%}
{% macro purchases_from(views, of_users="user_id is not null") -%}
with step_views as (
    {{ later_steps(views ~ "\nwhere step is not null and " ~ of_users) | indent(4) }}
),
path_views as (
    select
        *,
        {{ last_payment }} over path as paid_at
    from step_views
    where {{ is_in_window }}
    window path as (partition by user_hash, user_id, path_number)
),
marked_views as (
    select
        *,
        {{ is_bought }}
        as is_bought
    from path_views
    where paid_at is not null
)
select
    user_id,
    min(viewed_at) filter (where step = 'product') as first_product_at,
    min(next_cart_at) filter (where is_bought) as first_cart_at,
    max(paid_at) as paid_at,
    max(confirmed_at) as confirmed_at,
    count(*) filter (where is_bought) as count_products,
    array_agg(coalesce(page_url, '(none)') order by number_from_last desc) filter (where is_bought) as page_urls,
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
{{ comments_on_purchases("cdm.computed_purchases") }}

{% macro changed_purchases(standing, computed) -%}
select -1 as sign, went.*
from (
    select {{ purchase_columns }} from {{ standing }}
    except
    select {{ purchase_columns }} from {{ computed }}
) as went
union all
select 1 as sign, came.*
from (
    select {{ purchase_columns }} from {{ computed }}
    except
    select {{ purchase_columns }} from {{ standing }}
) as came
{%- endmacro -%}
create or replace function cdm.changed_purchases(first_hash bigint, last_hash bigint)
returns table (
    sign integer,
    user_id text,
    first_product_at timestamp,
    first_cart_at timestamp,
    paid_at timestamp,
    confirmed_at timestamp,
    count_products bigint,
    page_urls text[],
    referer_url text,
    utm_campaign text
)
{{ for_share_of_users }} as $$
#variable_conflict use_column
begin
    return query
    with expected as materialized (
        {{ purchases_from("stage.page_views", "user_id is not null and user_hash between first_hash and last_hash") | indent(8) }}
    ),
    standing as materialized (
        select *
        from cdm.purchases
        where hashtextextended(user_id, 0) between first_hash and last_hash
    )
    {{ changed_purchases("standing", "expected") | indent(4) }};
end
$$;

comment on function cdm.changed_purchases(bigint, bigint) is
'What comes (sign 1) and goes (-1) of the purchases of users of these hashes.';

create or replace function cdm.refresh_purchases(rebuild boolean) returns void
language plpgsql as $$
begin
    if rebuild then
        execute
            'create temporary table changed_purchases on commit drop as '
            || stage.over_all_users('cdm.changed_purchases');
    else
        create temporary table changed_purchases on commit drop as
        with changed_instants as (
            select distinct user_hash, user_id, viewed_at
            from pg_temp.changed_views
            where user_id is not null and step is not null
        ),
        -- A view bears on the purchase at its own instant, and on the user's next confirmation within the window.
        touched_instants as (
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
            where next_confirmation.viewed_at - {{ settings.purchase_window | literal }}::interval <= changed.viewed_at
        ),
        standing_purchases as (
            select standing.*
            from touched_instants as touched
            cross join lateral (
                select *
                from cdm.purchases
                where
                    hashtextextended(purchases.user_id, 0) = touched.user_hash
                    and purchases.user_id = touched.user_id
                    and purchases.confirmed_at = touched.confirmed_at
                offset 0
            ) as standing
        ),
        -- Only an instant with a confirmation has a path to read; the others have at most a purchase to take back.
        touched_paths as (
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
            from touched_instants as touched
            cross join lateral (
                select
                from stage.page_views as confirmations
                where
                    confirmations.step = 'confirmation'
                    and confirmations.user_hash = touched.user_hash
                    and confirmations.user_id = touched.user_id
                    and confirmations.viewed_at = touched.confirmed_at
                limit 1
            ) as confirmation
        ),
        touched_views as (
            select views.*
            from touched_paths as paths
            cross join lateral (
                select *
                from stage.page_views
                where
                    page_views.step is not null
                    and page_views.user_hash = paths.user_hash
                    and page_views.user_id = paths.user_id
                    and page_views.viewed_at >= greatest(
                        paths.previous_at, paths.confirmed_at - {{ settings.purchase_window | literal }}::interval
                    )
                    and page_views.viewed_at <= paths.confirmed_at
                    -- At the instant of a confirmation it is the last of the user's views.
                    and page_views.viewed_at is distinct from paths.previous_at
                offset 0
            ) as views
        ),
        touched_purchases as (
            {{ purchases_from("touched_views") | indent(12) }}
        )
        {{ changed_purchases("standing_purchases", "touched_purchases") | indent(8) }};
    end if;

    analyze pg_temp.changed_purchases (sign);

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
comment on sequence cdm.purchases_id_seq is 'Numbers of the rows of cdm.purchases.';
comment on column cdm.purchases.id is 'A number of the row, without a meaning.';
{{ comments_on_purchases("cdm.purchases") }}
comment on function cdm.refresh_purchases(boolean) is
'Brings cdm.purchases up to date with the changed page views, or with all; leaves what changed in pg_temp.';

select cdm.request_rebuild('purchases');
