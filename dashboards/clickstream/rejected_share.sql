-- The share of all records read that could not be stored.
select sum(rows_rejected) / nullif(sum(rows_loaded) + sum(rows_rejected), 0)::float8 as share_rejected
from cdm.loads
where status = 'loaded'
