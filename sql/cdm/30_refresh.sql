-- cdm.refresh: takes the new loads into the marts, in one transaction, in the order in which the marts build on one
-- another. Reads stage.loads. It costs by the new loads and the views around them, unless something is to be rebuilt.

create or replace function cdm.refresh("full" boolean default false)
returns table (count_loads bigint, count_rows bigint, is_rebuilt boolean)
language plpgsql
set client_min_messages = warning
-- What a refresh looks up by index is mostly in memory; with the default it would read whole tables sooner.
set random_page_cost = 1.1 as $$
declare
    new_loads bigint [];
    rebuild record;
    grown_table regclass;
    this_refresh bigint;
begin
    -- One refresh at a time; readers and loads go on.
    perform pg_advisory_xact_lock(hashtextextended('clickmart.apply', 0));

    select
        array_agg(id order by id),
        count(*),
        coalesce(sum(rows_loaded), 0)
    into new_loads, count_loads, count_rows
    from stage.loads
    where status = 'loaded' and refreshed_at is null;

    -- Where what is new outweighs what stands, a rebuild is the cheaper way to the same marts.
    if count_rows > 100000 then
        select count_rows > coalesce(sum(loads.rows_loaded), 0)
        into is_rebuilt
        from stage.loads
        where loads.refreshed_at is not null;
    end if;

    select
        state.page_views or "full" or coalesce(is_rebuilt, false) as page_views,
        state.purchases or "full" or coalesce(is_rebuilt, false) as purchases
    into rebuild
    from cdm.rebuild as state;

    is_rebuilt := rebuild.page_views or rebuild.purchases;
    if count_loads > 0 or is_rebuilt then
        drop table if exists
        pg_temp.changed_views, pg_temp.kept_views, pg_temp.changed_purchases, pg_temp.counted_hours,
        pg_temp.changed_user_days, pg_temp.changed_sessions;

        -- Lookups by index need the planner to know the tables' sizes. Autovacuum sees to that, but a server that runs
        -- for a minute a day may never get to it. A sample has a bounded size, and is taken when a table has doubled.
        for grown_table in
            select oid
            from pg_class
            where
                relkind = 'r'
                and relnamespace in ('stage'::regnamespace, 'cdm'::regnamespace)
                and pg_relation_size(oid) > (2 * relpages + 10) * current_setting('block_size')::bigint
        loop
            execute format('analyze %s', grown_table);
        end loop;

        insert into cdm.refreshes (loads, is_rebuilt)
        values (coalesce(new_loads, '{}'), refresh.is_rebuilt)
        returning id into this_refresh;
        perform set_config('clickmart.refresh', this_refresh::text, true);

        -- Messages of the level info reach the client whatever it asked for: someone may be watching a long rebuild.
        raise info 'page views of % new loads', count_loads;
        perform stage.refresh_page_views(coalesce(new_loads, '{}'), rebuild.page_views);
        raise info 'purchases';
        perform cdm.refresh_purchases(rebuild.purchases);
        raise info 'marts';
        perform cdm.refresh_events_hours(rebuild.page_views);
        perform cdm.refresh_products_hours(rebuild.purchases);
        perform cdm.refresh_user_days(rebuild.page_views);
        perform cdm.refresh_sessions(rebuild.page_views);
        perform cdm.refresh_source_totals(rebuild.purchases);
        perform cdm.refresh_page_totals(rebuild.purchases);

        update stage.loads set refreshed_at = clock_timestamp() where id = any (new_loads);
        perform set_config('clickmart.refresh', '', true);
        update cdm.rebuild set page_views = false, purchases = false where page_views or purchases;
    end if;
    -- Last, since the apply of another database that makes the same roles waits for this transaction to end.
    perform cdm.grant_rights();
    return next;
end
$$;

comment on schema cdm is 'The marts: what people read. Each refresh of them becomes visible as a whole.';
comment on function cdm.refresh(boolean) is
'Takes the new loads into the marts, or builds all anew; says how many loads and rows were new.';
comment on table cdm.rebuild is
'One row per warehouse: what the next refresh must build anew, since its definition has changed.';
comment on column cdm.rebuild.only_row is 'Always true: the key that allows for one row.';
comment on column cdm.rebuild.page_views is 'All, from the page views on.';
comment on column cdm.rebuild.purchases is 'The purchases and what is counted from them.';
comment on function cdm.request_rebuild(text) is
'Has the next refresh build anew what stands from page_views or from purchases on.';
