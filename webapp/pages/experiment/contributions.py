"""What each thing known of a recipient pushed towards, in words, where a linear model decided."""

from collections.abc import Sequence
from math import exp

from msgspec import Struct
from scipy.special import expit

from bandits.experiment import Experiment
from bandits.schemas import DecisionReceipt, Prediction
from webapp.pages.experiment.labels import Measure
from webapp.pages.filters import amount, brief

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
