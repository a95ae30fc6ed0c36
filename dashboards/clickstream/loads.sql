-- The last 100 loads; of each file the name alone, since a report may leave the house.
select
    id,
    regexp_replace(file_name, '.*/', '') as file_name,
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
