select
    date_trunc('hour', viewed_at) as hour_timestamp,
    page_type as event_type,
    count(*) as count_events
from {{ ref('page_views') }}
group by 1, 2
