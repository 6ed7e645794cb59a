-- analysis_settings: what do the views take for granted? Each column is a variable of that name, where the session has set
-- one (`set variable srm_alpha = 0.01`; the setting ANALYSIS of log-consumer does), and otherwise what stands here.
-- Grain: one row.
--   as_of                    now, UTC: what is late or stale is so by then
--   day_begins               where a day begins after midnight UTC, an interval; may be negative
--   srm_alpha                a p-value below it is a mismatch
--   srm_warning_alpha        one below it is a warning
--   srm_min_units            with fewer units no mismatch is looked for
--   srm_min_expected         nor with fewer units expected in some assignment
--   srm_min_deviation        a share that is off by less, as a part of all units, is no mismatch: with very many units any is
--                            significant
--   srm_concentration        the sequential test finds deviations of about 1 / sqrt(this) soonest
--   crossover_warning, crossover_alarm    share of units with more than one assignment, without a change of allocation
--   crossover_min_units      with fewer such units neither is said
--   bot_warning              share of units that are marked as bots
--   late_after               an exposure that lands later after it was applied is late, an interval
--   late_warning, late_alarm           share of exposures that are late
--   duplicate_warning, duplicate_alarm share of deliveries that were redeliveries
--   missing_alarm            share of messages that never arrived; any that did not is a warning
--   stale_days               a flag that was not resolved, or not applied, for so long is stale
create or replace view analysis_settings as
select
    coalesce(getvariable('as_of')::timestamp, make_timestamp(epoch_us(now()))) as as_of,
    day_begins_after() as day_begins,
    coalesce(getvariable('srm_alpha')::double, 0.001) as srm_alpha,
    coalesce(getvariable('srm_warning_alpha')::double, 0.01) as srm_warning_alpha,
    coalesce(getvariable('srm_min_units')::bigint, 100) as srm_min_units,
    coalesce(getvariable('srm_min_expected')::double, 10) as srm_min_expected,
    coalesce(getvariable('srm_min_deviation')::double, 0.001) as srm_min_deviation,
    coalesce(getvariable('srm_concentration')::double, 1000) as srm_concentration,
    coalesce(getvariable('crossover_warning')::double, 0.001) as crossover_warning,
    coalesce(getvariable('crossover_alarm')::double, 0.01) as crossover_alarm,
    coalesce(getvariable('crossover_min_units')::bigint, 10) as crossover_min_units,
    coalesce(getvariable('bot_warning')::double, 0.05) as bot_warning,
    coalesce(getvariable('late_after')::interval, interval 1 hour) as late_after,
    coalesce(getvariable('late_warning')::double, 0.01) as late_warning,
    coalesce(getvariable('late_alarm')::double, 0.05) as late_alarm,
    coalesce(getvariable('duplicate_warning')::double, 0.01) as duplicate_warning,
    coalesce(getvariable('duplicate_alarm')::double, 0.05) as duplicate_alarm,
    coalesce(getvariable('missing_alarm')::double, 0.01) as missing_alarm,
    coalesce(getvariable('stale_days')::integer, 30) as stale_days;
