{% from "cdm/20_sessions.sql" import of_user -%}
{% set no_source = "('(direct)', '(none)')" -%}
-- cdm.attributions: one row per purchase, with the sources that brought the user first and last.
-- cdm.source_conversions: one row per source of sessions, with what came of them.
-- Read cdm.purchases and cdm.sessions. Views, so that they cost nothing until they are read.

create or replace view cdm.attributions as
select
    purchases.id as purchase_id,
    purchases.user_id,
    purchases.confirmed_at,
    purchases.count_products,
    first_touch.started_at as first_touch_at,
    first_touch.referer_url as first_referer_url,
    first_touch.utm_campaign as first_utm_campaign,
    last_touch.started_at as last_touch_at,
    last_touch.referer_url as last_referer_url,
    last_touch.utm_campaign as last_utm_campaign
from cdm.purchases
left join lateral (
    select sessions.*
    from cdm.sessions
    where
        {{ of_user("purchases") | indent(8) }}
    order by sessions.started_at
    limit 1
) as first_touch on true
left join lateral (
    select sessions.*
    from cdm.sessions
    where
        {{ of_user("purchases") | indent(8) }}
        and sessions.started_at <= purchases.confirmed_at
    order by (sessions.referer_url, sessions.utm_campaign) = {{ no_source }}, sessions.started_at desc
    limit 1
) as last_touch on true;

comment on view cdm.attributions is
'One row per purchase: by which source the user came first of all, and by which last before it.';
comment on column cdm.attributions.purchase_id is 'The purchase: cdm.purchases.id.';
comment on column cdm.attributions.user_id is 'The user, as in cdm.purchases. Personal data.';
comment on column cdm.attributions.confirmed_at is 'The confirmation, UTC.';
comment on column cdm.attributions.count_products is 'Number of products bought.';
comment on column cdm.attributions.first_touch_at is 'Start of the user''s first session, UTC.';
comment on column cdm.attributions.first_referer_url is
'referer_url of the first session; (direct) where it is missing.';
comment on column cdm.attributions.first_utm_campaign is
'utm_campaign of the first session; (none) where it is missing.';
comment on column cdm.attributions.last_touch_at is
'Start of the last session up to the purchase that has a referer or a campaign, of the last where none has; UTC.';
comment on column cdm.attributions.last_referer_url is 'referer_url of that session; (direct) where it is missing.';
comment on column cdm.attributions.last_utm_campaign is 'utm_campaign of that session; (none) where it is missing.';

-- Purchases are counted by the source before they meet the sessions: joined session by session the planner may take
-- their number for one, and compare each with each.
create or replace view cdm.source_conversions as
with session_counts as (
    select
        referer_url,
        utm_campaign,
        count(*) as count_sessions
    from cdm.sessions
    group by referer_url, utm_campaign
),
converting_sessions as (
    select
        converting.referer_url,
        converting.utm_campaign,
        count(distinct converting.id) as count_converting_sessions,
        count(*) as count_purchases
    from cdm.purchases
    inner join lateral (
        select sessions.*
        from cdm.sessions
        where
            {{ of_user("purchases") | indent(12) }}
            and sessions.started_at <= purchases.confirmed_at
        order by sessions.started_at desc
        limit 1
    ) as converting on true
    group by converting.referer_url, converting.utm_campaign
),
touches as (
    select
        touch.referer_url,
        touch.utm_campaign,
        sum(touch.is_first) as count_first_touch,
        sum(1 - touch.is_first) as count_last_touch
    from cdm.attributions
    inner join lateral (
        values
        (first_referer_url, first_utm_campaign, 1),
        (last_referer_url, last_utm_campaign, 0)
    ) as touch (referer_url, utm_campaign, is_first) on true
    group by touch.referer_url, touch.utm_campaign
)
select
    referer_url,
    utm_campaign,
    session_counts.count_sessions,
    coalesce(converting_sessions.count_converting_sessions, 0) as count_converting_sessions,
    coalesce(converting_sessions.count_converting_sessions, 0)::float8
    / session_counts.count_sessions as share_converting,
    coalesce(converting_sessions.count_purchases, 0) as count_purchases,
    coalesce(touches.count_first_touch, 0) as count_first_touch,
    coalesce(touches.count_last_touch, 0) as count_last_touch
from session_counts
left join converting_sessions using (referer_url, utm_campaign)
left join touches using (referer_url, utm_campaign);

comment on view cdm.source_conversions is
'One row per source of sessions: how many there were, in how many something was bought, and what they led to.';
comment on column cdm.source_conversions.referer_url is
'referer_url of a session''s first view; (direct) where it is missing.';
comment on column cdm.source_conversions.utm_campaign is
'utm_campaign of a session''s first view; (none) where it is missing.';
comment on column cdm.source_conversions.count_sessions is 'Number of sessions.';
comment on column cdm.source_conversions.count_converting_sessions is
'Number of sessions in which something was bought.';
comment on column cdm.source_conversions.share_converting is 'These over all sessions of the source, as a fraction.';
comment on column cdm.source_conversions.count_purchases is 'Number of purchases in sessions of the source.';
comment on column cdm.source_conversions.count_first_touch is
'Number of purchases, in whatever session, of users whose first session came by the source.';
comment on column cdm.source_conversions.count_last_touch is
'Number of purchases before which the source was the last one: cdm.attributions.';
