-- Records that could not be stored, by reason.
select
    reason,
    sum(count_rejects)::bigint as count_rejects,
    count(distinct file_name) as count_files
from cdm.rejects
group by reason
order by count_rejects desc, reason
limit 20
