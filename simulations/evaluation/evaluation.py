"""Evaluation of a policy on a log that another policy made."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct, structs
from numpy.random import SFC64, Generator, SeedSequence
from rich.console import Console
from rich.table import Table

from bandits.array_types import FloatArray
from bandits.errors import InvalidInput
from simulations.evaluation.diagnostics import Diagnostics
from simulations.evaluation.estimators import (
    ESTIMATORS,
    EstimatorName,
    Scores,
    WeightedRounds,
    dr,
    dros,
    switch_dr,
)
from simulations.evaluation.logged_rounds import LoggedRounds, as_floats, check_shape
from simulations.evaluation.reward_model import RewardModel
from simulations.evaluation.score_intervals import (
    Bounds,
    betting_interval,
    bootstrap_totals,
    studentized_interval,
)
from simulations.evaluation.targets import (
    FrozenPolicy,
    GivenProbabilities,
    Target,
    TargetView,
)

IntervalKind = Literal["betting", "bootstrap", "none"]

_TUNED = {"switch_dr": switch_dr, "dros": dros}
_MODEL_FREE = ("ipw", "snipw")
_WIDTH = 100
_UNORDERED = (
    "arms do not follow each other as their propensities say: the log was sorted. Folds are random "
    "then, and no interval by betting is shown; sort the log by the time of sending"
)
_NO_ROWS = (
    "the log has the probability of the sent arm alone, so bounds of weights are taken from the "
    "smallest one in it"
)


class ValueEstimate(Struct, frozen=True):
    """Estimate of the mean reward that a target earns.

    Attributes:
        name: of the estimator.
        value: reward per email.
        low: end of the interval, None without one.
        high: the other end.
        se: standard error as if rows were independent.
        interval: ``betting`` holds for every number of rows and for logs whose policy learned;
            ``bootstrap`` holds for many rows, and is the doubly robust one's where the bias of a
            parameter is not known; ``none`` where the error is the model's own.
        parameter: that SLOPE chose, None without one.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    se: float
    interval: IntervalKind
    parameter: float | None = None


class PolicyEvaluation(Struct, frozen=True):
    """Value of a target by several estimators, or why the log cannot tell it.

    Attributes:
        label: the target's.
        estimates: empty where it is refused.
        diagnostics: how much of the log speaks about the target.
        refusal: why the log cannot tell, in words; None where it can.
        warnings: what a reader has to know besides.
        level: of confidence.
    """

    label: str
    estimates: tuple[ValueEstimate, ...]
    diagnostics: Diagnostics
    refusal: str | None
    warnings: tuple[str, ...]
    level: float

    def __getitem__(self, name: str) -> ValueEstimate:
        """Return the estimate of one estimator.

        Raises:
            KeyError: there is none of that name, or the evaluation is refused.
        """
        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        raise KeyError(name)

    @property
    def best(self) -> ValueEstimate | None:
        """The estimate to quote: doubly robust, else self-normalised; None where refused."""
        names = [estimate.name for estimate in self.estimates]
        for name in ("dr", "sequential_dr", "snipw", *names):
            if name in names:
                return self[name]
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def table(self) -> pa.Table:
        """Return one row for each estimator."""
        columns = ValueEstimate.__struct_fields__
        rows = [[getattr(estimate, name) for estimate in self.estimates] for name in columns]
        return pa.table(dict(zip(columns, rows, strict=True)))

    def to_json(self, path: str | Path) -> None:
        """Write everything to a JSON file."""
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2))

    def rich_table(self) -> Table:
        """Lay out one row for each estimator."""
        table = Table(title=self.label, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("estimator", no_wrap=True)
        for heading in ("reward per email", f"{100 * self.level:g} % interval", "± se"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("by", no_wrap=True)
        for estimate in self.estimates:
            interval = "–"
            if estimate.low is not None and estimate.high is not None:
                interval = f"{estimate.low:.5f} to {estimate.high:.5f}"
            chosen = "" if estimate.parameter is None else f" ({estimate.parameter:.3g})"
            table.add_row(
                estimate.name + chosen,
                f"{estimate.value:.5f}",
                interval,
                f"{estimate.se:.5f}",
                estimate.interval,
            )
        return table

    def notes(self) -> list[str]:
        """Write the diagnostics, the warnings and the refusal as sentences."""
        shown = self.diagnostics
        support = "" if shown.support is None else f", support {100 * shown.support:.1f} %"
        lines = [
            f"{shown.rows:,} rows, worth {shown.effective_rows:,.0f} of the target's own; mean "
            f"weight {shown.mean_weight:.4f} ± {shown.mean_weight_se:.4f}, largest "
            f"{shown.largest_weight:,.1f}{support}.",
            f"The log itself earned {shown.logged_value:.5f} ± {shown.logged_se:.5f}.",
        ]
        if self.refusal is not None:
            lines.append(f"No value is shown: {self.refusal}.")
        return [*lines, *(f"Note: {warning}." for warning in self.warnings)]

    def __str__(self) -> str:
        """Write the table and the notes as plain text."""
        console = Console(file=StringIO(), width=_WIDTH, color_system=None, markup=False)
        if self.estimates:
            console.print(self.rich_table())
        else:
            console.print(self.label)
        for note in self.notes():
            console.print(note, highlight=False)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
        return text


def evaluate(  # noqa: PLR0913 - by keyword, each with a default
    rounds: LoggedRounds,
    target: Target | str | Any,
    *,
    estimators: Sequence[EstimatorName] | None = None,
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
            `FixedShares`, `WithoutArm` or `FrozenPolicy`; or the name of a registered policy, which
            then learns from the first half and is valued on the second.
        estimators: some of ``ipw``, ``snipw``, ``dm``, ``dr``, ``sndr``, ``switch_dr`` and
            ``dros``; all of them unless given.
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
    view = aim.view(rounds)
    rng = Generator(SFC64(SeedSequence(seed)))
    weights = view.sent / view.rounds.propensities
    diagnostics = Diagnostics.of(view, weights)
    warnings = list(rounds.notes)
    if diagnostics.in_order is False:
        warnings.append(_UNORDERED)
    refusal = diagnostics.refusal()
    if refusal is not None:
        return PolicyEvaluation(aim.label, (), diagnostics, refusal, tuple(warnings), level)
    if view.probabilities is None:
        names = tuple(name for name in names if name in _MODEL_FREE)
    given = None
    if predictions is not None:
        given = as_floats("predictions", predictions)
        check_shape("predictions", given, (rounds.n, rounds.n_arms), "(n, K)")
        given = given[rounds.n - view.rounds.n :]
    sequence = _ScoredView(view, weights, model or RewardModel(), given, diagnostics.in_order, rng)
    if view.rounds.probabilities is None and "dr" in names and sequence.is_martingale:
        warnings.append(_NO_ROWS)
    estimates = _estimate_all(
        names,
        sequence,
        {"switch_dr": tau, "dros": lam},
        level=level,
        resamples=resamples,
        rng=rng,
    )
    return PolicyEvaluation(aim.label, estimates, diagnostics, None, tuple(warnings), level)


def as_target(target: Any) -> Target:
    """Read a target: one of ours, a policy's name, or an array of probabilities."""
    if isinstance(target, str):
        return FrozenPolicy(target)
    if hasattr(target, "view") and hasattr(target, "label"):
        aim: Target = target
        return aim
    return GivenProbabilities(target)


def _estimator_names(estimators: Sequence[EstimatorName] | None) -> tuple[str, ...]:
    names = tuple(ESTIMATORS) if estimators is None else tuple(estimators)
    unknown = [name for name in names if name not in ESTIMATORS]
    if unknown or not names:
        wrong = unknown[0] if unknown else ""
        detail = f"{wrong!r} is none of {', '.join(ESTIMATORS)}"
        raise InvalidInput.at("/estimators", detail)
    return names


class _ScoredView:
    """A target's view with weights, and predictions that are made when they are needed."""

    def __init__(  # noqa: PLR0913, PLR0917 - what scores are made of
        self,
        view: TargetView,
        weights: FloatArray,
        model: RewardModel,
        given: FloatArray | None,
        in_order: bool | None,  # noqa: FBT001 - of the diagnostics
        rng: Generator,
    ) -> None:
        if in_order is False and model.folds == "time":
            model = structs.replace(model, folds="random")
        self.view, self.weights = view, weights
        self.is_martingale = given is None and model.folds == "time"
        self._model, self._rng = model, rng
        self._predictions = given

    @property
    def predictions(self) -> FloatArray:
        """Predicted rewards, (n, K)."""
        if self._predictions is None:
            self._predictions = self._model.cross_fit(self.view.rounds, self._rng)
        return self._predictions

    def weighted(self, name: str) -> WeightedRounds:
        """Return the rounds as an estimator needs them."""
        rounds = self.view.rounds
        if name in _MODEL_FREE or self.view.probabilities is None:
            zeros = np.zeros(rounds.n)
            return WeightedRounds(self.weights, rounds.rewards, zeros, zeros)
        baseline = (self.view.probabilities * self.predictions).sum(axis=1)
        sent = self.predictions[np.arange(rounds.n), rounds.arms]
        return WeightedRounds(self.weights, rounds.rewards, baseline, sent)

    def betting(self, scores: Scores, level: float) -> tuple[float, float]:
        """Bound the mean of doubly robust scores by betting."""
        rounds, probabilities = self.view.rounds, self.view.probabilities
        span = rounds.high - rounds.low
        predicted = (self.predictions - rounds.low) / span
        logged = rounds.probabilities
        divisor = np.full((1, 1), rounds.propensities.min()) if logged is None else logged
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.where(divisor > 0, probabilities / divisor, 0.0)
        baseline = (probabilities * predicted).sum(axis=1)
        bounds = Bounds(
            baseline - (weights * predicted).max(axis=1),
            baseline + (weights * (1 - predicted)).max(axis=1),
        )
        units = (scores.numerators - rounds.low) / span
        low, high = betting_interval(units, bounds, level)
        return rounds.low + span * low, rounds.low + span * high


def _estimate_all(  # noqa: PLR0913 - as `evaluate` has them
    names: Sequence[str],
    sequence: _ScoredView,
    parameters: Mapping[str, float | None],
    *,
    level: float,
    resamples: int,
    rng: Generator,
) -> tuple[ValueEstimate, ...]:
    """Estimate by each name, with one set of resamples for all."""
    scores = {}
    for name in names:
        if name in parameters:
            scores[name] = _TUNED[name](sequence.weighted(name), parameters[name])
        else:
            scores[name] = ESTIMATORS[name](sequence.weighted(name))
    # The bias of a tuned one is not known, so its interval is that of the unbiased one.
    resampled = {
        name: dr(sequence.weighted(name)) if name in parameters else of_name
        for name, of_name in scores.items()
        if name != "dm" and not (name == "dr" and sequence.is_martingale)
    }
    intervals = _bootstrap(resampled, level, resamples, rng) if resampled else {}
    estimates = []
    for name, of_name in scores.items():
        kind: IntervalKind = "bootstrap" if name in intervals else "none"
        low, high = intervals.get(name, (None, None))
        value, error = of_name.value, of_name.standard_error
        if name == "dr" and sequence.is_martingale:
            kind = "betting"
            low, high = sequence.betting(of_name, level)
        elif low is not None and high is not None and name in parameters:
            low, high = min(low, value), max(high, value)
            error = resampled[name].standard_error
        estimates.append(ValueEstimate(name, value, low, high, error, kind, of_name.parameter))
    return tuple(estimates)


def _bootstrap(
    scores: Mapping[str, Scores], level: float, resamples: int, rng: Generator
) -> dict[str, tuple[float, float]]:
    """Bound each estimate by how resampled rounds scatter about it."""
    parts = [of_name.columns for of_name in scores.values()]
    ones = np.ones((len(parts[0]), 1))
    totals = bootstrap_totals(np.hstack([*parts, ones]), rng, resamples)
    rows = totals[:, -1]
    width = parts[0].shape[1]
    intervals = {}
    for i, (name, of_name) in enumerate(scores.items()):
        sums = totals[:, i * width : (i + 1) * width]
        intervals[name] = studentized_interval(
            of_name.value, of_name.standard_error, of_name.from_totals(sums, rows), level
        )
    return intervals
