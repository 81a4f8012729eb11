"""An experiment's first page: how it stands, kept up to date while it is open."""

from hashlib import blake2b

import msgspec
from flask import Response, render_template, request
from flask.typing import ResponseReturnValue

from bandits.inference.intervals import Finding
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, Figure, reward_figure, share_figure
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import called, titled
from webapp.pages.experiment.results_view import ResultsView, results_view
from webapp.services import services
from webapp.table_images import interval_picture, text_picture

# What moves on the page.
LIVE = ("status", "summary", "shares", "rewards", "versions", "others", "parts", "health")


@pages.get("/experiments/<key:key>")
@needs("viewer")
def experiment(key: str) -> ResponseReturnValue:
    """Show how an experiment stands."""
    record, standing = standing_of(key)
    return render_template(
        "experiment/results.html",
        record=record,
        standing=standing,
        charts=_charts(standing),
        tab="results",
    )


@pages.get("/experiments/<key:key>/live")
@needs("viewer")
def live_results(key: str) -> ResponseReturnValue:
    """Answer what changes on the page while it is open, and the charts, as JSON."""
    record, standing = standing_of(key)
    charts = _charts(standing)
    shown = {"record": record, "standing": standing, "charts": charts}
    there = {"others": bool(standing.others), "parts": len(standing.parts) > 1}
    parts = {
        n: render_template(f"experiment/live/{n}.html", **shown) for n in LIVE if there.get(n, True)
    }
    content = {"state": record.state, "parts": parts, "charts": charts}
    body = msgspec.json.encode(content)
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(blake2b(body, digest_size=16).hexdigest())
    return response.make_conditional(request)


def standing_of(key: str) -> tuple[ExperimentRecord, ResultsView]:
    """Read how an experiment stands now."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    return record, results_view(record, engine.results(key), engine.clock())


def _charts(standing: ResultsView) -> dict[str, Figure]:
    history = standing.results.history
    looks = [row.look for row in standing.arms]
    is_rate = standing.measure.is_rate
    ranked = [(row.look, row.result.value) for row in standing.ranked]
    return {
        "shares": share_figure(history, looks),
        "rewards": reward_figure(history, looks, is_rate=is_rate),
        "versions": interval_picture(ranked, is_rate=is_rate),
        "parts": interval_picture(_variants(standing), is_rate=is_rate),
        "health": text_picture(
            ("Check", "State", "What it means"),
            [(c.title, c.word, c.sentence) for c in standing.health],
            (2, 1.5, 7),
        ),
    }


def _variants(standing: ResultsView) -> list[tuple[ArmStyle, Finding]]:
    """List every part's variants, each with its part's name."""
    return [
        (ArmStyle(f"{titled(part.slot)}: {called(row.variant)}", None, 0), row.result.value)
        for part in standing.parts
        for row in part.rows
    ]
