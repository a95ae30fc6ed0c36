-- One row per table of the warehouse: its bytes on disk and those of its indexes, partitions counted in their table.
-- Reads the catalogue.
select
    tables.relnamespace::regnamespace || '.' || tables.relname as table_name,
    sum(pg_table_size(parts.oid))::bigint as table_bytes,
    sum(pg_indexes_size(parts.oid))::bigint as index_bytes
from pg_class as parts
inner join pg_class as tables on coalesce(pg_partition_root(parts.oid), parts.oid) = tables.oid
where
    parts.relkind = 'r'
    and tables.relnamespace in ('stage'::regnamespace, 'cdm'::regnamespace)
group by tables.oid, tables.relnamespace, tables.relname
order by sum(pg_total_relation_size(parts.oid)) desc, table_name
