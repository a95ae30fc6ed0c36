-- Products bought per hour, by the hour of the confirmation.
select
    hour_timestamp,
    count_products
from cdm.products_hours
where
    true
    -- [[ and hour_timestamp >= {{from}}::date ]]
    -- [[ and hour_timestamp < {{to}}::date + 1 ]]
order by hour_timestamp
