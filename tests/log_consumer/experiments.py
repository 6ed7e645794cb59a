"""Experiments with a known truth, made in the tables as a drain would leave them; a defect is planted or is not.

Units come over two weeks, one exposure each unless told otherwise, by ISOLATES isolates that send a message an hour.
Everything is drawn from hashes of the unit's number and a seed, so a run can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

SHARES = {"control": 0.5, "treatment": 0.5}
STATE = "state-1"
BEGIN = "timestamp '2026-11-01'"
ISOLATES = 7
HOURS = 14 * 24 + 1


@dataclass(frozen=True, slots=True)
class Experiment:
    """`name` is its flag; `count` of them are made alike, told apart by a number behind the name.

    Parts are of all units, 0 to 1: `lost` of those in treatment leave no trace; `crossing` get another variant later;
    `leaked` get a variant without a share; `bots` are marked and all in control; `late` land a day after they came.
    `after` are the shares in force from the second week on.
    """

    name: str = "checkout"
    count: int = 1
    unit_count: int = 3000
    shares: tuple[float, float] = (0.5, 0.5)
    after: tuple[float, float] | None = None
    lost: float = 0.0
    crossing: float = 0.0
    leaked: float = 0.0
    bots: float = 0.0
    late: float = 0.0
    seed: int = 7


# Draws for a unit: uniform, each `salt` another. One text is hashed: DuckDB's hash of several values mixes them little.
DRAW = "(hash(concat_ws('/', number, experiment, $seed, {salt})) % 1_000_000_007 / 1_000_000_007.0)"
UNITS = f"""
create or replace temp table units as
select
    experiment,
    number,
    $name || if($count > 1, '-' || experiment, '') as name,
    {BEGIN} + to_seconds({DRAW.format(salt=1)} * 14 * 86400) as applied_at,
    if(applied_at >= {BEGIN} + interval 7 days, $later, $share) as share,
    if($has_later and applied_at >= {BEGIN} + interval 7 days, 'state-2', 'state-1') as state_etag,
    {DRAW.format(salt=2)} < $bots as is_bot,
    {DRAW.format(salt=3)} < $leaked as is_leaked,
    {DRAW.format(salt=4)} < $crossing as is_crossing,
    {DRAW.format(salt=5)} < $late as is_late,
    {DRAW.format(salt=6)} < $lost as is_lost,
    case
        when is_leaked then 'retired'
        when is_bot or {DRAW.format(salt=7)} < share then 'control'
        else 'treatment'
    end as variant
from range($count) as experiments(experiment), range($units) as numbers(number)
"""
EXPOSE = f"""
insert into exposures by name
select
    applied_at, 'flags/' || name as flag, flag || '/rules/r' as rule, flag || '/variants/' || variant as variant,
    'segments/s' as segment, variant as assignment_id, 'unit-' || number as targeting_key,
    'visitor_id' as targeting_key_selector, 'MATCH' as reason, false as is_default,
    experiment || '-' || number as resolve_id, 'clients/web' as client, 'api' as source, 'JS' as sdk,
    '1.0' as sdk_version, ['SE', 'DE', 'US'][1 + number % 3] as country, is_bot, state_etag, applied_at as received_at,
    'isolate-' || number % {ISOLATES} as isolate, date_diff('hour', {BEGIN}, applied_at) as seq,
    applied_at + if(is_late, interval 1 day, interval 2 seconds) as landed_at,
    (select roll from open_roll) as roll
from (
    select * from units where not (is_lost and variant = 'treatment')
    union all by name
    select * replace (
        if(variant = 'control', 'treatment', 'control') as variant, applied_at + interval 1 hour as applied_at
    )
    from units where is_crossing
)
"""
ALLOCATE = """
insert into allocations by name
select
    'record-' || $epoch as record_id, timestamp '2026-10-31' + to_days($epoch * 7) as allocated_at,
    'state-' || ($epoch + 1) as state_etag, 'flags/' || name as flag, flag || '/rules/r' as rule,
    'segments/s' as segment, 'visitor_id' as targeting_key_selector, 'variant' as kind,
    flag || '/variants/' || assignment_id as variant, assignment_id, share
from (select distinct name from units),
    (values ('control', $control), ('treatment', $treatment), ('retired', 0.0)) as shares(assignment_id, share)
"""
LEDGER = f"""
insert into ledger by name
select
    isolate, seq, 'flagedge/1' as format, count(landed_at) as row_count, 0 as dropped_count,
    coalesce(max(state_etag), 'state-1') as state_etag, sent_at,
    coalesce(max(landed_at), sent_at + interval 2 seconds) as landed_at, 0 as duplicate_count
from (
    select 'isolate-' || number as isolate, seq, {BEGIN} + to_hours(seq + 1) as sent_at
    from range({ISOLATES}) as isolates(number), range({HOURS}) as hours(seq)
)
left join exposures using (isolate, seq)
anti join ledger using (isolate, seq)
group by isolate, seq, sent_at
"""


def plant(connection: duckdb.DuckDBPyConnection, experiment: Experiment) -> None:
    """Put an experiment into the tables; in the caller's transaction."""
    control, treatment = experiment.shares
    later = experiment.after or experiment.shares
    connection.execute(
        UNITS,
        {
            "name": experiment.name,
            "count": experiment.count,
            "units": experiment.unit_count,
            "share": control,
            "later": later[0],
            "has_later": experiment.after is not None,
            "bots": experiment.bots,
            "leaked": experiment.leaked,
            "crossing": experiment.crossing,
            "late": experiment.late,
            "lost": experiment.lost,
            "seed": experiment.seed,
        },
    )
    connection.execute(EXPOSE)
    connection.execute(ALLOCATE, {"epoch": 0, "control": control, "treatment": treatment})
    if experiment.after:
        connection.execute(ALLOCATE, {"epoch": 1, "control": experiment.after[0], "treatment": experiment.after[1]})


def enter_messages(connection: duckdb.DuckDBPyConnection) -> None:
    """Enter into the ledger what brought the exposures."""
    connection.execute(LEDGER)


def lose_messages(connection: duckdb.DuckDBPyConnection, isolate: str, numbers: range) -> None:
    """Undo the landing of an isolate's messages: neither the ledger nor the exposures have a trace of them."""
    for table in ("ledger", "exposures"):
        connection.execute(
            f"delete from {table} where isolate = $1 and list_contains($2, seq)",
            [isolate, list(numbers)],
        )
