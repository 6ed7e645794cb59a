"""The page: one file that needs no network, and is told by its own policy to use none."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from flagedge import __version__
from log_consumer.report.experiment import write_experiment
from log_consumer.report.gather import Answer, Experiment
from log_consumer.report.markup import Html, tag
from log_consumer.report.overview import anchor_of, write_delivery, write_overview
from log_consumer.report.wording import show_time

FOLDER = Path(__file__).parent
TITLE = "Experiment health"


def write_page(
    experiments: Sequence[Experiment], *, overview: Answer, delivery: Answer, grain: str, checks: Answer, alpha: float,
    now: datetime, since: datetime | None,
) -> str:  # fmt: skip
    """The HTML. Experiments in the order of the overview; `alpha` is the p-value of an alarm, `grain` delivery's."""
    sections = [
        write_experiment(each, anchor=anchor_of(number), alpha=alpha) for number, each in enumerate(experiments, 1)
    ]
    told = f"As of {show_time(now)} UTC" + (f", exposures since {show_time(since)}" if since else "")
    main = tag(
        "main",
        tag("header", tag("h1", TITLE), tag("p", told, class_="told"), id="top"),
        write_overview(experiments, overview),
        *sections,
        write_delivery(delivery, checks, grain=grain),
    )
    foot = tag("footer", tag("p", f"flagedge {__version__}. All times are UTC. The page names no unit."))
    status = tag("p", id="status", role="status", class_="unseen")
    style, script = (_read(name) for name in ("page.css", "page.js"))
    body = tag(
        "body", tag("a", "To the overview", href="#overview", class_="skip"), main, foot, status, tag("script", script)
    )
    return f"<!doctype html>\n{tag('html', _write_head(style, script), body, lang='en')}\n"


def _write_head(style: Html, script: Html) -> Html:
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        # Or a browser asks the place that serves the page for one.
        tag("link", rel="icon", href="data:,"),
        tag("title", TITLE),
        tag("style", style),
    )


def _read(name: str) -> Html:
    return Html((FOLDER / name).read_text(encoding="utf-8"))


def _digest(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
