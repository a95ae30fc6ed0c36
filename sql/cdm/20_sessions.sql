{% from "macros.jinja" import comments_on_sessions, for_share_of_users, view_order -%}
{% macro gap() -%}{{ settings.session_gap | literal }}::interval{%- endmacro -%}
-- cdm.sessions: one row per session: a user's page views, none of them later than the one before by more than the gap.
-- Reads pg_temp.changed_views, stage.page_views at single instants, or all of it for a rebuild. Writes cdm.sessions.

{% set session_columns -%}
user_id, started_at, ended_at,
count_views, entry_page_url, exit_page_url, referer_url, utm_campaign
{%- endset -%}
{#- The sessions of these views, in one sort: of each user the views at which one begins or ends, and their numbers. -#}
{% macro sessions_of(views, where="user_id is not null") -%}
select
    {{ session_columns | indent(4) }}
from (
    select
        user_id,
        is_start,
        viewed_at as started_at,
        case when is_end then viewed_at else lead(viewed_at) over boundaries end as ended_at,
        case when is_end then number else lead(number) over boundaries end - number + 1 as count_views,
        coalesce(page_url, '(none)') as entry_page_url,
        coalesce(case when is_end then page_url else lead(page_url) over boundaries end, '(none)') as exit_page_url,
        coalesce(referer_url, '(direct)') as referer_url,
        coalesce(utm_campaign, '(none)') as utm_campaign
    from (
        select
            user_hash,
            user_id,
            viewed_at,
            page_url,
            referer_url,
            utm_campaign,
            row_number() over user_views as number,
            coalesce(viewed_at > lag(viewed_at) over user_views + {{ gap() }}, true) as is_start,
            coalesce(lead(viewed_at) over user_views > viewed_at + {{ gap() }}, true) as is_end
        from {{ views }}
        where {{ where }}
        window user_views as (
            partition by user_hash, user_id
            order by
                {{ view_order() | indent(16) }}
        )
    ) as numbered
    where is_start or is_end
    window boundaries as (partition by user_hash, user_id order by number)
) as bounded
where is_start
{%- endmacro -%}
{#- The first of a user's views at an instant, or the last; none where that need not be known. -#}
{% macro view_at(instant, is_open, backwards) -%}
select views.*
from stage.page_views as views
where
    {{ is_open }}
    and views.user_hash = hashtextextended(merged.user_id, 0)
    and views.viewed_at = {{ instant }}
    and views.user_id = merged.user_id
order by
    {{ view_order(backwards) | indent(4) }}
limit 1
{%- endmacro -%}
{#- What the index of cdm.sessions finds those of a user by. -#}
{% macro of_user(row) -%}hashtextextended(sessions.user_id, 0) = hashtextextended({{ row }}.user_id, 0)
and sessions.user_id = {{ row }}.user_id
{%- endmacro -%}
create or replace function cdm.changed_sessions(first_hash bigint, last_hash bigint)
returns table (
    id bigint,
    user_id text,
    started_at timestamp,
    ended_at timestamp,
    count_views bigint,
    entry_page_url text,
    exit_page_url text,
    referer_url text,
    utm_campaign text
)
{{ for_share_of_users }} as $$
#variable_conflict use_column
begin
    return query
    with expected as (
        {{ sessions_of("stage.page_views", "user_id is not null and user_hash between first_hash and last_hash") | indent(8) }}
    ),
    standing as (
        select *
        from cdm.sessions
        where hashtextextended(user_id, 0) between first_hash and last_hash
    )
    select
        standing.id,
        expected.*
    from expected
    full join standing using (user_id, started_at)
    where
        (expected.ended_at, expected.count_views, expected.entry_page_url, expected.exit_page_url,
        expected.referer_url, expected.utm_campaign)
        is distinct from
        (standing.ended_at, standing.count_views, standing.entry_page_url, standing.exit_page_url,
        standing.referer_url, standing.utm_campaign);
end
$$;

comment on function cdm.changed_sessions(bigint, bigint) is
'What becomes of the sessions of users of these hashes: one without an id is new, one without an instant is gone.';

create or replace function cdm.refresh_sessions(rebuild boolean) returns void
language plpgsql as $$
begin
    -- One without an id is new, one without an instant is gone.
    if rebuild then
        execute
            'create temporary table changed_sessions on commit drop as '
            || stage.over_all_users('cdm.changed_sessions');
    else
        create temporary table changed_sessions on commit drop as
        with came as materialized (
            {{ sessions_of("pg_temp.changed_views", "sign = 1 and user_id is not null") | indent(12) }}
        ),
        touched as (
            select distinct on (near.id) near.*
            from came
            cross join lateral (
                (
                    select sessions.*
                    from cdm.sessions
                    where
                        {{ of_user("came") | indent(24) }}
                        and sessions.started_at <= came.started_at
                    order by sessions.started_at desc
                    limit 1
                )
                union all
                (
                    select sessions.*
                    from cdm.sessions
                    where
                        {{ of_user("came") | indent(24) }}
                        and sessions.started_at > came.started_at
                        and sessions.started_at <= came.ended_at + {{ gap() }}
                    offset 0
                )
            ) as near
            where came.started_at <= near.ended_at + {{ gap() }}
        ),
        spans as (
            select
                null::bigint as id,
                {{ session_columns | indent(16) }}
            from came
            union all
            select
                id,
                {{ session_columns | indent(16) }}
            from touched
            union all
            -- A view that went was another delivery of one that came, at the same instant.
            select
                null,
                user_id,
                viewed_at,
                viewed_at,
                -1,
                null,
                null,
                null,
                null
            from pg_temp.changed_views
            where sign = -1 and user_id is not null
        ),
        merged as (
            select
                array_remove(array_agg(id order by id), null) as ids,
                user_id,
                min(started_at) as started_at,
                max(ended_at) as ended_at,
                sum(count_views)::bigint as count_views,
                (array_agg(entry_page_url order by started_at))[1] as entry_page_url,
                (array_agg(exit_page_url order by ended_at desc))[1] as exit_page_url,
                (array_agg(referer_url order by started_at))[1] as referer_url,
                (array_agg(utm_campaign order by started_at))[1] as utm_campaign,
                -- Where two begin, or end, at one instant, the views there tell which is the first, or the last.
                (array_agg(started_at order by started_at))[2] = min(started_at) as is_entry_open,
                (array_agg(ended_at order by ended_at desc))[2] = max(ended_at) as is_exit_open
            from (
                select
                    joined.*,
                    count(*) filter (where joined.is_start) over (
                        partition by joined.user_id order by joined.started_at, joined.ended_at
                        rows between unbounded preceding and current row
                    ) as number
                from (
                    select
                        spans.*,
                        coalesce(
                            spans.started_at > max(spans.ended_at) over (
                                partition by spans.user_id order by spans.started_at, spans.ended_at
                                rows between unbounded preceding and 1 preceding
                            ) + {{ gap() }},
                            true
                        ) as is_start
                    from spans
                ) as joined
            ) as numbered
            group by user_id, number
        )
        select
            pieces.id,
            case when pieces.number = 1 then merged.user_id end as user_id,
            case when pieces.number = 1 then merged.started_at end as started_at,
            merged.ended_at,
            merged.count_views,
            case when merged.is_entry_open then coalesce(entry.page_url, '(none)') else merged.entry_page_url end
            as entry_page_url,
            case when merged.is_exit_open then coalesce(leaving.page_url, '(none)') else merged.exit_page_url end
            as exit_page_url,
            case when merged.is_entry_open then coalesce(entry.referer_url, '(direct)') else merged.referer_url end
            as referer_url,
            case when merged.is_entry_open then coalesce(entry.utm_campaign, '(none)') else merged.utm_campaign end
            as utm_campaign
        from merged
        -- The session of the least number stays, with all that the others had.
        cross join lateral unnest(case when merged.ids = '{}' then '{null}' else merged.ids end)
        with ordinality as pieces (id, number)
        left join lateral (
            {{ view_at("merged.started_at", "merged.is_entry_open", false) | indent(12) }}
        ) as entry on true
        left join lateral (
            {{ view_at("merged.ended_at", "merged.is_exit_open", true) | indent(12) }}
        ) as leaving on true;
    end if;

    analyze pg_temp.changed_sessions (id);

    merge into cdm.sessions as sessions
    using pg_temp.changed_sessions as changes on changes.id = sessions.id
    when matched and changes.started_at is null then
        delete
    when matched then
        update set
            started_at = changes.started_at,
            ended_at = changes.ended_at,
            count_views = changes.count_views,
            entry_page_url = changes.entry_page_url,
            exit_page_url = changes.exit_page_url,
            referer_url = changes.referer_url,
            utm_campaign = changes.utm_campaign
    when not matched then
        insert ({{ session_columns | indent(8) }})
        values (
            changes.user_id,
            changes.started_at,
            changes.ended_at,
            changes.count_views,
            changes.entry_page_url,
            changes.exit_page_url,
            changes.referer_url,
            changes.utm_campaign
        );
end
$$;

comment on table cdm.sessions is
'One row per session: a user''s page views without a silence longer than the setting session_gap.';
comment on sequence cdm.sessions_id_seq is 'Numbers of the rows of cdm.sessions.';
comment on column cdm.sessions.id is 'Number of the row; of sessions that become one the least stays.';
{{ comments_on_sessions("cdm.sessions") }}
comment on function cdm.refresh_sessions(boolean) is
'Brings cdm.sessions up to date with the changed page views, or with all.';

select cdm.request_rebuild('page_views');
