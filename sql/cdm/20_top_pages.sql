-- cdm.top_pages: one row per page among the first {{ settings.top_pages }} that lead to purchase.
-- Reads cdm.page_totals. A view, so that a rank costs nothing until it is read.
-- It stands in a file of its own, since to replace a view keeps its readers waiting until the apply ends.

create or replace view cdm.top_pages as
select
    row_number() over ranking as id,
    page_url,
    count_purchases
from cdm.page_totals
window ranking as (order by count_purchases desc, page_url collate "C")
order by count_purchases desc, page_url collate "C"
limit {{ settings.top_pages }};

comment on view cdm.top_pages is 'One row per page among those that lead to the most purchases.';
comment on column cdm.top_pages.id is 'The rank, from 1: by purchases, then by page_url byte by byte.';
comment on column cdm.top_pages.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column cdm.top_pages.count_purchases is 'Number of purchases with a product added from the page.';
