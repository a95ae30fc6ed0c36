-- The pages that lead to the most purchases, with their links.
select
    id as rank,
    page_url,
    count_purchases
from cdm.top_pages
order by rank
