-- cdm.grant_rights: makes the roles clickmart_reader and clickmart_loader, and grants them what they lack
-- (docs/roles.md).
-- Each refresh ends with it, since what a migration or a file has just made needs its grants too, and since a role may
-- have been made by somebody else meanwhile.
-- Roles belong to the whole server, not to a database: another database's apply may make them at the same time, and
-- whoever applies may have no right to. Neither is an error: what can't be granted is left to the owner.

create or replace function cdm.grant_rights() returns void
language plpgsql as $$
declare
    missing_role record;
    missing_grant text;
begin
    for missing_role in
        select roles.role_name, roles.purpose
        from (
            values
            ('clickmart_reader', 'May read the marts of clickmart: the schema cdm.'),
            ('clickmart_loader', 'May load files with clickmart, and see what is loaded.')
        ) as roles (role_name, purpose)
        where
            roles.role_name not in (select rolname from pg_roles)
            and exists (select from pg_roles where rolname = current_user and (rolsuper or rolcreaterole))
    loop
        begin
            execute format('create role %I nologin', missing_role.role_name);
            execute format('comment on role %I is %L', missing_role.role_name, missing_role.purpose);
        exception when duplicate_object or unique_violation or insufficient_privilege then
            null;
        end;
    end loop;

    -- Only what is missing: a grant that stands would be written again, and keep a vacuum of the table waiting.
    for missing_grant in
        with rights (role_name, privilege, kind, object_name) as (
            values
            ('clickmart_reader', 'usage', 'schema', 'cdm'),
            ('clickmart_reader', 'execute', 'function', 'cdm.explain_user(text, boolean)'),
            ('clickmart_reader', 'execute', 'function', 'cdm.explain_purchase(bigint, boolean)'),
            ('clickmart_loader', 'usage', 'schema', 'stage'),
            ('clickmart_loader', 'select', 'table', 'stage.loads'),
            ('clickmart_loader', 'insert', 'table', 'stage.loads'),
            ('clickmart_loader', 'execute', 'function', 'stage.begin_load()'),
            ('clickmart_loader', 'execute', 'function', 'stage.input_error(text, text)'),
            ('clickmart_loader', 'execute', 'function', 'stage.begin_bulk_load(bigint)'),
            ('clickmart_loader', 'execute', 'function', 'stage.end_bulk_piece(bigint)'),
            ('clickmart_loader', 'execute', 'function', 'stage.close_bulk_load(bigint)'),
            ('clickmart_loader', 'execute', 'function', 'stage.end_bulk_writers(bigint)'),
            ('clickmart_loader', 'execute', 'function', 'stage.finish_bulk_load(bigint, xid8[], bigint[])'),
            (
                'clickmart_loader', 'execute', 'function',
                'stage.keep_bulk_rejects(bigint, bigint[], text[], bigint[], bigint[], bigint[])'
            ),
            ('clickmart_loader', 'execute', 'function', 'stage.attach_bulk_load(bigint)'),
            ('clickmart_loader', 'execute', 'function', 'stage.drop_bulk_rows(bigint, bigint[])'),
            ('clickmart_loader', 'execute', 'function', 'stage.dead_bulk_loads()'),
            ('clickmart_loader', 'execute', 'function', 'stage.drop_bulk_load(bigint)'),
            ('clickmart_loader', 'usage', 'sequence', 'stage.events_id_seq'),
            ('clickmart_loader', 'insert', 'table', 'stage.events'),
            ('clickmart_loader', 'insert', 'table', 'stage.events_rejected'),
            ('clickmart_loader', 'usage', 'schema', 'clickmart'),
            ('clickmart_loader', 'select', 'table', 'clickmart.migrations'),
            ('clickmart_loader', 'select', 'table', 'clickmart.files'),
            ('clickmart_loader', 'select', 'table', 'clickmart.project'),
            ('clickmart_loader', 'usage', 'schema', 'cdm'),
            ('clickmart_loader', 'select', 'table', 'cdm.rebuild')
            union all
            select 'clickmart_reader', 'select', 'table', format('cdm.%I', relname)
            from pg_class
            where relnamespace = 'cdm'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
        )
        select format('grant %s on %s %s to %I', privilege, kind, object_name, role_name)
        from rights
        inner join pg_roles as roles on roles.rolname = role_name
        -- What isn't there, as in a project without the raw layer, gives null.
        where
            not case kind
                when 'schema' then has_schema_privilege(roles.oid, to_regnamespace(object_name), privilege)
                when 'table' then has_table_privilege(roles.oid, to_regclass(object_name), privilege)
                when 'sequence' then has_sequence_privilege(roles.oid, to_regclass(object_name), privilege)
                when 'function' then has_function_privilege(roles.oid, to_regprocedure(object_name), privilege)
            end
    loop
        begin
            execute missing_grant;
        exception when insufficient_privilege then
            null;
        end;
    end loop;
end
$$;

comment on function cdm.grant_rights() is
'Makes the roles clickmart_reader and clickmart_loader where that is allowed, and grants them what they lack.';
