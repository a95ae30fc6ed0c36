-- The page views of a user are found by one index, whatever they are looked up for; those without a user count as one
-- more user there. A share of all users is a range of it, and of the days of users.

update stage.page_views
set user_hash = 0
where user_hash is null;
alter table stage.page_views alter column user_hash set not null;

drop index stage.page_views_deliveries, stage.page_views_steps;
create index page_views_users on stage.page_views (user_hash, viewed_at, hashtextextended(event_id, 0));

drop index cdm.user_days_user_source;
create index user_days_user_source on cdm.user_days (
    hashtextextended(user_id, 0), hashtextextended(referer_url || chr(10) || utm_campaign, 0), day
);
