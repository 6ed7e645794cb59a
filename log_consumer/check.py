"""`log-consumer check`: the view `checks` for cron and CI, a line for each check that failed, and a webhook told once.

An alarm fails the command; a warning does only when it is asked to. What the webhook was told is kept in the database,
in told_findings; a finding that is gone is forgotten, so that it is told again should it come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from flagedge.alert import TEXT_MAX_CHARS
from log_consumer.printable import printable
from log_consumer.store import Reader, Store

Status = Literal["warning", "alarm"]
FAILED = """
select name, flag, rule, status, value, reason
from checks
where status in ('alarm', 'warning')
order by status, flag nulls first, rule, name
"""
# More would not be read; what is cut off is counted.
TOLD_LINES = 20
# A line may grow fivefold by Slack's escapes, and the first has to fit.
LINE_MAX_CHARS = 300
# Slack's own three; with these it takes no text of ours for a link or a mention.
SLACK_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed; `rule` is None where it concerns everything."""

    name: str
    flag: str | None
    rule: str | None
    status: Status
    value: float | None
    reason: str

    @property
    def key(self) -> tuple[str, str | None, str]:
        """By which it is known as the same, whatever its figures are by now."""
        return self.name, self.rule, self.status

    def __str__(self) -> str:
        """One line."""
        return printable(f"{self.status}: {self.rule or 'everything'}: {self.name}: {self.reason}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_failed(reader: Reader) -> list[Finding]:
    """Every check that failed, alarms first. Raises LocalError when the database cannot be had."""
    with reader.look() as connection:
        return [Finding(*row) for row in connection.execute(FAILED).fetchall()]


def tell_new(store: Store, findings: Sequence[Finding], send: Callable[[str], bool], *, now: datetime) -> int:
    """Send one text about the findings that were not told yet; how many those were.

    If it cannot be sent, they are still new at the next run. Not for several runs at once: both would tell.
    """
    with store.transaction(merge=False) as connection:
        rows = connection.execute("select name, rule, status from told_findings").fetchall()
    told = {tuple(row) for row in rows}
    new = [finding for finding in findings if finding.key not in told]
    still = [finding for finding in findings if finding.key in told]
    if new and not send(write_notice(new)):
        new = []
    if new or len(still) < len(told):
        with store.transaction(merge=False) as connection:
            connection.execute("delete from told_findings")
            for finding in [*still, *new]:
                connection.execute("insert into told_findings values ($1, $2, $3, $4)", [*finding.key, now])
    return len(new)


def write_notice(findings: Sequence[Finding]) -> str:
    """The text for a webhook, short enough for it; names in it cannot pass for links or mentions."""
    lines = [f"{len(findings):,} new finding{'s' if len(findings) > 1 else ''} of log-consumer check"]
    room = TEXT_MAX_CHARS - len(lines[0]) - len(_count_rest(len(findings)))
    for finding in findings[:TOLD_LINES]:
        line = "\n" + _escape(_shorten(str(finding)))
        if len(line) > room:
            break
        room -= len(line)
        lines.append(line)
    return "".join(lines) + _count_rest(len(findings) - len(lines) + 1)


def _count_rest(count: int) -> str:
    return f"\nand {count:,} more" if count else ""


def _shorten(line: str) -> str:
    """Without its middle, where names are; what it is and why stand at the ends."""
    if len(line) <= LINE_MAX_CHARS:
        return line
    return f"{line[: LINE_MAX_CHARS // 2]}…{line[1 - LINE_MAX_CHARS // 2 :]}"


def _escape(text: str) -> str:
    return "".join(SLACK_ESCAPES.get(each, each) for each in text)
