"""Charts of an experiment's page, as Plotly figures; the page's script colours text and grid.

Arms keep their colour wherever they appear: Okabe and Ito (2008), "Color universal design", in
their order but without black, which a dark page swallows; then the same colours hatched. The
control is grey.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from bandits.results import HistoryPoint
from simulations.planning.forecast import ForecastSide

HUES = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
GREY = "#8A8F98"
PATTERNS = ("", "/", "x", ".")
_MARKS = ("■", "▨", "▩", "▦")
DASHES = ("solid", "dash", "dot", "dashdot")

MAX_BANDS = 12  # more cannot be distinguished; the rest is one band
_ENOUGH = 30  # complete results from which an arm's average is drawn: with fewer it is mostly noise
_LABEL_GAP = 0.055  # of the chart's height, between two labels at the right edge

Figure = dict[str, Any]


class ArmStyle(Struct, frozen=True):
    """Style of an arm: `hue` is a place in `HUES` (None for grey), `pattern` in `PATTERNS`."""

    label: str
    hue: int | None
    pattern: int

    @property
    def colour(self) -> str:
        """Colour of the arm, as Plotly writes it."""
        return GREY if self.hue is None else HUES[self.hue]


def arm_styles(labels: Sequence[str], control: int) -> list[ArmStyle]:
    """Return the style of each arm, by its place among the arms that are not the control."""
    out = []
    for arm, label in enumerate(labels):
        place = arm - (arm > control)
        hue = None if arm == control else place % len(HUES)
        pattern = 0 if arm == control else place // len(HUES) % len(PATTERNS)
        out.append(ArmStyle(label, hue, pattern))
    return out


class SendShares(Struct, frozen=True, eq=False):
    """Shares of the sends between one point and the next: times (n,), shares (n, K)."""

    times: list[datetime]
    shares: FloatArray


def send_shares(history: Sequence[HistoryPoint]) -> SendShares:
    """Return every arm's share of the sends of each stretch; idle stretches are left out."""
    if not history:
        return SendShares([], np.zeros((0, 0)))
    n_arms = len(history[-1].sent)
    total = np.array([p.sent + [0] * (n_arms - len(p.sent)) for p in history], dtype=np.float64)
    fresh = np.diff(total, axis=0, prepend=np.zeros((1, n_arms)))
    fresh = np.maximum(fresh, 0)  # cancelling takes sends back
    busy = fresh.sum(axis=1) > 0
    shares = fresh[busy] / fresh[busy].sum(axis=1, keepdims=True)
    return SendShares([p.at for p, b in zip(history, busy, strict=True) if b], shares)


def average_rewards(history: Sequence[HistoryPoint]) -> FloatArray:
    """Return the average reward of complete results so far, (n, K); NaN while there are few."""
    n_arms = len(history[-1].complete) if history else 0
    out = np.full((len(history), n_arms), np.nan)
    for row, point in zip(out, history, strict=True):
        complete = np.array(point.complete, dtype=np.float64)
        enough = complete >= _ENOUGH
        reward = np.array(point.reward)[enough]
        row[: len(complete)][enough] = reward / complete[enough]
    return out


def share_figure(history: Sequence[HistoryPoint], arms: Sequence[ArmStyle]) -> Figure:
    """Draw the share of sends over time: a stacked area, labels at the right edge."""
    stretches = send_shares(history)
    bands = _bands(stretches.shares, arms)
    times = [t.isoformat() for t in stretches.times]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "stackgroup": "sends",
            "x": times,
            "y": shares.round(5).tolist(),
            "name": escape_html(style.label),
            "meta": style.label,
            "line": {"width": 0.5, "color": style.colour},
            "fillcolor": style.colour,
            "fillpattern": {"shape": PATTERNS[style.pattern], "fgopacity": 0.7},
            "hovertemplate": "%{y:.1%}",
        }
        for style, shares in bands
    ]
    layout = _layout({"range": [0, 1], "tickformat": ".0%"}, stacked=True)
    if times:
        last = np.array([shares[-1] for _, shares in bands])
        middles = np.cumsum(last) - last / 2
        wide = last >= _LABEL_GAP
        labels = [style for (style, _), w in zip(bands, wide, strict=True) if w]
        layout["annotations"] = _labels(middles[wide], labels)
    return {"data": data, "layout": layout}


def reward_figure(
    history: Sequence[HistoryPoint], arms: Sequence[ArmStyle], *, is_rate: bool
) -> Figure:
    """Draw the average result of each arm so far over time, one line an arm, from zero."""
    means = average_rewards(history)
    times = [p.at.isoformat() for p in history]
    shown = [k for k in _largest(history, arms) if np.isfinite(means[:, k]).any()]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": times,
            "y": [None if np.isnan(m) else round(m, 6) for m in means[:, k].tolist()],
            "name": escape_html(arms[k].label),
            "meta": arms[k].label,
            "line": {"width": 2, "color": arms[k].colour, "dash": DASHES[arms[k].pattern]},
            "hovertemplate": "%{y:.2%}" if is_rate else "%{y:.4g}",
        }
        for k in shown
    ]
    reach = _y_range(means[:, shown])
    layout = _layout({"range": reach, **({"tickformat": ".1%"} if is_rate else {})}, stacked=False)
    if shown:
        ends = means[-1, shown]
        places = _spread_labels(ends, gap=_LABEL_GAP * (reach[1] - reach[0]))
        layout["annotations"] = _labels(places, [arms[k] for k in shown])
    return {"data": data, "layout": layout}


def figure_styles(figure: Figure) -> list[ArmStyle]:
    """Return the styles of what a chart of arms shows, in its order."""
    styles = []
    for trace in figure["data"]:
        colour = trace["line"]["color"]
        pattern = (
            PATTERNS.index(trace["fillpattern"]["shape"])
            if "fillpattern" in trace
            else DASHES.index(trace["line"]["dash"])
        )
        hue = HUES.index(colour) if colour in HUES else None
        styles.append(ArmStyle(trace["meta"], hue, pattern))
    return styles


def _y_range(means: FloatArray) -> list[float]:
    """Choose the y axis for lines (n, k): from zero, not stretched by early noise."""
    settled = means[len(means) // 2 :]
    finite = settled[np.isfinite(settled)]
    if not finite.size:
        return [0.0, 1.0]
    low, high = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    return [1.2 * low, 1.2 * high or 1.0]


def _largest(history: Sequence[HistoryPoint], arms: Sequence[ArmStyle]) -> list[int]:
    """List the arms with most sends, at most `MAX_BANDS`, in their own order."""
    if not history:
        return []
    sent = np.array(history[-1].sent)
    return sorted(np.argsort(-sent, kind="stable")[: min(MAX_BANDS, len(arms))].tolist())


def _bands(shares: FloatArray, arms: Sequence[ArmStyle]) -> list[tuple[ArmStyle, FloatArray]]:
    """Pair styles with shares (n,); the smallest of many arms share one band on top."""
    n_arms = shares.shape[1]
    if n_arms <= MAX_BANDS:
        return [(arms[k], shares[:, k]) for k in range(n_arms)]
    order = np.argsort(-shares.sum(axis=0), kind="stable")
    largest, rest = sorted(order[: MAX_BANDS - 1].tolist()), order[MAX_BANDS - 1 :]
    others = ArmStyle(f"{len(rest)} others", None, 3)
    return [*((arms[k], shares[:, k]) for k in largest), (others, shares[:, rest].sum(axis=1))]


def _spread_labels(values: FloatArray, gap: float) -> FloatArray:
    """Move label positions (n,) until they are `gap` apart, each as little as its group allows."""
    order = np.argsort(values, kind="stable")
    groups: list[tuple[float, int]] = []  # the middle and the size of labels that touch
    for value in values[order].tolist():
        groups.append((value, 1))
        while len(groups) > 1 and _do_touch(groups[-2], groups[-1], gap):
            (upper, n), (lower, m) = groups.pop(), groups.pop()
            groups.append(((upper * n + lower * m) / (n + m), n + m))
    out = np.empty_like(values)
    out[order] = [
        middle + gap * (i - (size - 1) / 2) for middle, size in groups for i in range(size)
    ]
    return out


def _do_touch(lower: tuple[float, int], upper: tuple[float, int], gap: float) -> bool:
    return upper[0] - lower[0] < gap * (lower[1] + upper[1]) / 2


def _labels(places: FloatArray, arm_styles: Sequence[ArmStyle]) -> list[dict[str, Any]]:
    """Write names at the right edge, at `places` (n,) of the y axis, each with its mark."""
    return [
        {
            "xref": "paper",
            "x": 1,
            "y": place,
            "xanchor": "left",
            "yanchor": "middle",
            "xshift": 6,
            "showarrow": False,
            "align": "left",
            "text": f'<span style="color:{style.colour}">{_MARKS[style.pattern]}</span>'
            f" {escape_html(style.label)}",
        }
        for place, style in zip(places.tolist(), arm_styles, strict=True)
    ]


def escape_html(text: str) -> str:
    """Write text so that Plotly, which reads a little HTML, shows it as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _layout(yaxis: dict[str, Any], *, stacked: bool) -> dict[str, Any]:
    return {
        "margin": {"l": 52, "r": 200, "t": 12, "b": 44},
        "hovermode": "x unified" if stacked else "x",
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"type": "date", "showgrid": False, "fixedrange": True},
        "yaxis": {"fixedrange": True, "zeroline": True, **yaxis},
        "uirevision": "keep",
    }


def forecast_figure(sides: Mapping[str, ForecastSide], y_title: str) -> Figure:
    """Draw the extra reward of ways to send a campaign, against an equal split."""
    from simulations.reporting.charts import ChartLine, line_figure  # noqa: PLC0415 - plotly is loaded when used

    lines = [ChartLine(label, s.emails, *s.curve) for label, s in sides.items()]
    chart = line_figure(lines, title="", x_title="emails sent", y_title=y_title)
    chart.update_layout(margin={"t": 12})
    figure: Figure = json.loads(chart.to_json())
    return figure
