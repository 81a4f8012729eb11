"""An experiment's page: how it stands, its set-up, and what was changed."""

from hashlib import blake2b

import msgspec
import numpy as np
from flask import Response, render_template, request
from flask.typing import ResponseReturnValue

from bandits.context import decode
from bandits.experiment import Experiment
from bandits.store import Record
from webapp.figures import Figure, reward_figure, share_figure
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.campaign.differences import entry
from webapp.pages.campaign.standing import Standing, measure, stand
from webapp.pages.exports import csv_response
from webapp.pages.form.fields import methods
from webapp.services import services

LIVE = ("status", "summary", "shares", "rewards", "versions", "parts")  # what moves on the page
_CHANGES = 100


@pages.get("/experiments/<key:key>")
@needs("viewer")
def experiment(key: str) -> ResponseReturnValue:
    """Show how an experiment stands."""
    record, standing = _standing(key)
    return render_template(
        "experiment.html",
        record=record,
        standing=standing,
        charts=_charts(standing),
        tab="results",
    )


@pages.get("/experiments/<key:key>/live")
@needs("viewer")
def live(key: str) -> ResponseReturnValue:
    """Answer what changes on the page while it is open, and the charts, as JSON."""
    record, standing = _standing(key)
    charts = _charts(standing)
    shown = {"record": record, "standing": standing, "charts": charts}
    parts = {name: render_template(f"live/{name}.html", **shown) for name in LIVE}
    content = {"state": record.state, "parts": parts, "charts": charts}
    body = msgspec.json.encode(content)
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.set_etag(blake2b(body, digest_size=16).hexdigest())
    return response.make_conditional(request)


def _standing(key: str) -> tuple[Record, Standing]:
    engine = services().engine
    record = engine.store.record(key)
    return record, stand(record, engine.results(key))


def _charts(standing: Standing) -> dict[str, Figure]:
    history = standing.results.history
    looks = [row.look for row in standing.arms]
    return {
        "shares": share_figure(history, looks),
        "rewards": reward_figure(history, looks, is_rate=standing.measure.is_rate),
    }


@pages.get("/experiments/<key:key>/setup")
@needs("viewer")
def setup(key: str) -> ResponseReturnValue:
    """Show what is declared, and how a sender calls it."""
    record = services().engine.store.record(key)
    declared = record.configuration.experiment
    return render_template(
        "setup.html",
        record=record,
        declared=declared,
        measure=measure(declared.reward),
        method=next(m for m in methods() if m.name == declared.policy.name),
        sample_choose=_sample_choose(declared),
        sample_reward=_sample_reward(declared),
        tab="setup",
    )


def _sample_choose(declared: Experiment) -> str:
    context = decode(declared.context, np.ones(declared.encoder().n_features))
    request = {"subject_id": "recipient-1", **({"context": context} if context else {})}
    return msgspec.json.encode(request).decode()


def _sample_reward(declared: Experiment) -> str:
    metric = next(iter(declared.reward.metrics))
    event = {"decision_id": "…", "event_id": "1", "metric": metric}
    return msgspec.json.encode({"rewards": [event]}).decode()


@pages.get("/experiments/<key:key>/history")
@needs("viewer")
def history(key: str) -> ResponseReturnValue:
    """Show who changed what, the newest first."""
    record = services().engine.store.record(key)
    before = request.args.get("before", type=int)
    found = services().accounts.changes(
        subject=f"experiment:{key}", before_id=before, limit=_CHANGES + 1
    )
    return render_template(
        "history.html",
        record=record,
        changes=[entry(change) for change in found[:_CHANGES]],
        more=found[_CHANGES - 1].id if len(found) > _CHANGES else None,
        tab="history",
    )


@pages.get("/experiments/<key:key>/results.csv")
@needs("viewer")
def results_csv(key: str) -> ResponseReturnValue:
    """Export the table of versions."""
    record, standing = _standing(key)
    slots = [s.key for s in record.configuration.experiment.slots]
    metrics = list(record.configuration.experiment.reward.metrics)
    head = [*slots, "sent", "complete", "reward", "reward_per_email", "share_now", *metrics]
    rows = [
        [
            *(row.result.variants[s] for s in slots),
            row.result.sent,
            row.result.complete,
            row.result.reward,
            row.result.mean,
            row.result.share_now,
            *(row.result.metrics[m] for m in metrics),
        ]
        for row in standing.arms
    ]
    return csv_response(f"{key}-results.csv", head, rows)


@pages.get("/experiments/<key:key>/history.csv")
@needs("viewer")
def history_csv(key: str) -> ResponseReturnValue:
    """Export the figures behind both charts: cumulative, one row for each point and version."""
    _, standing = _standing(key)
    labels = [row.look.label for row in standing.arms]
    rows = [
        [point.at.isoformat(), point.version, label, sent, complete, reward]
        for point in standing.results.history
        for label, sent, complete, reward in zip(
            labels, point.sent, point.complete, point.reward, strict=False
        )
    ]
    head = ["at", "learned_version", "version", "sent", "complete", "reward"]
    return csv_response(f"{key}-history.csv", head, rows)
