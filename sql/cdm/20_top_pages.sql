-- cdm.top_pages: one row per page among the first that lead to purchase.
-- Reads cdm.page_totals and cdm.settings. A view, so that a rank costs nothing until it is read.
-- No setting stands in this file, since to replace a view keeps its readers waiting until the apply ends.

{% macro top_pages_of(page_totals) -%}
select
    row_number() over ranking as id,
    page_url,
    count_purchases
from {{ page_totals }}
window ranking as (order by count_purchases desc, page_url collate "C")
order by count_purchases desc, page_url collate "C"
limit (select settings.top_pages from cdm.settings)
{%- endmacro -%}
create or replace view cdm.top_pages as
{{ top_pages_of("cdm.page_totals") }};

comment on view cdm.top_pages is 'One row per page among those that lead to the most purchases.';
comment on column cdm.top_pages.id is 'The rank, from 1: by purchases, then by page_url byte by byte.';
comment on column cdm.top_pages.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column cdm.top_pages.count_purchases is 'Number of purchases with a product added from the page.';
