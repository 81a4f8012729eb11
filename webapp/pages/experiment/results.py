"""Results page of an experiment, kept up to date while it is open."""

from hashlib import blake2b

import msgspec
from flask import Response, render_template, request
from flask.typing import ResponseReturnValue

from bandits.inference.intervals import Finding
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, Figure, reward_figure, share_figure
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.events import EventsView, events_view
from webapp.pages.experiment.labels import slot_name, variant_name
from webapp.pages.experiment.results_view import ResultsView, results_view
from webapp.services import services
from webapp.table_images import interval_picture, text_picture

# Parts of the page that are updated.
LIVE_PARTS = (
    "status",
    "summary",
    "shares",
    "shares_legend",
    "rewards",
    "rewards_legend",
    "versions",
    "others",
    "events",
    "parts",
    "answers",
    "guardrails",
    "health",
)


@pages.get("/experiments/<key:key>")
@needs("viewer")
def experiment(key: str) -> ResponseReturnValue:
    """Show the results of an experiment."""
    record, view = load_results_view(key)
    return render_template(
        "experiment/results.html",
        record=record,
        view=view,
        events=_events(record, view),
        charts=_charts(view),
        tab="results",
    )


@pages.get("/experiments/<key:key>/live")
@needs("viewer")
def live_results(key: str) -> ResponseReturnValue:
    """Answer with the parts of the page that change, and the charts, as JSON."""
    record, view = load_results_view(key)
    charts = _charts(view)
    events = _events(record, view)
    context = {"record": record, "view": view, "events": events, "charts": charts}
    exists = {
        "others": bool(view.others),
        "parts": len(view.parts) > 1,
        "answers": bool(view.answers),
        "guardrails": view.guardrails.shown,
    }
    parts = {
        n: render_template(f"experiment/live/{n}.html", **context)
        for n in LIVE_PARTS
        if exists.get(n, True)
    }
    content = {"state": record.state, "parts": parts, "charts": charts}
    body = msgspec.json.encode(content)
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.set_etag(blake2b(body, digest_size=16).hexdigest())
    return response.make_conditional(request)


def _events(record: ExperimentRecord, view: ResultsView) -> EventsView:
    """Build the panel of events, with those set aside where machines are left out."""
    judges = record.configuration.experiment.machine_rules is not None
    aside = services().engine.set_aside(record.key) if judges else None
    order = [row.result.index for row in view.ranked]
    return events_view(record, view.results, order, aside)


def load_results_view(key: str) -> tuple[ExperimentRecord, ResultsView]:
    """Read an experiment and its results as of now."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    return record, results_view(record, engine.results(key), engine.clock())


def _charts(view: ResultsView) -> dict[str, Figure]:
    history = view.results.history
    styles = [row.style for row in view.arms]
    is_rate = view.measure.is_rate
    ranked = [(row.style, row.result.value) for row in view.ranked]
    return {
        "shares": share_figure(history, styles),
        "rewards": reward_figure(history, styles, is_rate=is_rate),
        "versions": interval_picture(ranked, is_rate=is_rate),
        "parts": interval_picture(_variants(view), is_rate=is_rate),
        "health": text_picture(
            ("Check", "State", "What it means"),
            [(c.title, c.word, c.sentence) for c in view.health],
            (2, 1.5, 7),
        ),
    }


def _variants(view: ResultsView) -> list[tuple[ArmStyle, Finding]]:
    """List every part's variants, each with its part's name."""
    return [
        (
            ArmStyle(f"{slot_name(part.slot)}: {variant_name(row.variant)}", None, 0),
            row.result.value,
        )
        for part in view.parts
        for row in part.rows
    ]
