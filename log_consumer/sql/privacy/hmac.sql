-- TARGETING_KEY_POLICY=hmac: of a unit is stored what HMAC-SHA-256 (RFC 2104) makes of it under the deployment's key, as
-- lower-case hex. The key's two pads are variables of the connection, so that no statement and no error can quote them.
create or replace temp macro stored_unit(unit) as
    sha256(getvariable('outer_pad') || unhex(sha256(getvariable('inner_pad') || encode(unit))));
create or replace temp macro stored_units(units) as list_transform(units, lambda unit: stored_unit(unit));
