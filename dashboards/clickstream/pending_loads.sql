-- Loads that are not yet in the marts: `clickmart apply` takes them in.
select count_pending_loads
from cdm.freshness
