"""A web shop as a demo: its flags, its visitors, and the shares its dashboard should show.

Six flags of the account `flagedge-demo`, all decided per `visitor_id`:

    checkout-layout   an experiment on everybody over three layouts (50/30/20)
    recommendations   an experiment on visitors from the Nordic countries
    premium-banner    shown to premium customers with app version 2.4.0 or newer
    live-chat         switched off: its launch rule is disabled, the rule below it says "off"
    free-shipping     a trial that a holdout of 5 % never sees and of which a fifth falls through to the baseline
    price-format      by the value of the cart

Everything is deterministic: the same call gives the same bytes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from builders import (
    and_,
    assignment,
    bitset,
    client,
    credential,
    eq,
    fallthrough,
    flag,
    in_range,
    in_segment,
    not_,
    one_of,
    payload,
    rule,
    schema,
    segment,
    split,
    state,
    variant,
    version,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flagedge.wire.state_pb2 import Flag, Segment

ACCOUNT = "flagedge-demo"
WEB_SECRET = "demo-secret-of-the-web-shop"
MOBILE_SECRET = "demo-secret-of-the-mobile-app"
NORDICS = ("SE", "NO", "DK", "FI")
HOLDOUT_SHARE = 0.05
LARGE_CART = 100.0
CHANGED_SPLIT = (20, 30, 50)

_UNIT = "visitor_id"
_WEB = ("web-shop",)
_BOTH = ("web-shop", "mobile-app")


def shop_payload(*, checkout_split: tuple[int, int, int] = (50, 30, 20), account: str = ACCOUNT) -> bytes:
    """The shop's state as the CDN serves it."""
    return _payload(checkout_split, chat_launched=False, account=account)


def changed_shop_payload() -> bytes:
    """The state after somebody worked on it: another checkout split, and live chat is launched."""
    return _payload(CHANGED_SPLIT, chat_launched=True)


def _payload(checkout_split: tuple[int, int, int], *, chat_launched: bool, account: str = ACCOUNT) -> bytes:
    shop = state(
        _checkout_layout(checkout_split),
        _recommendations(),
        _premium_banner(),
        _live_chat(launched=chat_launched),
        _free_shipping(),
        _price_format(),
        segments=_segments(),
        bitsets=[bitset("holdout", share=HOLDOUT_SHARE, seed=5)],
        clients=[client("web-shop"), client("mobile-app")],
        credentials=[
            credential("web", client="web-shop", secret=WEB_SECRET),
            credential("mobile", client="mobile-app", secret=MOBILE_SECRET),
        ],
    )
    return payload(shop, account, destinations=[1])


def _segments() -> list[Segment]:
    premium = {"premium": eq("plan", "premium"), "recent": in_range("app_version", at_least=version("2.4.0"))}
    return [
        segment("checkout-visitors"),
        segment("nordics", one_of("country", *NORDICS)),
        segment("premium-app", criteria=premium, expression=and_("premium", "recent")),
        segment("chat-visitors"),
        segment("holdout"),
        segment("outside-holdout", criteria={"held_out": in_segment("holdout")}, expression=not_("held_out")),
        segment("all-shoppers"),
        segment("large-carts", in_range("cart_value", at_least=LARGE_CART)),
        segment("small-carts", in_range("cart_value", at_least=0, below=LARGE_CART)),
    ]


# --- flags ----------------------------------------------------------------------------------------------------------


def _checkout_layout(shares: tuple[int, int, int]) -> Flag:
    choices = split(**dict(zip(["classic", "compact", "one-page"], shares, strict=True)))
    return flag(
        "checkout-layout",
        rule("experiment", segment="checkout-visitors", selector=_UNIT, assignments=choices, bucket_count=sum(shares)),
        variants=[
            variant("classic", {"layout": "classic", "steps": 4, "express_pay": False}),
            variant("compact", {"layout": "compact", "steps": 2, "express_pay": False}),
            variant("one-page", {"layout": "one-page", "steps": 1, "express_pay": True}),
        ],
        schema=schema({"layout": str, "steps": int, "express_pay": bool}),
        clients=_WEB,
    )


def _recommendations() -> Flag:
    choices = split(bestsellers=50, personal=50)
    return flag(
        "recommendations",
        rule("nordic-experiment", segment="nordics", selector=_UNIT, assignments=choices),
        variants=[
            variant("bestsellers", {"source": "bestsellers", "slots": 4}),
            variant("personal", {"source": "personal", "slots": 6, "weights": {"recency": 0.7, "price": 0.3}}),
        ],
        schema=schema({"source": str, "slots": int, "weights": {"recency": float, "price": float}}),
        clients=_WEB,
    )


def _premium_banner() -> Flag:
    return flag(
        "premium-banner",
        rule("premium-customers", segment="premium-app", selector=_UNIT, assignments=[assignment("shown")]),
        variants=[variant("shown", {"title": "Thank you for being with us", "colour": "#1a7f5a"})],
        schema=schema({"title": str, "colour": str}),
        clients=_BOTH,
    )


def _live_chat(*, launched: bool) -> Flag:
    return flag(
        "live-chat",
        rule("launch", segment="chat-visitors", selector=_UNIT, enabled=launched, assignments=[assignment("on")]),
        rule("kill-switch", segment="chat-visitors", selector=_UNIT, assignments=[assignment("off")]),
        variants=[variant("on", {"enabled": True}), variant("off", {"enabled": False})],
        schema=schema({"enabled": bool}),
        clients=_WEB,
    )


def _free_shipping() -> Flag:
    trial = [assignment("banner", (0, 40)), assignment("badge", (40, 80)), fallthrough((80, 100))]
    return flag(
        "free-shipping",
        rule("trial", segment="outside-holdout", selector=_UNIT, assignments=trial),
        rule("baseline", segment="all-shoppers", selector=_UNIT, assignments=[assignment("none")]),
        variants=[
            variant("banner", {"style": "banner", "free_from": 49.0}),
            variant("badge", {"style": "badge", "free_from": 49.0}),
            variant("none", {"style": "none"}),
        ],
        schema=schema({"style": str, "free_from": float}),
        clients=_WEB,
    )


def _price_format() -> Flag:
    return flag(
        "price-format",
        rule("large-carts", segment="large-carts", selector=_UNIT, assignments=[assignment("rounded")]),
        rule("small-carts", segment="small-carts", selector=_UNIT, assignments=[assignment("exact")]),
        variants=[variant("rounded", {"decimals": 0}), variant("exact", {"decimals": 2})],
        schema=schema({"decimals": int}),
        clients=_BOTH,
    )


# --- visitors and what to expect of them -----------------------------------------------------------------------------


def visitors(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Evaluation contexts of `count` different visitors; two seeds have no visitor in common."""
    draw = random.Random(seed)
    for number in range(count):
        yield {
            "visitor_id": f"visitor-{seed}-{number:06d}",
            "country": draw.choices(["SE", "NO", "DK", "FI", "DE", "GB", "US"], [30, 12, 10, 8, 20, 10, 10])[0],
            "plan": draw.choices(["free", "plus", "premium"], [70, 20, 10])[0],
            "app_version": draw.choices(["2.2.1", "2.3.9", "2.4.0", "2.10.2", "3.0.0"], [10, 20, 30, 30, 10])[0],
            "cart_value": round(draw.lognormvariate(4.0, 0.8), 2),
            "returning": draw.random() < 0.4,
        }


def expected_shares(
    *, checkout_split: tuple[int, int, int] = (50, 30, 20), chat_launched: bool = False
) -> dict[tuple[str, str, str], float]:
    """(flag, rule, variant) -> share of the visitors who meet the rule, by full names.

    Without the visitors that fall through, who are missing from the sum of a rule: a fifth of free-shipping's trial.
    """
    classic, compact, one_page = (share / sum(checkout_split) for share in checkout_split)
    chat = ("launch", "on") if chat_launched else ("kill-switch", "off")
    shares = {
        ("checkout-layout", "experiment", "classic"): classic,
        ("checkout-layout", "experiment", "compact"): compact,
        ("checkout-layout", "experiment", "one-page"): one_page,
        ("recommendations", "nordic-experiment", "bestsellers"): 0.5,
        ("recommendations", "nordic-experiment", "personal"): 0.5,
        ("premium-banner", "premium-customers", "shown"): 1.0,
        ("live-chat", *chat): 1.0,
        ("free-shipping", "trial", "banner"): 0.4,
        ("free-shipping", "trial", "badge"): 0.4,
        ("free-shipping", "baseline", "none"): 1.0,
        ("price-format", "large-carts", "rounded"): 1.0,
        ("price-format", "small-carts", "exact"): 1.0,
    }
    return {
        (f"flags/{name}", f"flags/{name}/rules/{rule_name}", f"flags/{name}/variants/{variant_name}"): share
        for (name, rule_name, variant_name), share in shares.items()
    }
