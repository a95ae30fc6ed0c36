-- The last 100 loads.
select
    id,
    file_name,
    format,
    size,
    status,
    rows_loaded,
    rows_rejected,
    finished_at,
    refreshed_at
from cdm.loads
order by id desc
limit 100
