-- cdm.settings: one row, the settings that marts read when they are read.
-- Writes cdm.settings.

insert into cdm.settings (top_pages) values ({{ settings.top_pages }})
on conflict (only_row) do update set top_pages = excluded.top_pages;

comment on table cdm.settings is 'One row per warehouse: the settings that marts read when they are read.';
comment on column cdm.settings.only_row is 'Always true: the key that allows for one row.';
comment on column cdm.settings.top_pages is 'Number of rows of cdm.top_pages.';
