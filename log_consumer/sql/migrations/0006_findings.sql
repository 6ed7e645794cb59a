-- What the webhook was told and still is so: `log-consumer check` tells of a finding once, and again when it comes back.
create table told_findings (
    name varchar,
    rule varchar,                     -- null for what concerns everything
    status varchar,                   -- warning or alarm
    told_at timestamp
);
