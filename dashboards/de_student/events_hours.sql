-- Page views per hour and page type.
select
    hour_timestamp,
    event_type,
    count_events
from cdm.events_hours
where
    true
    -- [[ and hour_timestamp >= {{from}}::date ]]
    -- [[ and hour_timestamp < {{to}}::date + 1 ]]
order by hour_timestamp, event_type
