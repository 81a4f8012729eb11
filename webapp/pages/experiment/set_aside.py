"""Page "What was set aside": opens and clicks that machines made, by reason and by whom."""

from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.machines import VerdictReason
from bandits.results import JudgedEvents, SetAside, SetAsideReason
from bandits.store.values import ExperimentRecord
from webapp.charts import HUES, Figure, escape_html
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import arm_name
from webapp.pages.formatting import csv_response, heading
from webapp.services import services

_ROW_PIXELS = 34
_AROUND_PIXELS = 96  # the axis and the legend
_PLURALS = {"open": "Opens", "click": "Clicks", "machine_open": "Opens that the sender flags"}


class SetAsideRow(Struct, frozen=True):
    """Counted and set-aside events of one name, class of mailboxes or version."""

    name: str
    persons: int
    set_aside: int
    not_judged: int | None = None

    @property
    def share(self) -> float | None:
        """Part of the judged events that is set aside; None without any."""
        judged = self.persons + self.set_aside
        return self.set_aside / judged if judged else None


class ReasonRow(Struct, frozen=True):
    """One reason: its label and sentence, and the number of events."""

    label: str
    words: str
    unsure: bool
    total: int


class SetAsideView(Struct, frozen=True):
    """View of what was set aside, as the page shows it.

    Attributes:
        everything: all events together.
        figure: bars of the reasons, None where nothing was set aside.
    """

    result: SetAside
    everything: SetAsideRow
    reasons: tuple[ReasonRow, ...]
    events: tuple[SetAsideRow, ...]
    mailboxes: tuple[SetAsideRow, ...]
    versions: tuple[SetAsideRow, ...]
    figure: Figure | None


@pages.get("/experiments/<key:key>/set-aside")
@needs("viewer")
def set_aside(key: str) -> ResponseReturnValue:
    """Show what was set aside of an experiment's events, and why."""
    record, view = _read(key)
    return render_template("experiment/set_aside.html", record=record, view=view, tab="set_aside")


@pages.get("/experiments/<key:key>/set-aside.csv")
@needs("viewer")
def set_aside_csv(key: str) -> ResponseReturnValue:
    """Export the counts of the page."""
    _, view = _read(key)
    rows: list[list[str | int | None]] = [
        ["reason", row.label, None, row.total] for row in view.reasons
    ]
    for group, of_group in (
        ("event", view.events),
        ("mailbox", view.mailboxes),
        ("version", view.versions),
    ):
        rows += [[group, row.name, row.persons, row.set_aside] for row in of_group]
    return csv_response(f"{key}-set-aside.csv", ["by", "name", "counted", "set_aside"], rows)


def _read(key: str) -> tuple[ExperimentRecord, SetAsideView]:
    engine = services().engine
    record = engine.store.experiments.record(key)
    return record, set_aside_view(record, engine.set_aside(key))


def set_aside_view(record: ExperimentRecord, result: SetAside) -> SetAsideView:
    """Build the page's rows and its chart."""
    experiment = record.configuration.experiment
    versions = tuple(
        SetAsideRow(
            "Control group" if arm.variants is None else arm_name(experiment, arm.variants),
            arm.persons,
            arm.set_aside,
        )
        for arm in result.arms
    )
    reasons = tuple(
        ReasonRow(_reason(row).label, row.words, row.verdict == "unsure", row.total)
        for row in result.reasons
    )
    return SetAsideView(
        result,
        SetAsideRow("", result.persons, result.total),
        reasons,
        tuple(_row(event, events_word(event.name)) for event in result.events),
        tuple(_row(mailbox, mailbox.words) for mailbox in result.mailboxes),
        versions,
        reason_figure(result) if result.reasons else None,
    )


def _reason(row: SetAsideReason) -> VerdictReason:
    return VerdictReason[row.reason.upper()]


def _row(events: JudgedEvents, name: str) -> SetAsideRow:
    return SetAsideRow(name, events.persons, events.set_aside, events.not_judged)


def events_word(name: str) -> str:
    """Write the name of an event in the plural, as it stands alone: Clicks."""
    return _PLURALS.get(name, heading(name))


def reason_figure(result: SetAside) -> Figure:
    """Draw the events that each reason sets aside: a bar a reason, stacked by event."""
    labels = [escape_html(_reason(row).label) for row in result.reasons]
    names = [event.name for event in result.events if event.set_aside]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": labels,
            "x": [row.events.get(name, 0) for row in result.reasons],
            "name": escape_html(events_word(name)),
            "marker": {"color": HUES[(i + 1) % len(HUES)]},
            "hovertemplate": "%{x:,}",
        }
        for i, name in enumerate(names)
    ]
    layout = {
        "barmode": "stack",
        "height": _AROUND_PIXELS + _ROW_PIXELS * len(labels),
        "margin": {"l": 52, "r": 24, "t": 8, "b": 44},
        "showlegend": True,
        "legend": {"orientation": "h", "y": -0.2, "traceorder": "normal"},
        "hovermode": "y unified",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"rangemode": "tozero", "tickformat": ",d", "showgrid": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False},
    }
    return {"data": data, "layout": layout}
