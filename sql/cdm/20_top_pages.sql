-- cdm.top_pages: one row per page among the first {{ settings.top_pages }} that lead to purchase.
-- Reads pg_temp.changed_purchases, or cdm.purchases for a rebuild. Writes cdm.page_totals, of which cdm.top_pages is
-- the top: a view, so that a rank costs nothing until it is read.

create or replace function cdm.refresh_top_pages(rebuild boolean) returns void
language plpgsql as $$
begin
    with purchases as (
        select sign, page_urls from pg_temp.changed_purchases where not rebuild
        union all
        select 1 as sign, page_urls from cdm.purchases where rebuild
    ),
    -- A purchase counts once for a page, however many of its products were added from there.
    counts as (
        select pages.page_url, purchases.sign as count_purchases
        from purchases
        cross join lateral (select distinct unnest(purchases.page_urls) as page_url) as pages
        union all
        select page_url, -count_purchases
        from cdm.page_totals
        where rebuild
    ),
    changes as (
        select page_url, sum(count_purchases)::bigint as count_purchases
        from counts
        group by page_url
        having sum(count_purchases) != 0
        order by page_url
    )
    merge into cdm.page_totals as totals
    using changes
        on hashtextextended(changes.page_url, 0) = hashtextextended(totals.page_url, 0)
        and changes.page_url = totals.page_url
    when matched and totals.count_purchases + changes.count_purchases = 0 then
        delete
    when matched then
        update set count_purchases = totals.count_purchases + changes.count_purchases
    when not matched then
        insert (page_url, count_purchases)
        values (changes.page_url, changes.count_purchases);
end
$$;

create or replace view cdm.top_pages as
select
    row_number() over ranking as id,
    page_url,
    count_purchases
from cdm.page_totals
window ranking as (order by count_purchases desc, page_url collate "C")
order by count_purchases desc, page_url collate "C"
limit {{ settings.top_pages }};

comment on table cdm.page_totals is 'One row per page from which users went into a purchase: what cdm.top_pages ranks.';
comment on column cdm.page_totals.id is 'A number of the row, without a meaning.';
comment on column cdm.page_totals.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column cdm.page_totals.count_purchases is 'Number of purchases with a product added from the page.';
comment on view cdm.top_pages is 'One row per page among those that lead to the most purchases.';
comment on column cdm.top_pages.id is 'The rank, from 1: by purchases, then by page_url byte by byte.';
comment on column cdm.top_pages.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column cdm.top_pages.count_purchases is 'Number of purchases with a product added from the page.';
comment on function cdm.refresh_top_pages(boolean) is
'Brings cdm.page_totals up to date with the changed purchases, or with all.';

select cdm.request_rebuild('purchases');
