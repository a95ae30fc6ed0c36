-- Users and purchases by source
-- Users by referer and campaign, their share of all, and the purchases whose confirmation carries the source.
select
    referer_url,
    utm_campaign,
    count_users,
    count_purchases,
    round((100 * share_users)::numeric, 1) as percent_users
from cdm.sources
order by count_users desc, referer_url, utm_campaign
