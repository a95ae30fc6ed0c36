-- Users with a page view.
select count(distinct user_id) as count_users
from cdm.user_days
where
    true
    -- [[ and day >= {{from}}::date ]]
    -- [[ and day <= {{to}}::date ]]
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
