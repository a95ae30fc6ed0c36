{% from "macros.jinja" import comments_on_user_days, for_share_of_users, user_source_hashes -%}
-- cdm.user_days: one row per user, day and source (referer and campaign) that the user's page views of that day carry.
-- Reads pg_temp.changed_views, or stage.page_views for a rebuild. Writes cdm.user_days, and to
-- pg_temp.changed_user_days what is added to it, with whether the user had come by the source before, on whatever day.

{% macro views_by_day(views, sign) -%}
select
    viewed_at::date as day,
    user_id,
    coalesce(referer_url, '(direct)') as referer_url,
    coalesce(utm_campaign, '(none)') as utm_campaign,
    {{ sign }} as count_views,
    case when step = 'product' then {{ sign }} else 0 end as count_product_views,
    case when step = 'cart' then {{ sign }} else 0 end as count_cart_views,
    case when step = 'payment' then {{ sign }} else 0 end as count_payment_views,
    case when step = 'confirmation' then {{ sign }} else 0 end as count_confirmation_views
from {{ views }}
where user_id is not null
{%- endmacro -%}
{% set user_day_columns -%}
day, user_id, referer_url, utm_campaign,
count_views, count_product_views, count_cart_views, count_payment_views, count_confirmation_views
{%- endset -%}
{% set sums_of_days -%}
day,
user_id,
referer_url,
utm_campaign,
sum(count_views)::bigint as count_views,
sum(count_product_views)::bigint as count_product_views,
sum(count_cart_views)::bigint as count_cart_views,
sum(count_payment_views)::bigint as count_payment_views,
sum(count_confirmation_views)::bigint as count_confirmation_views
{%- endset -%}
create or replace function cdm.changed_user_days(first_hash bigint, last_hash bigint)
returns table (
    day date,
    user_id text,
    referer_url text,
    utm_campaign text,
    count_views bigint,
    count_product_views bigint,
    count_cart_views bigint,
    count_payment_views bigint,
    count_confirmation_views bigint
)
{{ for_share_of_users }}
-- Some 300 bytes for each user and day are kept at hand; to sort all page views instead takes twice the time.
set hash_mem_multiplier = 4 as $$
#variable_conflict use_column
begin
    return query
    select
        {{ sums_of_days | indent(8) }}
    from (
        {{ views_by_day("stage.page_views", 1) | indent(8) }}
        and user_hash between first_hash and last_hash
        union all
        -- What stands is taken back, so that only what differs is written.
        select
            day,
            user_id,
            referer_url,
            utm_campaign,
            -count_views,
            -count_product_views,
            -count_cart_views,
            -count_payment_views,
            -count_confirmation_views
        from cdm.user_days
        where hashtextextended(user_id, 0) between first_hash and last_hash
    ) as signed_views
    group by day, user_id, referer_url, utm_campaign
    having (
        sum(count_views),
        sum(count_product_views),
        sum(count_cart_views),
        sum(count_payment_views),
        sum(count_confirmation_views)
    ) != (0, 0, 0, 0, 0);
end
$$;

comment on function cdm.changed_user_days(bigint, bigint) is
'What is to be added to the days of users of these hashes, by all their page views.';

create or replace function cdm.refresh_user_days(rebuild boolean) returns void
language plpgsql as $$
begin
    if rebuild then
        execute
            'create temporary table changed_user_days on commit drop as '
            'select *, null::boolean as is_known_source from ('
            || stage.over_all_users('cdm.changed_user_days') || ') as changes';
    else
        create temporary table changed_user_days on commit drop as
        select
            changes.*,
            exists (
                select
                from cdm.user_days as days
                where
                    {{ user_source_hashes("days") }} = {{ user_source_hashes("changes") }}
                    and days.user_id = changes.user_id
                    and days.referer_url = changes.referer_url
                    and days.utm_campaign = changes.utm_campaign
                offset 0
            ) as is_known_source
        from (
            select
                {{ sums_of_days | indent(16) }}
            from (
                {{ views_by_day("pg_temp.changed_views", "sign") | indent(16) }}
            ) as signed_views
            group by day, user_id, referer_url, utm_campaign
        ) as changes;
    end if;

    analyze pg_temp.changed_user_days (is_known_source);

    merge into cdm.user_days as days
    using pg_temp.changed_user_days as changes
        on {{ user_source_hashes("changes") }} = {{ user_source_hashes("days") }}
        and changes.day = days.day
        and changes.user_id = days.user_id
        and changes.referer_url = days.referer_url
        and changes.utm_campaign = days.utm_campaign
    when matched and days.count_views + changes.count_views = 0 then
        delete
    when matched then
        update set
            count_views = days.count_views + changes.count_views,
            count_product_views = days.count_product_views + changes.count_product_views,
            count_cart_views = days.count_cart_views + changes.count_cart_views,
            count_payment_views = days.count_payment_views + changes.count_payment_views,
            count_confirmation_views = days.count_confirmation_views + changes.count_confirmation_views
    when not matched then
        insert (
            day,
            user_id,
            referer_url,
            utm_campaign,
            count_views,
            count_product_views,
            count_cart_views,
            count_payment_views,
            count_confirmation_views
        )
        values (
            changes.day,
            changes.user_id,
            changes.referer_url,
            changes.utm_campaign,
            changes.count_views,
            changes.count_product_views,
            changes.count_cart_views,
            changes.count_payment_views,
            changes.count_confirmation_views
        );
end
$$;

comment on table cdm.user_days is
'One row per user, day and source: how many page views of the user carry that source on that day.';
{{ comments_on_user_days("cdm.user_days") }}
comment on function cdm.refresh_user_days(boolean) is
'Brings cdm.user_days up to date with the changed page views, or with all; leaves what changed in pg_temp.';

select cdm.request_rebuild('page_views');
