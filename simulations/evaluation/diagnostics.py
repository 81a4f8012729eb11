"""Diagnostics of an evaluation: how much of a log speaks about a target, and why it may not."""

from math import sqrt

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from simulations.evaluation.logged_rounds import LoggedRounds
from simulations.evaluation.score_intervals import standard_error
from simulations.evaluation.targets import TargetView

LEAST_EFFECTIVE = 100.0  # rows
LEAST_SHARE = 0.01  # of the rows
_MOST_DEVIATION = 4.0  # standard errors of the mean weight from 1
_LEAST_SUPPORT = 0.99
_MOST_DRIFT = 4.5  # standard deviations of a sum that order should not matter to


class Diagnostics(Struct, frozen=True):
    """How far a log can speak about a target.

    Attributes:
        rows: n.
        effective_rows: (Σw)² / Σw², so many rows sent by the target itself would say as much.
        expected_rows: the same as the log's probabilities make it expected, before anything was
            drawn: lower where the rows that matter most were not drawn. None where the log does not
            have the probability of every arm.
        mean_weight: 1 within its standard error, where logged propensities are right.
        mean_weight_se: the larger of the observed one and the one expected.
        largest_weight: of a single row.
        support: share of the target's emails that the log could have sent; None where the log
            does not have the probability of every arm.
        logged_value: mean reward of the log itself.
        logged_se: its standard error.
        in_order: arms follow each other as their propensities say; False in a log that was
            sorted; None where that cannot be told.
    """

    rows: int
    effective_rows: float
    expected_rows: float | None
    mean_weight: float
    mean_weight_se: float
    largest_weight: float
    support: float | None
    logged_value: float
    logged_se: float
    in_order: bool | None

    @classmethod
    def of(cls, view: TargetView, weights: FloatArray) -> "Diagnostics":
        """Compute them from the weights (n,) of a target's view."""
        rounds = view.rounds
        squares = float((weights**2).sum())
        expected = _expected_squares(view)
        error = standard_error(weights)
        if expected is not None:
            error = max(error, sqrt(max(expected - rounds.n, 0.0)) / rounds.n)
        return cls(
            rounds.n,
            float(weights.sum()) ** 2 / squares if squares > 0 else 0.0,
            None if expected is None else rounds.n**2 / max(expected, 1.0),
            float(weights.mean()),
            error,
            float(weights.max()),
            _support(view),
            float(rounds.rewards.mean()),
            standard_error(rounds.rewards),
            _is_in_order(rounds),
        )

    def refusal(self) -> str | None:
        """Say in words why the log cannot tell the target's value; None where it can."""
        if self.support is not None and self.support < _LEAST_SUPPORT:
            return (
                f"{100 * (1 - self.support):.1f} % of the target's emails are ones that the log "
                "never sent, so it says nothing about them"
            )
        effective = self.effective_rows
        if self.expected_rows is not None:
            effective = min(effective, self.expected_rows)
        if effective < LEAST_EFFECTIVE:
            return (
                f"the log has {self.rows:,} rows, but says as much about this target as "
                f"{effective:,.0f} rows that it had sent; at least {LEAST_EFFECTIVE:.0f} are needed"
            )
        if effective < LEAST_SHARE * self.rows:
            return (
                f"only {100 * effective / self.rows:.2f} % of the rows count for this target; at "
                f"least {100 * LEAST_SHARE:.0f} % are needed"
            )
        deviation = abs(self.mean_weight - 1)
        if deviation > max(_MOST_DEVIATION * self.mean_weight_se, 1e-9):
            return (
                f"the mean weight is {self.mean_weight:.4f} ± {self.mean_weight_se:.4f} and "
                "should be 1: the logged propensities are not those that arms were drawn with, or "
                "the rows that would matter most were never drawn"
            )
        return None


def too_few_rows(weights: FloatArray) -> str | None:
    """Say in words why weights (n,), of which some may be below 0, are too few; else None."""
    n, squares = len(weights), float((weights**2).sum())
    effective = float(weights.sum()) ** 2 / squares if squares > 0 else 0.0
    if effective < max(LEAST_EFFECTIVE, LEAST_SHARE * n):
        return f"{n:,} rows say as much as {effective:,.0f} of the target's own, which is too few"
    return None


def _expected_squares(view: TargetView) -> float | None:
    """Return the expected sum of squared weights, given the probabilities of every arm."""
    logged, probabilities = view.rounds.probabilities, view.probabilities
    if logged is None or probabilities is None:
        return None
    possible = logged > 0
    return float((probabilities[possible] ** 2 / logged[possible]).sum())


def _support(view: TargetView) -> float | None:
    logged, probabilities = view.rounds.probabilities, view.probabilities
    if logged is None or probabilities is None:
        return None
    return float((probabilities * (logged > 0)).sum(axis=1).mean())


def _is_in_order(rounds: LoggedRounds) -> bool | None:
    """Return false where runs of an arm are longer than its probabilities allow.

    The sum of 1{arm} − probability wanders as a martingale does in the order of sending; in a log
    that was sorted by arm it does not.
    """
    if rounds.probabilities is None:
        return None
    marks = np.eye(rounds.n_arms)[rounds.arms] - rounds.probabilities
    variances = (rounds.probabilities * (1 - rounds.probabilities)).sum(axis=0)
    wanders = np.abs(np.cumsum(marks, axis=0)).max(axis=0)
    limit = _MOST_DRIFT + sqrt(2 * np.log(rounds.n_arms))
    return bool((wanders <= limit * np.sqrt(np.maximum(variances, 1.0))).all())
