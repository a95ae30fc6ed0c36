-- When the last load ended.
select loaded_at
from cdm.freshness
