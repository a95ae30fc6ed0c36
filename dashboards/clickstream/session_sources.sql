-- What came of the sessions of each source, and of how many purchases it was the user's first source, or the last.
select
    referer_url,
    utm_campaign,
    count_sessions,
    count_converting_sessions,
    share_converting,
    count_purchases,
    count_first_touch,
    count_last_touch
from cdm.source_conversions
where
    true
    -- [[ and referer_url = {{referer}} ]]
    -- [[ and utm_campaign = {{campaign}} ]]
order by count_sessions desc, referer_url collate "C", utm_campaign collate "C"
