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
        mean_weight: 1 within its standard error, where logged propensities are right.
        mean_weight_se: that standard error.
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
        return cls(
            rounds.n,
            float(weights.sum()) ** 2 / squares if squares > 0 else 0.0,
            float(weights.mean()),
            standard_error(weights),
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
        if self.effective_rows < LEAST_EFFECTIVE:
            return (
                f"the log has {self.rows:,} rows, but says as much about this target as "
                f"{self.effective_rows:,.0f} rows that it had sent; at least "
                f"{LEAST_EFFECTIVE:.0f} are needed"
            )
        if self.effective_rows < LEAST_SHARE * self.rows:
            return (
                f"only {100 * self.effective_rows / self.rows:.2f} % of the rows count for this "
                f"target; at least {100 * LEAST_SHARE:.0f} % are needed"
            )
        deviation = abs(self.mean_weight - 1)
        if deviation > max(_MOST_DEVIATION * self.mean_weight_se, 1e-9):
            return (
                f"the mean weight is {self.mean_weight:.4f} ± {self.mean_weight_se:.4f} and "
                "should be 1: the logged propensities are not those that arms were drawn with, or "
                "the rows that would matter most were never drawn"
            )
        return None


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
