"""Evaluation of a policy on a log that another policy made."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import structs
from numpy.random import SFC64, Generator, SeedSequence

from bandits.array_types import FloatArray
from bandits.errors import InvalidInput
from simulations.evaluation.diagnostics import Diagnostics, too_few_rows
from simulations.evaluation.estimators import (
    ESTIMATORS,
    EstimatorName,
    RoundScores,
    WeightedRounds,
    dr,
    dros,
    ipw,
    switch_dr,
)
from simulations.evaluation.logged_rounds import LoggedRounds, as_floats, check_shape
from simulations.evaluation.policy_evaluation import IntervalKind, PolicyEvaluation, ValueEstimate
from simulations.evaluation.reward_model import RewardModel
from simulations.evaluation.score_intervals import (
    Bounds,
    betting_interval,
    bootstrap_totals,
    studentized_interval,
    sum_blocks,
)
from simulations.evaluation.sequential_dr import LEAST_STEPS, LearningPolicy, value_while_learning
from simulations.evaluation.slot_weights import additive_weights, marginal_weights
from simulations.evaluation.targets import (
    FrozenPolicy,
    GivenProbabilities,
    LoggedPolicy,
    Target,
    TargetView,
)

_TUNED = {"switch_dr": switch_dr, "dros": dros}
_MODEL_FREE = ("ipw", "snipw")
_BY_SLOTS = ("mips", "slot_wise")
_UNORDERED = (
    "arms do not follow each other as their propensities say: the log was sorted. Folds are random "
    "then, and no interval by betting is shown; sort the log by the time of sending"
)
_NO_ROWS = (
    "the log has the probability of the sent arm alone, so bounds of weights are taken from the "
    "smallest one in it"
)


def evaluate(  # noqa: PLR0913 - by keyword, each with a default
    rounds: LoggedRounds,
    target: Target | LearningPolicy | str | Any,
    *,
    estimators: Sequence[EstimatorName] | None = None,
    slots: Sequence[int] = (),
    model: RewardModel | None = None,
    predictions: Any = None,
    tau: float | None = None,
    lam: float | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> PolicyEvaluation:
    """Estimate the mean reward that a target policy would have earned on a log.

    Args:
        rounds: the log, n rounds of K arms, in the order of sending.
        target: probabilities (n, K), or (K,) for a constant split; a `Target` such as
            `FixedShares`, `WithoutArm`, `FrozenPolicy` or `LearningPolicy`; or the name of a
            registered policy, which then learns from the first half and is valued on the second.
        estimators: some of ``ipw``, ``snipw``, ``dm``, ``dr``, ``sndr``, ``switch_dr`` and
            ``dros``; all of these unless given. For arms made of slots also ``mips``, for rewards
            that depend on some `slots` alone, and ``slot_wise``, for rewards that add up.
        slots: numbers of the slots that rewards depend on, for ``mips``.
        model: that predicts rewards for those after the second; ridge by arm, fitted to earlier
            rounds, unless given.
        predictions: (n, K) rewards that a model of yours expects, instead; it must not have seen
            the round that it predicts.
        tau: of Switch-DR; SLOPE's choice unless given.
        lam: λ of DRos; likewise.
        level: of confidence.
        resamples: of the bootstrap.
        seed: the same seed gives the same numbers.

    Returns:
        Values in the unit of the rewards, or a refusal in words: where fewer than 100 effective
        rows, or fewer than 1 % of the rows, speak about the target; where it sends what the log
        never sent; and where weights do not have the mean 1.

    Raises:
        InvalidInput: an argument has the wrong shape or values, by its name.

    Source: Dudík, Erhan, Langford and Li (2014), Doubly robust policy evaluation and optimization;
    intervals by Waudby-Smith and Ramdas (2024); each estimator names its own paper.
    """
    if not 0 < level < 1:
        raise InvalidInput.at("/level", "must lie in (0, 1)")
    names = _estimator_names(estimators)
    aim = as_target(target)
    if isinstance(aim, LearningPolicy):
        return _evaluate_learning(rounds, aim, model or RewardModel(folds="random"), level, seed)
    view = aim.view(rounds)
    weights = view.sent / view.rounds.propensities
    diagnostics = Diagnostics.of(view, weights)
    warnings = list(rounds.notes)
    if diagnostics.in_order is False:
        warnings.append(_UNORDERED)
    resampling = _Resampling(level, resamples, Generator(SFC64(SeedSequence(seed))))
    estimates: list[ValueEstimate] = []
    refusal = diagnostics.refusal()
    if refusal is None:
        own = _own_predictions(rounds, view, predictions)
        sequence = _ScoredView(view, weights, model, own, resampling.rng, diagnostics.in_order)
        plain = sequence.usable([name for name in names if name not in _BY_SLOTS])
        if "dr" in plain and sequence.is_martingale and view.rounds.probabilities is None:
            warnings.append(_NO_ROWS)
        estimates += _estimate_all(plain, sequence, {"switch_dr": tau, "dros": lam}, resampling)
    for name in (name for name in names if name in _BY_SLOTS):
        of_slots = marginal_weights(view, slots) if name == "mips" else additive_weights(view)
        weak = too_few_rows(of_slots)
        if weak is not None:
            warnings.append(f"{name} is left out: {weak}")
            continue
        scores = {name: ipw(WeightedRounds.plain(of_slots, view.rounds.rewards))}
        estimates += _estimate_by_bootstrap(scores, resampling)
    if refusal is not None and estimates:
        warnings.append(f"values by whole emails are left out: {refusal}")
        refusal = None
    return PolicyEvaluation(
        aim.label, tuple(estimates), diagnostics, refusal, tuple(warnings), level
    )


class _Resampling(NamedTuple):
    """How intervals are made."""

    level: float
    resamples: int
    rng: Generator


def _own_predictions(rounds: LoggedRounds, view: TargetView, predictions: Any) -> FloatArray | None:
    """Check predictions (n, K), and return those of the rounds that are valued."""
    if predictions is None:
        return None
    values = as_floats("predictions", predictions)
    check_shape("predictions", values, (rounds.n, rounds.n_arms), "(n, K)")
    return values[rounds.n - view.rounds.n :]


def _evaluate_learning(
    rounds: LoggedRounds, target: LearningPolicy, model: RewardModel, level: float, seed: int
) -> PolicyEvaluation:
    """Value a policy that learns along; diagnostics are of the log's own policy."""
    diagnostics = Diagnostics.of(LoggedPolicy().view(rounds), np.ones(rounds.n))
    learning = value_while_learning(rounds, target, model, level, seed)
    if learning.steps < LEAST_STEPS:
        refusal = (
            f"of the log's {rounds.n:,} rows the policy would have drawn {learning.steps:,.0f}, "
            f"and at least {LEAST_STEPS} are needed"
        )
        return PolicyEvaluation(target.label, (), diagnostics, refusal, rounds.notes, level)
    estimate = ValueEstimate(
        "sequential_dr", learning.value, learning.low, learning.high, learning.se, "orders"
    )
    notes = (*rounds.notes, f"the policy learned from {learning.steps:,.0f} emails on average")
    return PolicyEvaluation(target.label, (estimate,), diagnostics, None, notes, level)


def as_target(target: Any) -> Target | LearningPolicy:
    """Read a target: one of ours, a policy's name, or an array of probabilities."""
    if isinstance(target, str):
        return FrozenPolicy(target)
    if isinstance(target, LearningPolicy):
        return target
    if hasattr(target, "view") and hasattr(target, "label"):
        aim: Target = target
        return aim
    return GivenProbabilities(target)


def _estimator_names(estimators: Sequence[EstimatorName] | None) -> tuple[str, ...]:
    names = tuple(ESTIMATORS) if estimators is None else tuple(estimators)
    unknown = [name for name in names if name not in (*ESTIMATORS, *_BY_SLOTS)]
    if unknown or not names:
        wrong = unknown[0] if unknown else ""
        detail = f"{wrong!r} is none of {', '.join((*ESTIMATORS, *_BY_SLOTS))}"
        raise InvalidInput.at("/estimators", detail)
    return names


class _ScoredView:
    """A target's view with weights, and predictions that are made when they are needed."""

    def __init__(  # noqa: PLR0913, PLR0917 - what scores are made of
        self,
        view: TargetView,
        weights: FloatArray,
        model: RewardModel | None,
        predictions: FloatArray | None,
        rng: Generator,
        in_order: bool | None,  # noqa: FBT001 - of the diagnostics
    ) -> None:
        self._model = model or RewardModel()
        if in_order is False and self._model.folds == "time":
            self._model = structs.replace(self._model, folds="random")
        self.is_martingale = predictions is None and self._model.folds == "time"
        self.view, self.weights, self._rng = view, weights, rng
        self._predictions = predictions

    def usable(self, names: Sequence[str]) -> list[str]:
        """Return those of the estimators that the log's columns suffice for."""
        if self.view.probabilities is None:
            return [name for name in names if name in _MODEL_FREE]
        return list(names)

    @property
    def predictions(self) -> FloatArray:
        """Predicted rewards, (n, K)."""
        if self._predictions is None:
            of_log = self._model.cross_fit(self.view.whole, self._rng)
            self._predictions = of_log[self.view.whole.n - self.view.rounds.n :]
        return self._predictions

    def weighted(self, name: str) -> WeightedRounds:
        """Return the rounds as an estimator needs them."""
        rounds = self.view.rounds
        if name in _MODEL_FREE or self.view.probabilities is None:
            return WeightedRounds.plain(self.weights, rounds.rewards)
        baseline = (self.view.probabilities * self.predictions).sum(axis=1)
        sent = self.predictions[np.arange(rounds.n), rounds.arms]
        return WeightedRounds(self.weights, rounds.rewards, baseline, sent)

    def betting(self, scores: RoundScores, level: float) -> tuple[float, float]:
        """Bound the mean of doubly robust scores by betting."""
        rounds = self.view.rounds
        span = rounds.high - rounds.low
        predicted = (self.predictions - rounds.low) / span
        target = np.array(self.view.probabilities, dtype=np.float64)
        smallest = np.full((1, 1), rounds.propensities.min())
        logged = smallest if rounds.probabilities is None else rounds.probabilities
        weights = np.divide(target, logged, out=np.zeros_like(target), where=logged > 0)
        baseline = (target * predicted).sum(axis=1)
        bounds = Bounds(
            baseline - (weights * predicted).max(axis=1),
            baseline + (weights * (1 - predicted)).max(axis=1),
        )
        units = (scores.numerators - rounds.low) / span
        low, high = betting_interval(units, bounds, level)
        return rounds.low + span * low, rounds.low + span * high


def _estimate_all(
    names: Sequence[str],
    sequence: _ScoredView,
    parameters: Mapping[str, float | None],
    resampling: _Resampling,
) -> list[ValueEstimate]:
    """Estimate by each name, with one set of resamples for all."""
    scores = {}
    for name in names:
        rounds = sequence.weighted(name)
        if name in parameters:
            scores[name] = _TUNED[name](rounds, parameters[name])
        else:
            scores[name] = ESTIMATORS[name](rounds)
    # The bias of a tuned one is not known, so its interval is that of the unbiased one.
    resampled = {
        name: dr(sequence.weighted(name)) if name in parameters else of_name
        for name, of_name in scores.items()
        if name != "dm" and not (name == "dr" and sequence.is_martingale)
    }
    intervals = _bootstrap(resampled, resampling) if resampled else {}
    estimates = []
    for name, of_name in scores.items():
        kind: IntervalKind = "bootstrap" if name in intervals else "none"
        low, high = intervals.get(name, (None, None))
        value, error = of_name.value, of_name.standard_error
        if name == "dr" and sequence.is_martingale:
            kind = "betting"
            low, high = sequence.betting(of_name, resampling.level)
        elif low is not None and high is not None and name in parameters:
            low, high = min(low, value), max(high, value)
            error = resampled[name].standard_error
        estimates.append(ValueEstimate(name, value, low, high, error, kind, of_name.parameter))
    return estimates


def _estimate_by_bootstrap(
    scores: Mapping[str, RoundScores], resampling: _Resampling
) -> list[ValueEstimate]:
    """Estimate by scores whose intervals are their own bootstrap's."""
    intervals = _bootstrap(scores, resampling)
    return [
        ValueEstimate(name, of_name.value, *intervals[name], of_name.standard_error, "bootstrap")
        for name, of_name in scores.items()
    ]


def _bootstrap(
    scores: Mapping[str, RoundScores], resampling: _Resampling
) -> dict[str, tuple[float, float]]:
    """Bound each estimate by how resampled rounds scatter about it."""
    parts = [sum_blocks(of_name.columns) for of_name in scores.values()]
    n = len(next(iter(scores.values())).numerators)
    sizes = sum_blocks(np.ones((n, 1)))
    totals = bootstrap_totals(np.hstack([*parts, sizes]), resampling.rng, resampling.resamples)
    rows = totals[:, -1]
    width = parts[0].shape[1]
    intervals = {}
    for i, (name, of_name) in enumerate(scores.items()):
        resampled = of_name.from_totals(totals[:, i * width : (i + 1) * width], rows)
        intervals[name] = studentized_interval(
            of_name.value, of_name.standard_error, resampled, resampling.level
        )
    return intervals
