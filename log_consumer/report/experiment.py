"""The section of one experiment: how it is, in words, before its charts and tables."""

from __future__ import annotations

from log_consumer.report.blocks import write_blocks
from log_consumer.report.figures import write_figures
from log_consumer.report.gather import Experiment
from log_consumer.report.markup import Html, tag
from log_consumer.report.pieces import write_badge, write_legend, write_name
from log_consumer.report.subject import Subject
from log_consumer.report.wording import shorten_flag, shorten_rule, show_count, show_day, show_p


def write_experiment(experiment: Experiment, *, anchor: str, alpha: float) -> Html:
    """The section that `anchor` names; `alpha` is the p-value below which its shares are an alarm."""
    subject = Subject(experiment, alpha)
    names = subject.assignments.names
    return tag(
        "section",
        _write_head(subject, anchor),
        write_legend(names) if names else None,
        write_figures(subject) if experiment.since else tag("p", "Nothing was exposed yet.", class_="nothing"),
        write_blocks(subject),
        id=anchor,
        class_="experiment",
        aria_labelledby=f"{anchor}-name",
    )


def _write_head(subject: Subject, anchor: str) -> Html:
    flag, rule, health = subject.experiment.flag, subject.experiment.rule, subject.experiment.health
    facts = [
        ("Units", show_count(health["unit_count"])),
        ("p-value", show_p(health["p_value"])),
        ("Score", str(health["score"])),
        ("First exposure", show_day(health["first_at"])),
        ("Last exposure", show_day(health["last_at"])),
    ]
    return tag(
        "header",
        tag("p", tag("a", "↑ All experiments", href="#overview"), class_="up"),
        tag("h2", write_name(shorten_flag(flag)), id=f"{anchor}-name"),
        tag("p", "rule ", write_name(shorten_rule(rule, flag)), class_="rule"),
        tag("p", write_badge(health["verdict"]), " ", tag("span", health["reason"], class_="reason"), class_="verdict"),
        tag("dl", *(tag("div", tag("dt", term), tag("dd", value)) for term, value in facts), class_="facts"),
    )
