-- The floor of a full refresh: one row per page view as stage.page_views holds it, sorted by user and instant.
-- Reads stage.parsed_events. Deliveries are not compared, and nothing is counted.
create table public.page_views_floor as
select
    batch_id,
    row_id,
    user_hash,
    user_id,
    viewed_at,
    step,
    page_type,
    event_id,
    page_url,
    referer_url,
    utm_campaign
from (
    select
        parsed_events.*,
        hashtextextended(parsed_events.user_id, 0) as user_hash
    from stage.parsed_events
    -- A fence: else each timestamp is parsed twice, and the floor would be too high.
    offset 0 -- noqa: ambiguous.order_by_limit
) as views
where viewed_at is not null
order by user_hash, user_id, viewed_at
