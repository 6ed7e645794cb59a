-- Who was exposed to what first, kept beside the exposures so that nobody has to sort through all of them.

-- When a row was loaded, and by which roll it was, or will be, entered into exposed_units. Both are the same for a whole
-- batch, so they cost next to nothing, and what no roll has entered yet is found without reading the rest.
alter table exposures add column landed_at timestamp;
alter table exposures add column roll integer;
alter table fallthrough_exposures add column landed_at timestamp;
alter table fallthrough_exposures add column roll integer;

-- Until the first roll, number 1 is open.
update exposures set landed_at = ledger.landed_at, roll = 1
from ledger
where ledger.isolate = exposures.isolate and ledger.seq = exposures.seq;
update fallthrough_exposures set landed_at = ledger.landed_at, roll = 1
from ledger
where ledger.isolate = fallthrough_exposures.isolate and ledger.seq = fallthrough_exposures.seq;

-- One row per unit, rule, assignment and allocation epoch (the view allocation_epochs): the first exposure of them. As of
-- the last roll; the view unit_exposures adds what landed since.
create table exposed_units (
    flag varchar,
    rule varchar,
    targeting_key varchar,
    targeting_key_selector varchar,
    kind varchar,                     -- variant, client_default or fallthrough
    variant varchar,
    assignment_id varchar,
    first_applied_at timestamp,
    state_etag varchar,               -- the first state of the epoch that decided it
    client varchar,
    sdk varchar,
    sdk_version varchar,
    country varchar,
    source varchar,
    is_bot boolean,
    is_first boolean,                 -- of all rows of this unit and rule
    is_crossover boolean              -- whether they name several assignments
);

-- One row per roll that is done.
create table rolls (
    number integer,
    rolled_at timestamp,
    row_count bigint                  -- of exposed_units, that it wrote
);
