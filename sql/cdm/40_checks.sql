-- One view a check: its rows are the failures. `clickmart check` runs every view of the schema checks.
-- They compute anew what the refreshes have kept up to date, each mart from the table below it.

{% from "macros.jinja" import comments_on_purchases, comments_on_sessions, comments_on_user_days, purchase_columns -%}
{% from "cdm/20_events_hours.sql" import hours_of_views -%}
{% from "cdm/20_page_totals.sql" import pages_of -%}
{% from "cdm/20_products_hours.sql" import hours_of_purchases -%}
{% from "cdm/20_sessions.sql" import session_columns, sessions_of -%}
{% from "cdm/20_source_totals.sql" import totals_of_sources -%}
{% from "cdm/20_top_pages.sql" import top_pages_of -%}
{% from "cdm/20_user_days.sql" import sums_of_days, user_day_columns, views_by_day -%}
{#- The rows that should stand and do not, and those that should not. -#}
{% macro differing_from(standing) -%}
(
    select
        'missing' as problem,
        missing.*
    from (
        select * from expected
        except all
        select * from {{ standing }}
    ) as missing
)
union all
(
    select
        'not in the page views' as problem,
        surplus.*
    from (
        select * from {{ standing }}
        except all
        select * from expected
    ) as surplus
)
{%- endmacro -%}
create or replace view checks.events_hours as
with expected as (
    {{ hours_of_views("stage.page_views", "count(*)") | indent(4) }}
)
select
    hour_timestamp,
    event_type,
    marts.count_events,
    expected.count_events as expected_events
from expected
full join cdm.events_hours as marts using (hour_timestamp, event_type)
where marts.count_events is distinct from expected.count_events;

comment on view checks.events_hours is 'Every hour''s events are the page views of that hour and type.';
comment on column checks.events_hours.hour_timestamp is 'Start of the hour, UTC.';
comment on column checks.events_hours.event_type is 'Page type.';
comment on column checks.events_hours.count_events is 'Number in cdm.events_hours; null where the row is missing.';
comment on column checks.events_hours.expected_events is 'Number of page views; null where there are none.';

create or replace view checks.purchases as
with computed_purchases as materialized (
    select {{ purchase_columns }} from cdm.computed_purchases
)
(
    select
        'missing' as problem,
        computed.*
    from (
        select {{ purchase_columns }} from computed_purchases
        except
        select {{ purchase_columns }} from cdm.purchases
    ) as computed
)
union all
(
    select
        'not a purchase' as problem,
        standing.*
    from (
        select {{ purchase_columns }} from cdm.purchases
        except
        select {{ purchase_columns }} from computed_purchases
    ) as standing
);

comment on view checks.purchases is 'cdm.purchases holds the purchases that the page views make, and no other.';
comment on column checks.purchases.problem is 'missing from cdm.purchases, or not a purchase and there all the same.';
{{ comments_on_purchases("checks.purchases") }}

create or replace view checks.products_hours as
with expected as (
    {{ hours_of_purchases("cdm.purchases", "sum(count_products)") | indent(4) }}
    group by 1
)
select
    hour_timestamp,
    marts.count_products,
    expected.count_products as expected_products
from expected
full join cdm.products_hours as marts using (hour_timestamp)
where marts.count_products is distinct from expected.count_products;

comment on view checks.products_hours is 'Every hour''s products are those of the purchases confirmed in it.';
comment on column checks.products_hours.hour_timestamp is 'Start of the hour, UTC.';
comment on column checks.products_hours.count_products is
'Number in cdm.products_hours; null where the row is missing.';
comment on column checks.products_hours.expected_products is
'Number of products of the purchases; null where there are none.';

create or replace view checks.page_totals as
with expected as (
    {{ pages_of("cdm.purchases", "count(*)") | indent(4) }}
    group by pages.page_url
)
select
    page_url,
    marts.count_purchases,
    expected.count_purchases as expected_purchases
from expected
full join cdm.page_totals as marts using (page_url)
where marts.count_purchases is distinct from expected.count_purchases;

comment on view checks.page_totals is 'Every page''s purchases are those with a product added from it.';
comment on column checks.page_totals.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column checks.page_totals.count_purchases is 'Number in cdm.page_totals; null where the row is missing.';
comment on column checks.page_totals.expected_purchases is 'Number of purchases; null where there are none.';

create or replace view checks.top_pages as
with page_totals as (
    {{ pages_of("cdm.purchases", "count(*)") | indent(4) }}
    group by pages.page_url
),
expected as (
    {{ top_pages_of("page_totals") | indent(4) }}
)
select
    id,
    marts.page_url,
    expected.page_url as expected_page_url,
    marts.count_purchases,
    expected.count_purchases as expected_purchases
from expected
full join cdm.top_pages as marts using (id)
where (marts.page_url, marts.count_purchases) is distinct from (expected.page_url, expected.count_purchases);

comment on view checks.top_pages is
'cdm.top_pages ranks the pages of the purchases, ties byte by byte, without a gap and as many as the setting says.';
comment on column checks.top_pages.id is 'The rank, from 1.';
comment on column checks.top_pages.page_url is 'Page that cdm.top_pages has there; null where the row is missing.';
comment on column checks.top_pages.expected_page_url is 'Page that the purchases put there; null where there is none.';
comment on column checks.top_pages.count_purchases is 'Number in cdm.top_pages.';
comment on column checks.top_pages.expected_purchases is 'Number of purchases.';

create or replace view checks.user_days as
with expected as (
    select
        {{ sums_of_days | indent(8) }}
    from (
        {{ views_by_day("stage.page_views", 1) | indent(8) }}
    ) as views
    group by day, user_id, referer_url, utm_campaign
)
{{ differing_from("cdm.user_days") }};

comment on view checks.user_days is 'Every user''s views by day and source are those of the page views.';
comment on column checks.user_days.problem is
'missing from cdm.user_days, or not in the page views and there all the same.';
{{ comments_on_user_days("checks.user_days") }}

create or replace view checks.sessions as
with expected as materialized (
    {{ sessions_of("stage.page_views") | indent(4) }}
),
standing as (
    select {{ session_columns }}
    from cdm.sessions
)
{{ differing_from("standing") }};

comment on view checks.sessions is 'Every session is what the page views of its user make it.';
comment on column checks.sessions.problem is
'missing from cdm.sessions, or not in the page views and there all the same.';
{{ comments_on_sessions("checks.sessions") }}

create or replace view checks.sources as
with expected as (
    select
        referer_url,
        utm_campaign,
        nullif(count_users, 0) as count_users,
        count_purchases
    from (
        {{ totals_of_sources("cdm.user_days", "cdm.purchases") | indent(8) }}
    ) as totals
)
select
    referer_url,
    utm_campaign,
    marts.count_users,
    expected.count_users as expected_users,
    marts.count_purchases,
    coalesce(expected.count_purchases, 0) as expected_purchases
from expected
full join cdm.sources as marts using (referer_url, utm_campaign)
where
    marts.count_users is distinct from expected.count_users
    or marts.count_purchases is distinct from coalesce(expected.count_purchases, 0);

comment on view checks.sources is
'Every source''s users and purchases are those of the users'' days and the purchases.';
comment on column checks.sources.referer_url is 'referer_url; (direct) where it is missing.';
comment on column checks.sources.utm_campaign is 'utm_campaign; (none) where it is missing.';
comment on column checks.sources.count_users is 'Number in cdm.sources; null where the row is missing.';
comment on column checks.sources.expected_users is
'Number of users with a day of this source; null where there are none.';
comment on column checks.sources.count_purchases is 'Number in cdm.sources; null where the row is missing.';
comment on column checks.sources.expected_purchases is 'Number of purchases.';

create or replace view checks.shares as
select sum(share_users) as sum_of_shares
from cdm.sources
having abs(sum(share_users) - 1) > 1e-9;

comment on view checks.shares is 'The shares of all sources are 1 together.';
comment on column checks.shares.sum_of_shares is 'Sum of share_users over cdm.sources, which is not 1.';

create or replace view checks.deliveries as
select
    user_id,
    viewed_at,
    event_id,
    count(*) as count_rows
from stage.page_views
where event_id is not null
group by user_id, viewed_at, event_id
having count(*) > 1;

comment on view checks.deliveries is 'A page view that was delivered twice stands in stage.page_views once.';
comment on column checks.deliveries.user_id is 'The user, as in stage.page_views. Personal data.';
comment on column checks.deliveries.viewed_at is 'The instant in UTC.';
comment on column checks.deliveries.event_id is 'event_id of the deliveries.';
comment on column checks.deliveries.count_rows is 'Number of rows that should be one.';

create or replace view checks.loads as
with events as (
    select
        batch_id as id,
        count(*) as count_rows
    from stage.events
    group by batch_id
),
rejects as (
    select
        batch_id as id,
        count(*) as count_rows
    from stage.events_rejected
    group by batch_id
)
select
    id,
    loads.file_name,
    loads.status,
    loads.rows_loaded,
    coalesce(events.count_rows, 0) as rows_found,
    loads.rows_rejected,
    coalesce(rejects.count_rows, 0) as rejects_found
from stage.loads
full join events using (id)
full join rejects using (id)
where
    coalesce(events.count_rows, 0) is distinct from case
        when loads.id < (
            select max(partitions.end_load)
            from stage.partitions
            where partitions.detached_at is not null
        ) then 0
        else loads.rows_loaded
    end
    or coalesce(rejects.count_rows, 0) is distinct from loads.rows_rejected;

comment on view checks.loads is
'Every load has the rows and the rejects that it says it has, and no row is without a load.';
comment on column checks.loads.id is 'Number of the load.';
comment on column checks.loads.file_name is 'Path of the file as it was given; null where rows belong to no load.';
comment on column checks.loads.status is 'loaded or failed.';
comment on column checks.loads.rows_loaded is 'Number of rows that stage.loads says.';
comment on column checks.loads.rows_found is 'Number of rows in stage.events.';
comment on column checks.loads.rows_rejected is 'Number of rejects that stage.loads says.';
comment on column checks.loads.rejects_found is 'Number of rejects in stage.events_rejected.';

create or replace view checks.replays as
with replayed as (
    select
        replayed_by as id,
        count(*) as count_rejects
    from stage.events_rejected
    where replayed_by is not null
    group by replayed_by
)
select
    id,
    loads.file_name,
    loads.status,
    loads.rows_loaded,
    coalesce(replayed.count_rejects, 0) as rejects_found
from stage.loads
full join replayed using (id)
where
    (loads.status is distinct from 'loaded' and replayed.count_rejects > 0)
    or (loads.format = 'rejects' and loads.rows_loaded is distinct from coalesce(replayed.count_rejects, 0));

comment on view checks.replays is
'Every reject that was loaded after all names the load that brought it, and a replay brought as many as name it.';
comment on column checks.replays.id is 'Number of the load that rejects name, or of a replay.';
comment on column checks.replays.file_name is 'Which rejects the replay brought; null where there is no such load.';
comment on column checks.replays.status is 'loaded or failed; null where there is no such load.';
comment on column checks.replays.rows_loaded is 'Number of rows that stage.loads says.';
comment on column checks.replays.rejects_found is 'Number of rejects that name the load.';

comment on schema checks is 'One view a check: its rows are the failures.';
