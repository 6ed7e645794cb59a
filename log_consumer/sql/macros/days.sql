-- Where days begin. All of it is worked out from a variable before a query runs, so that it costs nothing where days begin
-- at a whole hour.

create or replace macro day_begins_after() as coalesce(getvariable('day_begins')::interval, interval 0 hours);

-- The beginning of the day that `moment` is in.
create or replace macro day_of(moment) as date_trunc('day', moment - day_begins_after()) + day_begins_after();

-- How far into an hour days begin, 0 to 3,599,999,999. Of a negative number the remainder is negative.
create or replace macro day_cut_us() as (epoch_us(day_begins_after()) % 3_600_000_000 + 3_600_000_000) % 3_600_000_000;

-- The beginning of the hour that `moment` is in, or, where a day begins within that hour and before `moment`, of the day.
create or replace macro hour_piece(moment) as
    case
        when day_cut_us() = 0 then date_trunc('hour', moment)
        when epoch_us(moment) - epoch_us(date_trunc('hour', moment)) < day_cut_us() then date_trunc('hour', moment)
        else date_trunc('hour', moment) + to_microseconds(day_cut_us())
    end;
