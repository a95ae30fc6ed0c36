-- cdm.sources: one row per source, a pair of referer and campaign that a user's page view carries.
-- Reads cdm.source_totals. A view, since one new user changes the shares of all.
-- No setting stands in this file, since to replace a view keeps its readers waiting until the apply ends.

{% set share_users %}count_users / (sum(count_users) over ())::float8{% endset -%}
create or replace view cdm.sources as
select
    id,
    referer_url,
    utm_campaign,
    count_users,
    count_purchases,
    {{ share_users }} as share_users
from cdm.source_totals;

comment on view cdm.sources is 'One row per source: a pair of referer and campaign that a user''s page view carries.';
comment on column cdm.sources.id is 'A number of the row, without a meaning.';
comment on column cdm.sources.referer_url is 'referer_url; (direct) where it is missing.';
comment on column cdm.sources.utm_campaign is 'utm_campaign; (none) where it is missing.';
comment on column cdm.sources.count_users is 'Number of users with a page view of this source.';
comment on column cdm.sources.count_purchases is 'Number of purchases whose confirmation carries this source.';
comment on column cdm.sources.share_users is 'count_users over the sum of all count_users, from 0 to 1.';
