"""Decisions of a campaign: the latest ones, the receipt of one, and its contributions."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from math import exp

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct
from scipy.special import expit

from bandits.errors import NotFound
from bandits.experiment import Experiment
from bandits.schemas import DecisionReceipt, Prediction
from bandits.store.values import StoredDecision
from webapp.api.routes import DecisionIdConverter
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import Measure, measure, named
from webapp.pages.form.fields import methods
from webapp.pages.formatting import amount, brief
from webapp.services import services

_HUNDRED = 100  # emails, per which effects are told
_NOTHING = 1e-9  # of what pushes most: rounding


class ContributionView(Struct, frozen=True):
    """What one thing pushed towards the chosen version, against the average of those possible.

    Attributes:
        feature: what is known, None for what holds for every recipient.
        words: which way and how much.
        left: where its bar begins, in per cent; 50 is no push.
        width: how long its bar is, in per cent.
    """

    feature: str | None
    words: str
    left: float
    width: float


class PredictionView(Struct, frozen=True):
    """The reward predicted of a version, and from where to where it was thought possible."""

    mean: float
    low: float
    high: float


def contribution_views(
    then: Experiment, receipt: DecisionReceipt, measure: Measure
) -> list[ContributionView]:
    """Tell what each feature contributed to the chosen version; nothing without alternatives."""
    found = receipt.predictions
    if found is None or len(found.arms) == 1:
        return []
    came = " · ".join(receipt.slots[s.key]["variant"] for s in then.slots)
    arms = list(found.arms.values())
    declared = {f.name: f.labels() for f in then.context}
    known = {label for labels in declared.values() for label in labels}
    everybody = [label for label in found.arms[came].features if label not in known]
    deltas = {
        name: _sum(found.arms[came], labels) - sum(_sum(arm, labels) for arm in arms) / len(arms)
        for name, labels in [(None, everybody), *declared.items()]
    }
    most = max(map(abs, deltas.values())) or 1.0
    return [
        ContributionView(
            name,
            "made no difference"
            if abs(delta) <= _NOTHING * most
            else _in_words(delta, measure, odds=found.scale == "log odds"),
            50 + min(0.0, 50 * delta / most),
            abs(50 * delta / most),
        )
        for name, delta in deltas.items()
    ]


def _sum(arm: Prediction, labels: Sequence[str]) -> float:
    return sum(arm.features[label] for label in labels)


def _in_words(delta: float, measure: Measure, *, odds: bool) -> str:
    way = "towards it" if delta > 0 else "away from it"
    if odds:
        return f"{way}: {amount(exp(delta))} times the odds"
    return f"{way} by {measure.of(brief(_HUNDRED * abs(delta)))} per {_HUNDRED} emails"


def prediction_view(receipt: DecisionReceipt) -> dict[str, PredictionView]:
    """List the predictions by arm, as rewards also where they were made as odds."""
    found = receipt.predictions
    if found is None:
        return {}
    turned = expit if found.scale == "log odds" else float
    return {
        name: PredictionView(*(float(turned(arm.total + n * arm.width)) for n in (0, -1, 1)))
        for name, arm in found.arms.items()
    }


_SHOWN = 50


class DecisionRow(Struct, frozen=True):
    """One decision; `mark` says what sets it apart from those that are learned from."""

    id: str
    at: datetime
    version: str
    chance: float
    mark: str


@pages.get("/experiments/<key:key>/decisions")
@needs("viewer")
def latest_decisions(key: str) -> ResponseReturnValue:
    """List what was chosen last."""
    store = services().engine.store
    record = store.experiments.record(key)
    then = cache(store.experiments.configuration)

    def told(stored: StoredDecision) -> DecisionRow:
        configuration = then(key, stored.configuration_version)
        variants = {k: v["variant"] for k, v in configuration.slots_of(stored.arm).items()}
        version = named(configuration.experiment, variants)
        at = datetime.fromtimestamp(stored.made_at, UTC)
        return DecisionRow(stored.id, at, version, stored.propensity, _mark(stored))

    rows = [told(stored) for stored in store.log.latest_decisions(key, limit=_SHOWN)]
    return render_template(
        "experiment/latest_decisions.html",
        record=record,
        rows=rows,
        cut=len(rows) == _SHOWN,
        tab="decisions",
    )


def _mark(stored: StoredDecision) -> str:
    if stored.cancelled_at is not None:
        return "never sent"
    if stored.shipped:
        return "after the stop"
    if stored.fallback:
        return "stand-in"
    return "control group" if stored.holdout else ""


_LONGEST_SUBJECT = 256
_MOST = 100  # decisions of a recipient that are listed


@pages.get("/decisions")
@needs("viewer")
def decisions() -> ResponseReturnValue:
    """Ask for a decision's id."""
    wanted = request.args.get("id", "").strip()
    if re.fullmatch(DecisionIdConverter.regex, wanted):
        return redirect(url_for("pages.decision", decision_id=wanted))
    return render_template("experiment/decisions.html", wanted=wanted)


@pages.post("/decisions")
@needs("viewer")
def subject_decisions() -> ResponseReturnValue:
    """List what was chosen for a recipient; by POST, so that no log keeps who was asked about."""
    who = request.form.get("who", "").strip()[:_LONGEST_SUBJECT]
    found = services().engine.subject(who, limit=_MOST) if who else None
    return render_template(
        "experiment/decisions.html",
        wanted="",
        who=who,
        found=found.decisions if found else [],
        cut=bool(found and found.next is not None),
    )


@pages.get("/decisions/<decision_id:decision_id>")
@needs("viewer")
def decision(decision_id: str) -> ResponseReturnValue:
    """Show what was chosen, with which chance, from what, and what came of it."""
    engine = services().engine
    try:
        receipt = engine.receipt(decision_id)
    except NotFound:
        return render_template("experiment/decisions.html", wanted=decision_id, missing=True), 404
    record = engine.store.experiments.record(receipt.experiment)
    then = engine.store.experiments.configuration(
        record.key, receipt.configuration_version
    ).experiment
    labels = {m.name: m.label for m in methods()}
    counted = measure(then.reward)
    return render_template(
        "experiment/receipt.html",
        receipt=receipt,
        record=record,
        then=then,
        method=labels.get(receipt.policy, receipt.policy),
        chances=_chances(then, receipt),
        measure=counted,
        pushes=contribution_views(then, receipt, counted),
    )


def _chances(
    then: Experiment, receipt: DecisionReceipt
) -> list[tuple[str, float, bool, PredictionView | None]]:
    """List each version that could have come: name, chance, whether it did, prediction."""
    if receipt.propensities is None:
        return []
    keys = [s.key for s in then.slots]
    came = " · ".join(receipt.slots[k]["variant"] for k in keys)
    rows = []
    predicted = prediction_view(receipt)
    for combination in then.combinations():
        joined = " · ".join(combination)
        if joined in receipt.propensities:
            name = named(then, dict(zip(keys, combination, strict=True)))
            rows.append((name, receipt.propensities[joined], joined == came, predicted.get(joined)))
    return sorted(rows, key=lambda row: -row[1])
