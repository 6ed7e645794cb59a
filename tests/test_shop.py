"""The demo shop is deterministic and decides as its table of expected shares says."""

from __future__ import annotations

from collections import Counter

import pytest
from builders import request
from oracle import Oracle
from shop import (
    CHANGED_SPLIT,
    HOLDOUT_SHARE,
    LARGE_CART,
    MOBILE_SECRET,
    NORDICS,
    WEB_SECRET,
    changed_shop_payload,
    expected_shares,
    shop_payload,
    visitors,
)

COUNT = 3000


def decisions(payload: bytes) -> tuple[Counter, Counter]:
    """(visitors by flag, rule and variant; visitors by who met what) of the web shop, by the oracle."""
    oracle = Oracle(payload)
    by_variant, met = Counter(), Counter()
    for context in visitors(COUNT):
        met["nordic"] += context["country"] in NORDICS
        met["large"] += context["cart_value"] >= LARGE_CART
        for name, result in oracle.resolve_flags(request(context, secret=WEB_SECRET)).items():
            by_variant[name, result.get("assignmentOrigin", ""), result.get("variant", "")] += 1
    return by_variant, met


@pytest.mark.parametrize(
    ("payload", "shares"),
    [
        (shop_payload(), expected_shares()),
        (changed_shop_payload(), expected_shares(checkout_split=CHANGED_SPLIT, chat_launched=True)),
    ],
    ids=["as built", "changed"],
)
def test_shares(payload, shares):
    """Each rule splits those who meet it as expected, within four standard deviations."""
    found, met = decisions(payload)
    assert {key for key in found if key[2]} == set(shares)
    in_trial = COUNT * (1 - HOLDOUT_SHARE)
    for key, share in shares.items():
        name = key[1].split("/")[-1]
        base = {"nordic-experiment": met["nordic"], "trial": in_trial}.get(name, COUNT)
        if name in ("premium-customers", "baseline", "large-carts", "small-carts"):
            continue  # full rollouts: whoever meets them has their only variant
        assert abs(found[key] - share * base) <= 4 * (base * share * (1 - share)) ** 0.5 + 0.02 * base, key
    carts = found["flags/price-format", "flags/price-format/rules/large-carts", "flags/price-format/variants/rounded"]
    assert carts == met["large"]


def test_holdout_gets_the_baseline():
    """Held-out visitors and a fifth of the others are on free shipping's baseline."""
    found, _ = decisions(shop_payload())
    baseline = found[
        "flags/free-shipping", "flags/free-shipping/rules/baseline", "flags/free-shipping/variants/none"
    ]  # fmt: skip
    assert 0.21 < baseline / COUNT < 0.27


def test_same_bytes_again():
    """The same call gives the same bytes and the same visitors."""
    assert shop_payload() == shop_payload()
    assert shop_payload() != changed_shop_payload()
    assert list(visitors(5, seed=7)) == list(visitors(5, seed=7))


def test_mobile_app_has_its_own_flags():
    """The mobile app's client sees only the flags that name it."""
    flags = Oracle(shop_payload()).resolve_flags(request({"visitor_id": "v"}, secret=MOBILE_SECRET))
    assert set(flags) == {"flags/premium-banner", "flags/price-format"}
