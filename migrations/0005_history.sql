-- What each refresh changed in the marts, for who asks why a number is another one today.

create table cdm.refreshes (
    id bigint generated always as identity primary key,
    refreshed_at timestamp not null default (now() at time zone 'UTC'),
    loads bigint[] not null,
    is_rebuilt boolean not null,
    changes_left_out bigint not null default 0
);

create index refreshes_refreshed_at on cdm.refreshes (refreshed_at);

-- A row as it was and as it became, without its id. A change that no refresh made, by hand, has no refresh.
create table cdm.changes (
    id bigint generated always as identity primary key,
    changed_at timestamp not null default (now() at time zone 'UTC'),
    refresh_id bigint,
    mart text not null,
    before_row jsonb,
    after_row jsonb
);

create index changes_changed_at on cdm.changes (changed_at);
create index changes_hour on cdm.changes (mart, (coalesce(after_row, before_row) ->> 'hour_timestamp'));
