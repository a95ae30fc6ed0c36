-- cdm.page_totals: one row per page from which users went into a purchase.
-- Reads pg_temp.changed_purchases, or cdm.purchases for a rebuild. Writes cdm.page_totals.

{% macro pages_of(purchases, count) -%}select pages.page_url, {{ count }} as count_purchases
from {{ purchases }}
cross join lateral (select distinct unnest(purchases.page_urls) as page_url) as pages
{%- endmacro -%}
create or replace function cdm.refresh_page_totals(rebuild boolean) returns void
language plpgsql as $$
begin
    with purchases as (
        select sign, page_urls from pg_temp.changed_purchases where not rebuild
        union all
        select 1 as sign, page_urls from cdm.purchases where rebuild
    ),
    -- A purchase counts once for a page, however many of its products were added from there.
    counts as (
        {{ pages_of("purchases", "purchases.sign") | indent(8) }}
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

comment on table cdm.page_totals is 'One row per page from which users went into a purchase: what cdm.top_pages ranks.';
comment on sequence cdm.page_totals_id_seq is 'Numbers of the rows of cdm.page_totals.';
comment on column cdm.page_totals.id is 'A number of the row, without a meaning.';
comment on column cdm.page_totals.page_url is 'page_url of the product''s page; (none) where it is missing.';
comment on column cdm.page_totals.count_purchases is 'Number of purchases with a product added from the page.';
comment on function cdm.refresh_page_totals(boolean) is
'Brings cdm.page_totals up to date with the changed purchases, or with all.';

select cdm.request_rebuild('purchases');
