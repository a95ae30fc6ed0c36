-- Rows loaded and records rejected, by the day of the load.
select
    finished_at::date as day,
    sum(rows_loaded)::bigint as rows_loaded,
    sum(rows_rejected)::bigint as rows_rejected
from cdm.loads
where status = 'loaded'
group by 1
order by 1
