-- Users by referer: the sum over its campaigns, so that a user who came by two of them counts twice.
select
    referer_url,
    sum(count_users)::bigint as count_users
from cdm.sources
where
    true
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
group by referer_url
order by count_users desc, referer_url
