"""Pages of decisions: the latest of an experiment, those of a subject, and the receipt of one."""

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
from webapp.pages.experiment.labels import Measure, arm_name, reward_measure
from webapp.pages.form.fields import methods
from webapp.pages.formatting import amount, short_number
from webapp.services import services

_HUNDRED = 100  # emails, per which effects are written
_NOTHING = 1e-9  # of what pushes most: rounding


class ContributionView(Struct, frozen=True):
    """Contribution of one feature to the choice, against the average of the possible arms.

    Attributes:
        feature: name of the feature, None for the part that is the same for every recipient.
        words: direction and size.
        left: left end of its bar, in per cent; 50 is no contribution.
        width: length of its bar, in per cent.
    """

    feature: str | None
    words: str
    left: float
    width: float


class PredictionView(Struct, frozen=True):
    """Predicted reward of an arm, and the range of the prediction."""

    mean: float
    low: float
    high: float


def contribution_views(
    experiment: Experiment, receipt: DecisionReceipt, measure: Measure
) -> list[ContributionView]:
    """List the contribution of each feature to the chosen arm; none without alternatives."""
    predictions = receipt.predictions
    if predictions is None or len(predictions.arms) == 1:
        return []
    chosen = " · ".join(receipt.slots[s.key]["variant"] for s in experiment.slots)
    arms = list(predictions.arms.values())
    declared = {f.name: f.labels() for f in experiment.context}
    feature_labels = {label for labels in declared.values() for label in labels}
    shared_labels = [
        label for label in predictions.arms[chosen].features if label not in feature_labels
    ]
    deltas = {
        name: _sum(predictions.arms[chosen], labels)
        - sum(_sum(arm, labels) for arm in arms) / len(arms)
        for name, labels in [(None, shared_labels), *declared.items()]
    }
    largest = max(map(abs, deltas.values())) or 1.0
    return [
        ContributionView(
            name,
            "made no difference"
            if abs(delta) <= _NOTHING * largest
            else _contribution_text(delta, measure, odds=predictions.scale == "log odds"),
            50 + min(0.0, 50 * delta / largest),
            abs(50 * delta / largest),
        )
        for name, delta in deltas.items()
    ]


def _sum(arm: Prediction, labels: Sequence[str]) -> float:
    return sum(arm.features[label] for label in labels)


def _contribution_text(delta: float, measure: Measure, *, odds: bool) -> str:
    direction = "towards it" if delta > 0 else "away from it"
    if odds:
        return f"{direction}: {amount(exp(delta))} times the odds"
    size = measure.quantity(short_number(_HUNDRED * abs(delta)))
    return f"{direction} by {size} per {_HUNDRED} emails"


def prediction_views(receipt: DecisionReceipt) -> dict[str, PredictionView]:
    """Return the predictions by arm, as rewards also where the policy predicts odds."""
    predictions = receipt.predictions
    if predictions is None:
        return {}
    to_reward = expit if predictions.scale == "log odds" else float
    return {
        name: PredictionView(*(float(to_reward(arm.total + n * arm.width)) for n in (0, -1, 1)))
        for name, arm in predictions.arms.items()
    }


_SHOWN = 50


class DecisionRow(Struct, frozen=True):
    """One decision; `mark` names why nothing is learned from it, "" where it is learned from."""

    id: str
    at: datetime
    version: str
    chance: float
    mark: str


@pages.get("/experiments/<key:key>/decisions")
@needs("viewer")
def latest_decisions(key: str) -> ResponseReturnValue:
    """List the latest decisions of an experiment."""
    store = services().engine.store
    record = store.experiments.record(key)
    read_configuration = cache(store.experiments.configuration)

    def row(stored: StoredDecision) -> DecisionRow:
        configuration = read_configuration(key, stored.configuration_version)
        variants = {k: v["variant"] for k, v in configuration.slots_of(stored.arm).items()}
        version = arm_name(configuration.experiment, variants)
        at = datetime.fromtimestamp(stored.made_at, UTC)
        return DecisionRow(stored.id, at, version, stored.propensity, _mark(stored))

    rows = [row(stored) for stored in store.log.latest_decisions(key, limit=_SHOWN)]
    return render_template(
        "experiment/latest_decisions.html",
        record=record,
        rows=rows,
        cut=len(rows) == _SHOWN,
        tab="decisions",
    )


def _mark(stored: StoredDecision) -> str:
    if stored.void is not None:
        return "void"
    if stored.cancelled_at is not None:
        return "never sent"
    if stored.shipped:
        return "control group, after the stop" if stored.holdout else "after the stop"
    if stored.fallback:
        return "stand-in"
    return "control group" if stored.holdout else ""


_LONGEST_SUBJECT = 256
_MOST = 100  # decisions of a recipient that are listed


@pages.get("/decisions")
@needs("viewer")
def decisions() -> ResponseReturnValue:
    """Ask for the id of a decision, or for a subject."""
    decision_id = request.args.get("id", "").strip()
    if re.fullmatch(DecisionIdConverter.regex, decision_id):
        return redirect(url_for("pages.decision", decision_id=decision_id))
    return render_template("experiment/decisions.html", decision_id=decision_id)


@pages.post("/decisions")
@needs("viewer")
def subject_decisions() -> ResponseReturnValue:
    """List the decisions of a subject; by POST, so that no log keeps the subject."""
    subject_id = request.form.get("who", "").strip()[:_LONGEST_SUBJECT]
    page = services().engine.subject(subject_id, limit=_MOST) if subject_id else None
    return render_template(
        "experiment/decisions.html",
        decision_id="",
        subject_id=subject_id,
        subject_decisions=page.decisions if page else [],
        cut=bool(page and page.next is not None),
    )


@pages.get("/decisions/<decision_id:decision_id>")
@needs("viewer")
def decision(decision_id: str) -> ResponseReturnValue:
    """Show the receipt of a decision: arm, propensity, context and events."""
    engine = services().engine
    try:
        receipt = engine.receipt(decision_id)
    except NotFound:
        return render_template(
            "experiment/decisions.html", decision_id=decision_id, missing=True
        ), 404
    record = engine.store.experiments.record(receipt.experiment)
    experiment = engine.store.experiments.configuration(
        record.key, receipt.configuration_version
    ).experiment
    labels = {m.name: m.label for m in methods()}
    measure = reward_measure(experiment.reward)
    return render_template(
        "experiment/receipt.html",
        receipt=receipt,
        record=record,
        experiment=experiment,
        method=labels.get(receipt.policy, receipt.policy),
        chances=_chances(experiment, receipt),
        measure=measure,
        contributions=contribution_views(experiment, receipt, measure),
    )


def _chances(
    experiment: Experiment, receipt: DecisionReceipt
) -> list[tuple[str, float, bool, PredictionView | None]]:
    """List the possible arms: name, propensity, True for the chosen one, prediction."""
    if receipt.propensities is None:
        return []
    keys = [s.key for s in experiment.slots]
    chosen = " · ".join(receipt.slots[k]["variant"] for k in keys)
    rows = []
    predictions = prediction_views(receipt)
    for variants in experiment.combinations():
        joined = " · ".join(variants)
        if joined in receipt.propensities:
            name = arm_name(experiment, dict(zip(keys, variants, strict=True)))
            rows.append(
                (name, receipt.propensities[joined], joined == chosen, predictions.get(joined))
            )
    return sorted(rows, key=lambda row: -row[1])
