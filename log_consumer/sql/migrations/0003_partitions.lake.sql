-- What a lake's files are divided by: days, so that a look at some of them, and what is thrown away by age, touches no
-- other file. day() is the day of the month.
alter table exposures set partitioned by (year(applied_at), month(applied_at), day(applied_at));
alter table fallthrough_exposures set partitioned by (year(applied_at), month(applied_at), day(applied_at));
alter table resolve_counts set partitioned by (year(sent_at), month(sent_at), day(sent_at));
alter table telemetry set partitioned by (year(sent_at), month(sent_at), day(sent_at));
alter table ledger set partitioned by (year(sent_at), month(sent_at), day(sent_at));
