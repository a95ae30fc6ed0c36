-- Users, purchases and their shares by referer and campaign.
select
    referer_url,
    utm_campaign,
    count_users,
    count_purchases,
    share_users,
    count_purchases / nullif(sum(count_purchases) over (), 0)::float8 as share_purchases
from cdm.sources
where
    true
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
order by count_users desc, referer_url, utm_campaign
