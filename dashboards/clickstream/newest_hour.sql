-- The last hour with a page view in the marts.
select newest_hour
from cdm.freshness
