-- Top pages that lead to purchase
-- Number of purchases with a product added from the page.
select
    id,
    page_url,
    count_purchases
from cdm.top_pages
order by id
