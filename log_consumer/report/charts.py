"""Charts as SVG. Vega-Lite draws them, in a JavaScript engine that comes with vl-convert and is given no network.

Colours are variables of the page's style sheet, so that a chart follows light and dark. No name of somebody else's
making goes in: a control character in a text that vl-convert measures ends the whole process. Names are put in
afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flagedge.errors import SettingsError
from log_consumer.report.markup import Html, escape
from log_consumer.report.wording import P_MIN

Spec = dict[str, Any]
Points = Sequence[dict[str, Any]]
# Number of an allocation epoch, and when it began.
Epochs = Sequence[tuple[int, datetime]]

WIDTH, HEIGHT = 460, 220
VEGA_LITE = "6.4"
# Points of a line; more cannot be told apart at this width.
POINTS_MAX = 200
# Characters of a name in a chart.
NAME_MAX = 60
PLACE = re.compile(r">name of (\d+)<")
DASHES = ([1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2], [12, 3], [6, 2, 1, 2])
# As many as page.css has; what comes after them begins again, with the same dashes.
COLOURS = [f"var(--s{number})" for number in range(1, len(DASHES) + 1)]
# What is longer is marked by days alone. At midnight an hour is its day.
SHORT_DAYS = 4
DAYS_LABEL = "utcFormat(datum.value, '%-d %b')"
HOURS_LABEL = "utcFormat(datum.value, utchours(datum.value) + utcminutes(datum.value) ? '%H:%M' : '%-d %b')"
INK, SOFT, LINE, PAPER, ALARM = "var(--ink)", "var(--soft)", "var(--line)", "var(--paper)", "var(--alarm)"
CONFIG: Spec = {
    "aria": False,
    "background": None,
    "font": "sans-serif",
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        "domain": False, "ticks": False, "gridColor": LINE, "labelColor": SOFT, "labelFontSize": 12, "labelPadding": 7,
        "title": None, "labelFlush": False,
    },
    "axisX": {"grid": False, "domain": True, "domainColor": LINE, "labelOverlap": "greedy", "labelSeparation": 30},
    "axisY": {"tickCount": 4, "labelExpr": "format(datum.value, '~s')"},
    "text": {"fontSize": 12, "fill": SOFT},
}  # fmt: skip


def draw_exposures(points: Points, *, step: timedelta, epochs: Epochs) -> Html | None:
    """Stacked steps. Points: at, series, count; every series at every moment that has points, 0 at the others."""
    if not points:
        return None
    closed = _close(points, step, count=0)
    area = {
        "mark": {"type": "area", "interpolate": "step-after", "stroke": PAPER, "strokeWidth": 1},
        "encoding": {
            "x": _time_axis(points, step),
            "y": {"field": "count", "type": "quantitative", "stack": "zero"},
            "color": _by_series(points, COLOURS),
            "order": {"field": "series", "type": "ordinal", "sort": "descending"},
        },
    }
    return _draw({"data": {"values": _with_times(closed)}, "layer": [area, *_mark_epochs(epochs)]})


def draw_units(points: Points, *, step: timedelta, epochs: Epochs) -> Html | None:
    """Lines that only rise. Points: at, series, count; every series at every moment, as it is by then."""
    if not points:
        return None
    line = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            "x": _time_axis(points, step),
            "y": {"field": "count", "type": "quantitative"},
            "color": _by_series(points, COLOURS),
            "strokeDash": _by_series(points, DASHES),
        },
    }
    return _draw({"data": {"values": _with_times(points)}, "layer": [line, *_mark_epochs(epochs)]})


def draw_deviations(points: Points, names: Sequence[str]) -> Html | None:
    """Off what is expected, in percentage points. Points: series, low, deviation, high; `names` by series."""
    if not points:
        return None
    y = {"field": "series", "type": "ordinal", "axis": None}
    x: Spec = {
        "type": "quantitative", "scale": {"zero": True, "nice": True},
        "axis": {
            "labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+.2~f')",
            "grid": True, "domain": False, "tickCount": 5,
        },
    }  # fmt: skip
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 1.5, "color": SOFT}, "encoding": {"x": {"datum": 0, **x}}},
        {
            "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "opacity": 0.55},
            "encoding": {
                "x": {"field": "low", **x},
                "x2": {"field": "high"},
                "y": y,
                "color": _by_series(points, COLOURS),
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 110, "shape": "diamond", "opacity": 1},
            "encoding": {"x": {"field": "deviation", **x}, "y": y, "color": _by_series(points, COLOURS)},
        },
        {
            "mark": {"type": "text", "align": "left", "x": 2, "dy": -15, "fontSize": 12, "fill": INK},
            "encoding": {"y": y, "text": {"field": "place"}},
        },
    ]
    placed = [{**point, "place": _place_of(point["series"])} for point in points]
    chart = _draw({"data": {"values": placed}, "layer": layers}, height=60 + 46 * len(points))
    # All at once: a name may be what stands in another's place.
    return Html(PLACE.sub(lambda place: f">{_cut(names[int(place[1])])}<", chart))


def draw_p_values(points: Points, *, alpha: float, epochs: Epochs) -> Html | None:
    """Steps down a logarithmic axis. Points: at, p."""
    if not points:
        return None
    kept = _thin([{**point, "p": max(point["p"], P_MIN)} for point in points])
    low = min(alpha / 10, min(point["p"] for point in kept) / 3)
    y = {
        "type": "quantitative", "scale": {"type": "log", "domain": [low, 1], "nice": False},
        "axis": {"labelExpr": "format(datum.value, datum.value < 0.001 ? '.0e' : '~g')", "tickCount": 4},
    }  # fmt: skip
    layers = [
        {
            "data": {"values": [{"low": low, "alpha": alpha}]},
            "mark": {"type": "rect", "color": ALARM, "opacity": 0.1},
            "encoding": {"y": {"field": "low", **y}, "y2": {"field": "alpha"}},
        },
        {
            "data": {"values": [{"alpha": alpha, "label": f"alarm below {alpha:g}"}]},
            "encoding": {"y": {"field": "alpha", **y}},
            "layer": [
                {"mark": {"type": "rule", "color": ALARM, "strokeDash": [4, 3]}},
                {
                    "mark": {"type": "text", "align": "right", "x": "width", "dx": -2, "dy": -8, "fill": ALARM},
                    "encoding": {"text": {"field": "label"}},
                },
            ],
        },
        {
            "mark": {
                "type": "line",
                "interpolate": "step-after",
                "strokeWidth": 2,
                "color": INK,
                "point": len(kept) == 1,
            },
            "encoding": {"x": _time_axis(kept, timedelta(hours=1)), "y": {"field": "p", **y}},
        },
        *_mark_epochs(epochs),
    ]
    return _draw({"data": {"values": _with_times(kept)}, "layer": layers})


def draw_delivery(points: Points, *, step: timedelta) -> Html | None:
    """What was sent as steps, and a triangle at every step of which something is missing. Points: at, sent, missing."""
    if not points:
        return None
    x = _time_axis(points, step)
    closed = _close(points, step, sent=0, missing=0)
    half = timedelta(microseconds=step / timedelta(microseconds=2))
    middles = [{**point, "at": point["at"] + half} for point in points if point["missing"] > 0]
    layers = [
        {
            "mark": {"type": "area", "interpolate": "step-after", "color": COLOURS[0], "opacity": 0.75},
            "encoding": {"x": x, "y": {"field": "sent", "type": "quantitative"}},
        },
        {
            "data": {"values": _with_times(middles)},
            "mark": {
                "type": "point", "shape": "triangle-down", "filled": True, "size": 90, "color": ALARM, "opacity": 1,
                "yOffset": -6,
            },
            "encoding": {"x": x, "y": {"field": "sent", "type": "quantitative"}},
        },
    ]  # fmt: skip
    return _draw({"data": {"values": _with_times(closed)}, "layer": layers})


def _place_of(series: int) -> str:
    """What a chart says where a name belongs; PLACE finds it."""
    return f"name of {series}"


def _cut(name: str) -> Html:
    return escape(name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 1]}…")


def describe(chart: Html, text: str) -> Html:
    """The chart as one picture with an alternative text."""
    return Html(chart.replace("<svg ", f'<svg role="img" aria-label="{escape(text)}" ', 1))


def _mark_epochs(epochs: Epochs) -> list[Spec]:
    """A line where other shares came into force, with the number of the epoch."""
    if not epochs:
        return []
    marks = [{"at": at, "label": f"epoch {number}"} for number, at in epochs]
    x = {"field": "at", "type": "temporal"}
    return [
        {
            "data": {"values": _with_times(marks)},
            "encoding": {"x": x},
            "layer": [
                {"mark": {"type": "rule", "color": SOFT, "strokeDash": [2, 2]}},
                {
                    "mark": {"type": "text", "align": "right", "dx": -4, "y": 6, "fontSize": 11},
                    "encoding": {"text": {"field": "label"}},
                },
            ],
        }
    ]


def _time_axis(points: Points, step: timedelta) -> Spec:
    times = [point["at"] for point in points]
    day_count = (max(times) - min(times)) / timedelta(days=1)
    is_short = day_count < SHORT_DAYS and step < timedelta(days=1)
    return {
        "field": "at", "type": "temporal", "scale": {"type": "utc"},
        "axis": {
            "labelExpr": HOURS_LABEL if is_short else DAYS_LABEL,
            # A day has one name, so it has one mark.
            "tickCount": 6 if is_short else max(1, min(6, round(day_count))),
        },
    }  # fmt: skip


def _by_series(points: Points, looks: Sequence[Any]) -> Spec:
    numbers = sorted({point["series"] for point in points})
    scale = {"domain": numbers, "range": [looks[number % len(looks)] for number in numbers]}
    return {"field": "series", "type": "ordinal", "legend": None, "scale": scale}


def _with_times(points: Points) -> list[dict[str, Any]]:
    return [{**point, "at": int(point["at"].replace(tzinfo=UTC).timestamp() * 1000)} for point in points]


def _close(points: Points, step: timedelta, **nothing: int) -> list[dict[str, Any]]:
    """For steps: what a moment without points has instead, and the end of the last step, where the next would begin."""
    by_time: dict[datetime, list[dict[str, Any]]] = {}
    for point in points:
        by_time.setdefault(point["at"], []).append(point)
    first, last = min(by_time), max(by_time)
    blank = [{**point, **nothing} for point in by_time[first]]
    moments = (first + number * step for number in range((last - first) // step + 1))
    filled = [{**point, "at": at} for at in moments for point in by_time.get(at, blank)]
    return [*filled, *({**point, "at": last + step} for point in by_time[last])]


def _thin(points: Points) -> Points:
    """At most POINTS_MAX of them, the first and the last among them."""
    if len(points) <= POINTS_MAX:
        return points
    places = {round(place * (len(points) - 1) / (POINTS_MAX - 1)) for place in range(POINTS_MAX)}
    return [points[place] for place in sorted(places)]


def _draw(spec: Spec, *, width: int = WIDTH, height: int = HEIGHT) -> Html:
    """Raises SettingsError when what draws is not installed."""
    try:
        import vl_convert  # noqa: PLC0415 - an extra, and 90 MB
    except ImportError:
        raise SettingsError(["charts are drawn by vl-convert-python: pip install 'flagedge[report]'"]) from None
    whole = {"width": width, "height": height, "autosize": {"type": "fit", "contains": "padding"}, "config": CONFIG}
    svg: str = vl_convert.vegalite_to_svg(whole | spec, vl_version=VEGA_LITE, allowed_base_urls=[])
    # Its size is the style sheet's matter; its background is the page's.
    return Html(svg.replace(f' width="{width}" height="{height}" ', " ", 1))
