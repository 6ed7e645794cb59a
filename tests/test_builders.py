"""The builders give what the wire format and Confidence's arithmetic ask for."""

from __future__ import annotations

import gzip

import pytest
from builders import (
    ACCOUNT,
    BITSET_LENGTH,
    all_of,
    and_,
    any_of,
    assignment,
    bitset,
    bloom_filter,
    client_default,
    contains,
    encrypt_payload,
    eq,
    fallthrough,
    flag,
    in_range,
    kindless,
    not_,
    payload,
    rule,
    schema,
    segment,
    split,
    state,
    version,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from murmur import bucket, murmur3_x64_128, population_bucket, variant_bucket

from flagedge.wire.state_pb2 import ClientResolverState, ResolverState


def test_names_become_full():
    """Short names of flags, rules, variants and segments stand for their full names, and full names stay."""
    built = flag("a", rule("r", segment="s"), rule("flags/b/rules/q", segment="segments/t"))
    assert built.name == "flags/a"
    assert [one.name for one in built.rules] == ["flags/a/rules/r", "flags/b/rules/q"]
    assert [one.segment for one in built.rules] == ["segments/s", "segments/t"]
    assert [one.name for one in built.variants] == ["flags/a/variants/on", "flags/a/variants/off"]
    assert built.rules[0].assignment_spec.assignments[0].variant.variant == "flags/a/variants/on"


def test_flag_does_not_change_what_it_is_given():
    """A rule can be used in two flags, since naming happens on a copy."""
    shared = rule("r")
    assert flag("a", shared).rules[0].name == "flags/a/rules/r"
    assert flag("b", shared).rules[0].name == "flags/b/rules/r"


def test_default_rule_is_a_full_rollout_for_everybody():
    """The default state gives everybody variant "on"."""
    built = state(flag())
    [only] = built.flags[0].rules
    assert only.enabled
    assert [(span.lower, span.upper) for span in only.assignment_spec.assignments[0].bucket_ranges] == [(0, 100)]
    assert [one.name for one in built.segments_no_bitsets] == ["segments/everybody"]


def test_split_adjoins_its_ranges():
    """The shares of a split lie side by side from 0."""
    ranges = [[(span.lower, span.upper) for span in one.bucket_ranges] for one in split(a=50, b=30, c=20)]
    assert ranges == [[(0, 50)], [(50, 80)], [(80, 100)]]


def test_payload_decodes():
    """A payload holds the account, the destinations and the state itself."""
    built = state(
        flag("a", rule(assignments=[fallthrough((0, 5)), client_default((5, 10)), assignment("on", (10, 90))]))
    )
    message = ClientResolverState.FromString(payload(built, "acme", destinations=[2, 1]))
    assert (message.account, list(message.log_destinations)) == ("acme", [2, 1])
    assert ResolverState.FromString(message.state) == built


def test_payload_is_deterministic():
    """Equal states give equal bytes, maps and bitsets included."""

    def build(order: list[str]) -> bytes:
        criteria = {key: eq(key, 1) for key in order}
        return payload(state(segments=[segment("s", criteria=criteria)], bitsets=[bitset("s", share=0.01, seed=3)]))

    assert build(["a", "b", "c"]) == build(["c", "b", "a"])


def test_segment_joins_its_criteria():
    """Positional criteria are joined by AND, one alone is a bare reference, none leaves the targeting out."""
    assert not segment("s").HasField("targeting")
    assert segment("s", eq("a", 1)).targeting.expression.ref == "c0"
    both = segment("s", eq("a", 1), eq("b", 2)).targeting
    assert both.expression == and_("c0", "c1")
    assert set(both.criteria) == {"c0", "c1"}
    explicit = segment("s", criteria={"x": eq("a", 1)}, expression=not_("x")).targeting
    assert getattr(explicit.expression, "not").ref == "x"


def test_inner_rules_use_their_own_field_numbers():
    """`any_of` and `all_of` turn a criterion into the inner rule of its attribute."""
    assert any_of(eq("tags", "x")).attribute.any_rule.rule.eq_rule.value.string_value == "x"
    assert all_of(contains("tags", "x")).attribute.all_rule.rule.contains_rule.value == "x"
    assert not any_of("tags").attribute.any_rule.HasField("rule")


def test_values_choose_their_kind():
    """Plain Python values become the kind they look like; None has no kind, and leaving it out is no value."""
    assert eq("a", value=True).attribute.eq_rule.value.WhichOneof("value") == "bool_value"
    assert eq("a", 1).attribute.eq_rule.value.WhichOneof("value") == "number_value"
    assert eq("a", ["x", 1]).attribute.eq_rule.value.WhichOneof("value") == "list_value"
    assert eq("a", None).attribute.eq_rule.value == kindless()
    assert eq("a", None).attribute.eq_rule.HasField("value")
    assert not eq("a").attribute.eq_rule.HasField("value")
    bounds = in_range("v", at_least=version("1.2"), below=version("2")).attribute.range_rule
    assert (bounds.WhichOneof("start"), bounds.WhichOneof("end")) == ("start_inclusive", "end_exclusive")


def test_schema_short_form():
    """A schema in short form becomes the nested message."""
    built = schema({"a": int, "b": {"c": [str]}}).schema
    assert built["a"].WhichOneof("schema_type") == "int_schema"
    assert built["b"].struct_schema.schema["c"].list_schema.element_schema.HasField("string_schema")


def test_bitset_is_gzip_with_a_bare_header():
    """A bitset is a gzip member with a ten byte header and no optional field, its bits least significant first."""
    data = bitset("s", [0, 9, 999_999]).gzipped_bitset
    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    bits = gzip.decompress(data)
    assert (len(bits) * 8, bits[0], bits[1], bits[-1]) == (BITSET_LENGTH, 1, 2, 128)


def test_bitset_share_is_exact():
    """A random bitset sets exactly its share of the bits, the same ones for the same seed."""
    bits = gzip.decompress(bitset("s", share=0.3, seed=1).gzipped_bitset)
    assert sum(byte.bit_count() for byte in bits) == 300_000
    assert bitset("s", share=0.3, seed=1) != bitset("s", share=0.3, seed=2)


def test_encrypted_payload_opens():
    """An encrypted payload is nonce, ciphertext and tag under AES-256-GCM."""
    sealed = encrypt_payload(b"state", "00" * 32, nonce=b"n" * 12)
    assert AESGCM(bytes(32)).decrypt(sealed[:12], sealed[12:], None) == b"state"
    assert len(sealed) == 12 + 5 + 16


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        (b"", 0, 0),
        (b"a", 0x85555565F6597889, 0xE6B53A48510E895A),
        (b"MegaSalt-confidence-test|roug", 0x03218D7DFB23A053, None),
    ],
)
def test_murmur(key, low, high):
    """Murmur3 gives the published hashes."""
    assert murmur3_x64_128(key)[0] == low
    assert high is None or murmur3_x64_128(key)[1] == high


def test_buckets():
    """A bucket is the low word without its last four bits, modulo the count; the account salts only the population."""
    assert population_bucket("confidence-test", "roug") == 567_493
    assert variant_bucket("segments/s", "roug", 1000) == variant_bucket("s", "roug", 1000) == 943
    assert bucket("s|roug", 1000) == 943


def test_bloom_filter_has_the_bits_of_its_units():
    """A bloom filter is whole big-endian longs with at most hash_count bits for a unit."""
    built = bloom_filter("m", ["user1"], hash_count=7, bit_count=960)
    assert len(built.data) == 120
    assert 1 <= sum(byte.bit_count() for byte in built.data) <= 7
    assert ACCOUNT == "test-account"
