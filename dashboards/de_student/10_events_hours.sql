-- Распределение событий по часам
-- Page views per hour and page type.
select
    hour_timestamp,
    event_type,
    count_events
from cdm.events_hours
order by hour_timestamp, count_events desc, event_type
