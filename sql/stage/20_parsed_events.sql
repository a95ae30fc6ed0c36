{# The fast pattern is a plain part of the exact one: no zone, at most six digits of fraction, no leap day. -#}
{% set plain_date = "^[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    ~ "|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)" -%}
{% set plain_time = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?$" -%}
{# Which step a page is, by a pattern for each. -#}
{% macro step_of(patterns) -%}
case
    when paths.page_path ~ {{ patterns.product | literal }} then 'product'
    when paths.page_path ~ {{ patterns.cart | literal }} then 'cart'
    when paths.page_path ~ {{ patterns.payment | literal }} then 'payment'
    when paths.page_path ~ {{ patterns.confirmation | literal }} then 'confirmation'
end
{%- endmacro -%}
-- stage.parsed_events: one row per row of stage.events, read as a page view (docs/meaning.md 2), deliveries uncompared.
-- Reads stage.events.
-- Here alone stands what a timestamp, a user, a page path, a page type and a step are.

create or replace function stage.parse_any_timestamp(value text) returns timestamp
language plpgsql stable strict parallel safe as $$
declare
    instant_text text;
    zone text;
    instant timestamp;
begin
    if value !~ '(?x)
        ^ [ \t\r\n]*
        (?: [0-9]{4} - (?:
                (?: 0[1-9] | 1[0-2] ) - (?: 0[1-9] | 1[0-9] | 2[0-8] )
                | (?: 0[13-9] | 1[0-2] ) - (?: 29 | 30 )
                | (?: 0[13578] | 1[02] ) - 31 )
            | (?: [0-9]{2} (?: 0[48] | [2468][048] | [13579][26] ) | (?: [02468][048] | [13579][26] ) 00 ) - 02-29 )
        [T\ ]
        (?: [01][0-9] | 2[0-3] ) : [0-5][0-9] : [0-5][0-9]
        (?: \. [0-9]+ )?
        (?: \ ? (?: Z | [+-] (?: 0[0-9] | 1[0-4] ) (?: :? [0-5][0-9] )? ) )?
        [ \t\r\n]* $'
    then
        return null;
    end if;

    instant_text := btrim(value, E' \t\r\n');
    -- What follows the seconds, without their fraction.
    zone := ltrim(substr(instant_text, 20), '.0123456789');
    if left(instant_text, 4) = '0000' then
        return null;
    end if;
    -- 26 characters hold six digits of the fraction.
    instant := left(left(instant_text, length(instant_text) - length(zone)), 26)::timestamp;
    zone := translate(zone, ' Z:', '');
    if zone != '' then
        instant := instant - (left(zone, 3) || ':' || rpad(substr(zone, 4), 2, '0'))::interval;
    end if;
    if instant < '0001-01-01' or instant >= '10000-01-01' then
        return null;
    end if;
    return instant;
end
$$;

comment on function stage.parse_any_timestamp(text) is
'stage.parse_timestamp for every way of writing an instant that docs/meaning.md 2 allows.';

create or replace function stage.parse_timestamp(value text) returns timestamp
language sql stable parallel safe as $$
    select case
        -- Nearly every value looks like one of these two; the exact way says the same of it and takes longer.
        -- Of the first, digits in their places, jsonpath says sooner than a pattern whether there is such an instant; but
        -- it takes a month or a day 00 for one not given.
        when
            value like '____-__-__ __:__:__.______'
            and value not like '%-00%'
            and value !~ '^[^1-9]|[^0-9][^0-9]'
            and jsonb_path_exists(to_jsonb(value), '$.datetime("YYYY-MM-DD HH24:MI:SS.US")', silent => true)
            then value::timestamp
        when value ~ '{{ plain_date }}[T ]{{ plain_time }}'
            then value::timestamp
        else stage.parse_any_timestamp(value)
    end
$$;

comment on function stage.parse_timestamp(text) is
'The instant in UTC that a text of event_timestamp names; null where it is no timestamp.';

create or replace view stage.parsed_events as
select
    events.batch_id,
    events.id as row_id,
    coalesce(nullif(events.user_domain_id, ''), nullif(events.user_custom_id, '')) collate "C" as user_id,
    stage.parse_timestamp(events.event_timestamp) as viewed_at,
    {% if source_steps -%}
        -- The patterns of the load's source, where that has some of its own.
        case
            {% for source, patterns in source_steps.items() -%}
                when
                    events.batch_id in (
                        select loads.id
                        from stage.loads
                        where loads.source = {{ source | literal }}
                    )
                    then {{ step_of(patterns) | indent(20) }}
            {% endfor -%}
            else {{ step_of(settings) | indent(12) }}
        end
    {%- else -%}
        {{ step_of(settings) | indent(4) }}
    {%- endif %}::stage.step as step,
    coalesce(nullif(split_part(paths.page_path, '/', 1), ''), '(none)') collate "C" as page_type,
    nullif(events.event_id, '') collate "C" as event_id,
    nullif(events.page_url, '') collate "C" as page_url,
    nullif(events.referer_url, '') collate "C" as referer_url,
    nullif(events.utm_campaign, '') collate "C" as utm_campaign
from stage.events
cross join lateral (
    select ltrim(split_part(split_part(coalesce(events.page_url_path, ''), '?', 1), '#', 1), '/') as page_path
) as paths;

comment on view stage.parsed_events is
'One row per row of stage.events, read as a page view; deliveries of the same view are not yet one.';
comment on column stage.parsed_events.batch_id is 'The load that brought the row: stage.loads.id.';
comment on column stage.parsed_events.row_id is 'stage.events.id.';
comment on column stage.parsed_events.user_id is
'user_domain_id, else user_custom_id; null for a view without a user. Personal data.';
comment on column stage.parsed_events.viewed_at is
'The instant in UTC; null where event_timestamp is no timestamp: then the row is no page view.';
comment on column stage.parsed_events.step is 'Step of the purchase funnel; null for any other page.';
comment on column stage.parsed_events.page_type is 'First segment of the page path; (none) where there is none.';
comment on column stage.parsed_events.event_id is 'event_id; null where it is missing.';
comment on column stage.parsed_events.page_url is 'page_url; null where it is missing.';
comment on column stage.parsed_events.referer_url is 'referer_url; null where it is missing.';
comment on column stage.parsed_events.utm_campaign is 'utm_campaign; null where it is missing.';

select cdm.request_rebuild('page_views');
