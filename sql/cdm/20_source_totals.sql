{% from "macros.jinja" import user_source_hashes -%}
-- cdm.source_totals: one row per source, a pair of referer and campaign that a user's page view carries.
-- Reads pg_temp.changed_user_days and pg_temp.changed_purchases with cdm.user_days as it now stands, or cdm.user_days
-- and cdm.purchases for a rebuild. Writes cdm.source_totals.

{% macro users_of_sources(user_days) -%}
select referer_url, utm_campaign, 1 as count_users, 0 as count_purchases
from (select distinct user_id, referer_url, utm_campaign from {{ user_days }}) as users
{%- endmacro -%}
{% macro purchases_of_sources(purchases, count) -%}select referer_url, utm_campaign, 0 as count_users, {{ count }} as count_purchases
from {{ purchases }}
{%- endmacro -%}
{% macro totals_of_sources(user_days, purchases) -%}
select
    referer_url,
    utm_campaign,
    sum(count_users)::bigint as count_users,
    sum(count_purchases)::bigint as count_purchases
from (
    {{ users_of_sources(user_days) | indent(4) }}
    union all
    {{ purchases_of_sources(purchases, 1) | indent(4) }}
) as counts
group by referer_url, utm_campaign
{%- endmacro -%}
create or replace function cdm.refresh_source_totals(rebuild boolean) returns void
language plpgsql as $$
begin
    with changed_users as (
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
            ) as is_source
        from (
            select distinct user_id, referer_url, utm_campaign, is_known_source
            from pg_temp.changed_user_days
            where not rebuild
        ) as changes
    ),
    counts as (
        -- A user counts once for a source, on however many days.
        select referer_url, utm_campaign, is_source::int - is_known_source::int as count_users, 0 as count_purchases
        from changed_users
        where is_source != is_known_source
        union all
        {{ users_of_sources("cdm.user_days where rebuild") | indent(8) }}
        union all
        {{ purchases_of_sources("pg_temp.changed_purchases", "sign") | indent(8) }}
        where not rebuild
        union all
        {{ purchases_of_sources("cdm.purchases", 1) | indent(8) }}
        where rebuild
        union all
        select referer_url, utm_campaign, -count_users, -count_purchases
        from cdm.source_totals
        where rebuild
    ),
    changes as (
        select
            referer_url,
            utm_campaign,
            sum(count_users)::bigint as count_users,
            sum(count_purchases)::bigint as count_purchases
        from counts
        group by referer_url, utm_campaign
        having sum(count_users) != 0 or sum(count_purchases) != 0
        order by referer_url, utm_campaign
    )
    merge into cdm.source_totals as totals
    using changes
        on hashtextextended(changes.referer_url, 0) = hashtextextended(totals.referer_url, 0)
        and hashtextextended(changes.utm_campaign, 0) = hashtextextended(totals.utm_campaign, 0)
        and changes.referer_url = totals.referer_url
        and changes.utm_campaign = totals.utm_campaign
    when matched and totals.count_users + changes.count_users = 0 then
        delete
    when matched then
        update set
            count_users = totals.count_users + changes.count_users,
            count_purchases = totals.count_purchases + changes.count_purchases
    when not matched then
        insert (referer_url, utm_campaign, count_users, count_purchases)
        values (changes.referer_url, changes.utm_campaign, changes.count_users, changes.count_purchases);
end
$$;

comment on table cdm.source_totals is 'One row per source: what cdm.sources shows with shares.';
comment on sequence cdm.source_totals_id_seq is 'Numbers of the rows of cdm.source_totals.';
comment on column cdm.source_totals.id is 'A number of the row, without a meaning.';
comment on column cdm.source_totals.referer_url is 'referer_url; (direct) where it is missing.';
comment on column cdm.source_totals.utm_campaign is 'utm_campaign; (none) where it is missing.';
comment on column cdm.source_totals.count_users is 'Number of users with a page view of this source.';
comment on column cdm.source_totals.count_purchases is 'Number of purchases whose confirmation carries this source.';
comment on function cdm.refresh_source_totals(boolean) is
'Brings cdm.source_totals up to date with the changed users and purchases, or with all.';

select cdm.request_rebuild('purchases');
