-- Checks of single rows, as 40_checks.sql has those of what rows add up to: one view a check, its rows the failures.

{% from "macros.jinja" import user_hash -%}
{% from "stage/30_page_views.sql" import same_view -%}
{% set taken_in = "(select loads.id from stage.loads where loads.refreshed_at is not null)" -%}
{% macro failing_view(problem, row) -%}
select
    '{{ problem }}' as problem,
    {{ row }}.batch_id,
    {{ row }}.row_id,
    {{ row }}.user_id,
    {{ row }}.viewed_at,
    {{ row }}.event_id
{%- endmacro -%}
create or replace view checks.page_views as
with detached as (
    select coalesce(max(partitions.end_load), 0) as end_load
    from stage.partitions
    where partitions.detached_at is not null
),
-- Most rows stand themselves, so that few are read as page views.
absent_rows as materialized (
    select
        parsed_events.*,
        {{ user_hash("parsed_events") }} as user_hash
    from stage.parsed_events
    where
        parsed_events.batch_id in {{ taken_in }}
        and not exists (
            select
            from stage.page_views
            where page_views.batch_id = parsed_events.batch_id and page_views.row_id = parsed_events.row_id
        )
)
{{ failing_view("missing", "absent") }}
from absent_rows as absent
where
    absent.viewed_at is not null
    and not exists (
        select
        from stage.page_views
        where
            {{ same_view("page_views", "absent") | indent(12) }}
            and (page_views.batch_id, page_views.row_id) < (absent.batch_id, absent.row_id)
    )
union all
{{ failing_view("of no row of the raw layer", "page_views") }}
from stage.page_views
where
    page_views.batch_id >= (select detached.end_load from detached)
    and not exists (
        select
        from stage.events
        where events.batch_id = page_views.batch_id and events.id = page_views.row_id
    )
union all
{{ failing_view("of a load that is not taken in", "page_views") }}
from stage.page_views
where page_views.batch_id not in {{ taken_in }};

comment on view checks.page_views is
'Every page view of the loads that are marked as taken in stands, itself or by an earlier delivery, and no other does.';
comment on column checks.page_views.problem is
'missing from stage.page_views, or there and of no row of the raw layer, or of a load that is not taken in.';
comment on column checks.page_views.batch_id is 'The load: stage.loads.id.';
comment on column checks.page_views.row_id is 'stage.events.id.';
comment on column checks.page_views.user_id is 'The user, as in stage.page_views. Personal data.';
comment on column checks.page_views.viewed_at is 'The instant in UTC.';
comment on column checks.page_views.event_id is 'event_id; null where it is missing.';

{% macro duplicates(relation, key) -%}
select
    '{{ relation }}' as relation,
    jsonb_build_array({{ key }}) as row_key,
    count(*) as count_rows
from {{ relation }}
group by {{ key }}
having count(*) > 1
{%- endmacro -%}
create or replace view checks.duplicates as
{{ duplicates("stage.page_views", "batch_id, row_id") }}
union all
{{ duplicates("cdm.purchases", "user_id, confirmed_at") }}
union all
{{ duplicates("cdm.events_hours", "hour_timestamp, event_type") }}
union all
{{ duplicates("cdm.products_hours", "hour_timestamp") }}
union all
{{ duplicates("cdm.user_days", "user_id, day, referer_url, utm_campaign") }}
union all
{{ duplicates("cdm.sessions", "user_id, started_at") }}
union all
{{ duplicates("cdm.page_totals", "page_url") }}
union all
{{ duplicates("cdm.source_totals", "referer_url, utm_campaign") }};

comment on view checks.duplicates is 'No table has two rows for what should be one.';
comment on column checks.duplicates.relation is 'The table.';
comment on column checks.duplicates.row_key is 'What the rows share and no two rows may. May hold personal data.';
comment on column checks.duplicates.count_rows is 'Number of rows that should be one.';

create or replace view checks.impossible_values as
select
    'cdm.purchases' as relation,
    jsonb_build_array(user_id, confirmed_at) as row_key,
    problems.problem
from cdm.purchases
cross join
    lateral (
        values
        ('no products', count_products < 1),
        ('not as many pages as products', count_products != cardinality(page_urls)),
        ('a cart before any product', first_cart_at < first_product_at),
        ('paid before there was a cart', paid_at < first_cart_at),
        ('confirmed before it was paid', confirmed_at < paid_at),
        (
            'longer than the purchase window',
            first_product_at < confirmed_at - {{ settings.purchase_window | literal }}::interval
        ),
        ('an empty text', '' in (user_id, referer_url, utm_campaign) or '' = any(page_urls))
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.events_hours' as relation,
    jsonb_build_array(hour_timestamp, event_type) as row_key,
    problems.problem
from cdm.events_hours
cross join
    lateral (
        values
        ('no events', count_events < 1),
        ('not the start of an hour', hour_timestamp != date_trunc('hour', hour_timestamp)),
        ('an empty text', event_type = '')
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.products_hours' as relation,
    jsonb_build_array(hour_timestamp) as row_key,
    problems.problem
from cdm.products_hours
cross join
    lateral (
        values
        ('no products', count_products < 1),
        ('not the start of an hour', hour_timestamp != date_trunc('hour', hour_timestamp))
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.page_totals' as relation,
    jsonb_build_array(page_url) as row_key,
    problems.problem
from cdm.page_totals
cross join
    lateral (
        values
        ('no purchases', count_purchases < 1),
        ('an empty text', page_url = '')
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.sources' as relation,
    jsonb_build_array(referer_url, utm_campaign) as row_key,
    problems.problem
from cdm.sources
cross join
    lateral (
        values
        ('no users', count_users < 1),
        ('less than no purchases', count_purchases < 0),
        ('no share', share_users is null or not (share_users > 0 and share_users <= 1)),
        ('an empty text', '' in (referer_url, utm_campaign))
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.user_days' as relation,
    jsonb_build_array(user_id, day, referer_url, utm_campaign) as row_key,
    problems.problem
from cdm.user_days
cross join
    lateral (
        values
        ('no views', count_views < 1),
        (
            'less than no views of a step',
            least(count_product_views, count_cart_views, count_payment_views, count_confirmation_views) < 0
        ),
        (
            'more views of steps than views',
            count_product_views + count_cart_views + count_payment_views + count_confirmation_views > count_views
        ),
        ('an empty text', '' in (user_id, referer_url, utm_campaign))
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'cdm.sessions' as relation,
    jsonb_build_array(user_id, started_at) as row_key,
    problems.problem
from cdm.sessions
cross join
    lateral (
        values
        ('no views', count_views < 1),
        ('an end before its start', ended_at < started_at),
        ('an empty text', '' in (user_id, entry_page_url, exit_page_url, referer_url, utm_campaign))
    ) as problems (problem, is_so)
where problems.is_so
union all
select
    'stage.loads' as relation,
    jsonb_build_array(id) as row_key,
    problems.problem
from stage.loads
cross join
    lateral (
        values
        ('less than no rows or rejects', least(rows_loaded, rows_rejected, events_passed) < 0),
        ('a failed load with rows, or taken in', status = 'failed' and (rows_loaded != 0 or refreshed_at is not null))
    ) as problems (problem, is_so)
where problems.is_so;

comment on view checks.impossible_values is 'No row holds what none can: counts of nothing, instants out of order.';
comment on column checks.impossible_values.relation is 'The table or view.';
comment on column checks.impossible_values.row_key is 'The row''s key. May hold personal data.';
comment on column checks.impossible_values.problem is 'What can''t be.';
