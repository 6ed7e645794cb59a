-- Which keys units were hashed with: what each makes of a constant, which tells keys apart and not what they are.
create table hash_keys (
    key_check varchar,
    used_from timestamp
);
