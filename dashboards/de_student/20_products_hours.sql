-- Products bought per hour
-- By the hour of the confirmation.
select
    hour_timestamp,
    count_products
from cdm.products_hours
order by hour_timestamp
