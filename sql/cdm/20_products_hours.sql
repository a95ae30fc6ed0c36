-- cdm.products_hours: one row per hour in which a product was bought.
-- Reads pg_temp.changed_purchases, or cdm.purchases for a rebuild. Writes cdm.products_hours.

{% macro hours_of_purchases(purchases, count) -%}select date_trunc('hour', confirmed_at) as hour_timestamp, {{ count }} as count_products
from {{ purchases }}
{%- endmacro -%}
create or replace function cdm.refresh_products_hours(rebuild boolean) returns void
language plpgsql as $$
begin
    with counts as (
        {{ hours_of_purchases("pg_temp.changed_purchases", "sum(sign * count_products)") | indent(8) }}
        where not rebuild
        group by 1
        union all
        {{ hours_of_purchases("cdm.purchases", "sum(count_products)") | indent(8) }}
        where rebuild
        group by 1
        union all
        select hour_timestamp, -count_products
        from cdm.products_hours
        where rebuild
    ),
    changes as (
        select hour_timestamp, sum(count_products)::bigint as count_products
        from counts
        group by hour_timestamp
        having sum(count_products) != 0
        order by hour_timestamp
    )
    merge into cdm.products_hours as hours
    using changes
        on changes.hour_timestamp = hours.hour_timestamp
    when matched and hours.count_products + changes.count_products = 0 then
        delete
    when matched then
        update set count_products = hours.count_products + changes.count_products
    when not matched then
        insert (hour_timestamp, count_products)
        values (changes.hour_timestamp, changes.count_products);
end
$$;

comment on table cdm.products_hours is 'One row per hour in which a product was bought.';
comment on sequence cdm.products_hours_id_seq is 'Numbers of the rows of cdm.products_hours.';
comment on column cdm.products_hours.id is 'A number of the row, without a meaning.';
comment on column cdm.products_hours.hour_timestamp is 'Start of the hour of the confirmation, UTC.';
comment on column cdm.products_hours.count_products is 'Number of products bought.';
comment on function cdm.refresh_products_hours(boolean) is
'Brings cdm.products_hours up to date with the changed purchases, or with all.';

select cdm.request_rebuild('purchases');
