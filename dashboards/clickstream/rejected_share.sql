-- The share of all records read that could not be stored, nor were replayed since.
select
    sum(rows_rejected - rows_replayed)
    / nullif(sum(rows_loaded) + sum(rows_rejected - rows_replayed), 0)::float8 as share_rejected
from cdm.loads
where status = 'loaded'
