-- checks.prove: the marts are what a full build would make of the raw events that were taken in (docs/proof.md).
-- Reads stage.parsed_events, what detached loads brought to stage.page_views, and the marts. Writes temporary tables
-- alone: what should stand to pg_temp.expected_*, rows that differ to pg_temp.differing_*.
-- What each mart is stands in its own file; here it is asked of other tables.

{% from "macros.jinja" import page_view_columns, purchase_columns -%}
{% from "stage/30_page_views.sql" import delivered_once, same_view -%}
{% from "cdm/10_purchases.sql" import purchases_from -%}
{% from "cdm/20_events_hours.sql" import hours_of_views -%}
{% from "cdm/20_page_totals.sql" import pages_of -%}
{% from "cdm/20_products_hours.sql" import hours_of_purchases -%}
{% from "cdm/20_sessions.sql" import session_columns, sessions_of -%}
{% from "cdm/20_source_totals.sql" import totals_of_sources -%}
{% from "cdm/20_sources.sql" import share_users -%}
{% from "cdm/20_top_pages.sql" import top_pages_of -%}
{% from "cdm/20_user_days.sql" import sums_of_days, user_day_columns, views_by_day -%}
{% set taken_in = "parsed_events.batch_id in (select id from stage.loads where refreshed_at is not null)" -%}
{#- Whether a user is to be proven: where there is no last hash, all are, and the views without a user. -#}
{% macro in_sample(user_id) -%}coalesce(hashtextextended({{ user_id }}, seed) <= last_hash, last_hash is null)
{%- endmacro -%}
{#- Compares a mart with pg_temp.expected_<mart>: rows that one has oftener than the other. -#}
{% macro compare(mart, columns, standing, key) -%}create temporary table differing_{{ mart }} on commit drop as
select
    case when differing.excess > 0 then 'stands' else 'should stand' end as side,
    {{ columns | indent(4) }}
from (
    select
        {{ columns | indent(8) }},
        sum(sign) as excess
    from (
        select
            1 as sign,
            {{ columns | indent(12) }}
        from {{ standing }}
        union all
        select
            -1 as sign,
            {{ columns | indent(12) }}
        from pg_temp.expected_{{ mart }}
    ) as signed_rows
    group by {{ columns | indent(8) }}
    having sum(sign) != 0
) as differing
cross join lateral generate_series(1, abs(differing.excess))
order by {{ key }}, side desc;
get diagnostics rows_differing = row_count;
mart := '{{ mart }}';
return next;
{%- endmacro -%}
create or replace function checks.hold_page_views() returns void
language plpgsql as $$
begin
    if current_setting('transaction_isolation') not in ('repeatable read', 'serializable') then
        raise exception 'a proof needs all its statements to see one state of the warehouse'
        using hint = 'Begin the transaction with: begin isolation level repeatable read';
    end if;

    -- In the order in which an apply takes them, which may change one before it empties the other.
    lock table stage.parsed_events, stage.page_views in access share mode;

    -- The catalog is asked as the transaction sees it, the function as it is now. A table that was emptied in between
    -- would look empty, whatever was in it at the transaction's beginning.
    if pg_relation_filenode('stage.page_views') is distinct from (
        select relfilenode from pg_class where oid = 'stage.page_views'::regclass
    ) then
        raise exception 'stage.page_views was built anew after this transaction had begun'
        using hint = 'Begin another one.';
    end if;
end
$$;

comment on function checks.hold_page_views() is
'Has whoever would build stage.page_views anew or change what page views are wait until the transaction ends.';

create or replace function checks.prove(
    sample_users bigint default null,
    seed bigint default 0,
    out mart text,
    out rows_compared bigint,
    out users_compared bigint,
    out rows_detached bigint,
    out rows_differing bigint
)
returns setof record
language plpgsql
set client_min_messages = warning
-- How many rows differ is for nobody to know before: not to be taken for a reason to compile.
set jit = off as $$
declare
    last_hash bigint;
    end_of_detached bigint;
begin
    perform checks.hold_page_views();
    drop table if exists
    pg_temp.detached_views,
    pg_temp.expected_page_views, pg_temp.differing_page_views,
    pg_temp.expected_purchases, pg_temp.differing_purchases,
    pg_temp.expected_user_days, pg_temp.differing_user_days,
    pg_temp.expected_sessions, pg_temp.differing_sessions,
    pg_temp.expected_events_hours, pg_temp.differing_events_hours,
    pg_temp.expected_products_hours, pg_temp.differing_products_hours,
    pg_temp.expected_page_totals, pg_temp.differing_page_totals,
    pg_temp.expected_top_pages, pg_temp.differing_top_pages,
    pg_temp.expected_sources, pg_temp.differing_sources;

    -- The users of the least hashes. One whom no mart knows, though they should, is in by their own hash.
    if sample_users is not null then
        select case when count(*) < sample_users then 9223372036854775807 else max(hashes.user_hash) end
        into last_hash
        from (
            select distinct hashtextextended(user_days.user_id, seed) as user_hash
            from cdm.user_days
            order by user_hash
            limit sample_users
        ) as hashes;
    end if;

    raise info 'page views from the raw events';
    create temporary table expected_page_views on commit drop as
    select {{ page_view_columns }}
    from (
        {{ delivered_once(taken_in ~ " and " ~ in_sample("parsed_events.user_id")) | indent(8) }}
        offset 0
    ) as delivered
    where viewed_at is not null;

    -- What detached loads brought can't be read again: it stands for the deliveries of the same views that came later.
    select max(partitions.end_load) into end_of_detached
    from stage.partitions
    where partitions.detached_at is not null;
    create temporary table detached_views on commit drop as
    select {{ page_view_columns }}
    from stage.page_views
    where page_views.batch_id < end_of_detached and {{ in_sample("page_views.user_id") }};
    get diagnostics rows_detached = row_count;
    analyze pg_temp.expected_page_views, pg_temp.detached_views;
    if rows_detached > 0 then
        delete from pg_temp.expected_page_views
        using pg_temp.detached_views
        where
            {{ same_view("expected_page_views", "detached_views") | indent(12) }};
        insert into pg_temp.expected_page_views
        select {{ page_view_columns }}
        from pg_temp.detached_views;
    end if;

    raise info 'page views';
    select count(*), count(distinct views.user_id) into rows_compared, users_compared
    from pg_temp.expected_page_views as views;
    {{ compare(
        "page_views", page_view_columns, "stage.page_views where " ~ in_sample("page_views.user_id"),
        key="user_id, viewed_at, event_id, batch_id, row_id"
    ) | indent(4) }}
    users_compared := null;
    rows_detached := null;

    raise info 'purchases';
    create temporary table expected_purchases on commit drop as
    {{ purchases_from("pg_temp.expected_page_views") | indent(4) }};
    get diagnostics rows_compared = row_count;
    {{ compare(
        "purchases", purchase_columns, "cdm.purchases where " ~ in_sample("purchases.user_id"),
        key="user_id, confirmed_at"
    ) | indent(4) }}

    raise info 'users'' days';
    create temporary table expected_user_days on commit drop as
    select
        {{ sums_of_days | indent(8) }}
    from (
        {{ views_by_day("pg_temp.expected_page_views", 1) | indent(8) }}
    ) as views
    group by day, user_id, referer_url, utm_campaign;
    get diagnostics rows_compared = row_count;
    {{ compare(
        "user_days", user_day_columns, "cdm.user_days where " ~ in_sample("user_days.user_id"),
        key="user_id, day, referer_url, utm_campaign"
    ) | indent(4) }}

    raise info 'sessions';
    create temporary table expected_sessions on commit drop as
    {{ sessions_of("pg_temp.expected_page_views") | indent(4) }};
    get diagnostics rows_compared = row_count;
    {{ compare(
        "sessions", session_columns, "cdm.sessions where " ~ in_sample("sessions.user_id"),
        key="user_id, started_at"
    ) | indent(4) }}

    -- The others add up what many users do.
    if sample_users is not null then
        return;
    end if;

    raise info 'hours, pages and sources';
    create temporary table expected_events_hours on commit drop as
    {{ hours_of_views("pg_temp.expected_page_views", "count(*)") | indent(4) }};
    get diagnostics rows_compared = row_count;
    {{ compare("events_hours", "hour_timestamp, count_events, event_type", "cdm.events_hours",
        key="hour_timestamp, event_type") | indent(4) }}

    create temporary table expected_products_hours on commit drop as
    {{ hours_of_purchases("pg_temp.expected_purchases", "sum(count_products)") | indent(4) }}
    group by 1;
    get diagnostics rows_compared = row_count;
    {{ compare("products_hours", "hour_timestamp, count_products", "cdm.products_hours", key="hour_timestamp")
        | indent(4) }}

    create temporary table expected_page_totals on commit drop as
    {{ pages_of("pg_temp.expected_purchases as purchases", "count(*)") | indent(4) }}
    group by 1;
    get diagnostics rows_compared = row_count;
    {{ compare("page_totals", "page_url, count_purchases", "cdm.page_totals", key="page_url") | indent(4) }}

    -- These two are views that an apply may put others in the place of, whose readers then wait for whoever reads them:
    -- hence last.
    create temporary table expected_top_pages on commit drop as
    {{ top_pages_of("pg_temp.expected_page_totals") | indent(4) }};
    get diagnostics rows_compared = row_count;
    {{ compare("top_pages", "id, page_url, count_purchases", "cdm.top_pages", key="id") | indent(4) }}

    create temporary table expected_sources on commit drop as
    select
        referer_url,
        utm_campaign,
        count_users,
        count_purchases,
        {{ share_users }} as share_users
    from (
        {{ totals_of_sources("pg_temp.expected_user_days", "pg_temp.expected_purchases") | indent(8) }}
    ) as totals;
    get diagnostics rows_compared = row_count;
    {{ compare("sources", "referer_url, utm_campaign, count_users, count_purchases, share_users", "cdm.sources",
        key="referer_url, utm_campaign") | indent(4) }}
end
$$;

comment on function checks.prove(bigint, bigint) is
'Compares the marts, or so many users at random, with a full build; leaves what differs in pg_temp.differing_<mart>.';
