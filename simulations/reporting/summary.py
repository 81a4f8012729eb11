"""Summary of a simulation: estimates of each learner, and differences between them."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from simulations.running.recorder import RunRecord
from simulations.running.schedule import Run

TWO_SIDED = 1.959964  # standard normal deviations that hold 95 %


class Estimate(Struct, frozen=True):
    """A mean over replications, its standard error, and the 95 % quantile of replications.

    The standard error of a single replication is NaN, in JSON null.
    """

    mean: float
    se: float
    p95: float

    @classmethod
    def from_values(cls, values: FloatArray) -> "Estimate":
        """Summarise values (R,)."""
        se = float(_standard_error(values))
        return cls(float(values.mean()), se, float(np.quantile(values, 0.95)))

    @classmethod
    def from_defined(cls, values: FloatArray) -> "Estimate | None":
        """Summarise the values (R,) that are not NaN; None if there are none."""
        defined = values[~np.isnan(values)]
        return cls.from_values(defined) if len(defined) else None


class Difference(Struct, frozen=True):
    """Regret that one learner had less than another, replication by replication.

    Both met the same potential rewards, so the difference is far surer than either's own regret.
    The interval is the normal one of 95 % for a mean.
    """

    label: str
    against: str
    mean: float
    se: float
    low: float
    high: float

    @classmethod
    def between(cls, one: "LearnerOutcome", other: "LearnerOutcome") -> "Difference":
        """Compare two learners."""
        gain = other.record.regret[:, -1] - one.record.regret[:, -1]
        estimate = Estimate.from_values(gain)
        margin = TWO_SIDED * estimate.se
        low, high = estimate.mean - margin, estimate.mean + margin
        return cls(one.label, other.label, estimate.mean, estimate.se, low, high)


class CurvePoint(Struct, frozen=True):
    """A point of a regret curve: the mean over replications and the middle 90 % of them."""

    decisions: int
    mean: float
    se: float
    p05: float
    p95: float


class Summary(Struct, frozen=True):
    """Estimates of one learner.

    Attributes:
        label: its name in tables.
        regret: expected reward missed in a replication, against the best arm of every round.
        reward: expected reward of the chosen arms in a replication.
        reward_and_after: that, and of the run's decisions after the campaign, with the arm that it
            would ship.
        wrong_winner: share of replications where it would ship an arm that is not the best; None
            where the arm it ships depends on the recipient.
        simple_regret: expected loss of a later decision by the arm it would ship; None likewise.
        sends_to_decision: decisions until it settled on an arm, in the replications where it did;
            None where it never did.
        decided: the share of replications where it did.
        needs: decisions that its test was planned for, where the campaign has fewer: where it has
            not ended before, it ships nothing.
        worst_dip: largest distance behind sending only the control.
        curve: regret after so many decisions.
        unwanted: expected unwanted events in a replication; None without `run.unwanted`.
    """

    label: str
    regret: Estimate
    reward: Estimate
    reward_and_after: Estimate
    wrong_winner: Estimate | None
    simple_regret: Estimate | None
    sends_to_decision: Estimate | None
    decided: float
    worst_dip: Estimate
    curve: list[CurvePoint]
    needs: int | None = None
    unwanted: Estimate | None = None


class LearnerOutcome(Struct, frozen=True, eq=False):
    """Replications of one learner, and the decisions that it needs, where those are too many."""

    label: str
    record: RunRecord
    needs: int | None = None

    @property
    def replications(self) -> int:
        """Number of finished replications."""
        return len(self.record.wrong)

    def summary(self, after: int, unwanted: Sequence[float] | None = None) -> Summary:
        """Summarise over replications, with so many decisions after the campaign.

        `unwanted` is the chance of the unwanted event by arm.
        """
        record = self.record
        return Summary(
            label=self.label,
            regret=Estimate.from_values(record.regret[:, -1]),
            reward=Estimate.from_values(record.reward[:, -1]),
            reward_and_after=Estimate.from_values(record.reward[:, -1] + after * record.rate_after),
            wrong_winner=Estimate.from_defined(record.wrong),
            simple_regret=Estimate.from_defined(record.lost),
            sends_to_decision=Estimate.from_defined(record.decided),
            decided=float(np.mean(~np.isnan(record.decided))),
            worst_dip=Estimate.from_values(record.worst_dip),
            curve=self.curve(),
            needs=self.needs,
            unwanted=(
                None
                if unwanted is None
                else Estimate.from_values(record.sends @ np.asarray(unwanted))
            ),
        )

    def curve(self) -> list[CurvePoint]:
        """Summarise regret at each point of the grid."""
        regret = self.record.regret
        low, high = np.quantile(regret, [0.05, 0.95], axis=0)
        mean, se = regret.mean(axis=0), _standard_error(regret)
        rows = zip(self.record.grid.tolist(), mean, se, low, high, strict=True)
        return [CurvePoint(t, float(m), float(s), float(p), float(q)) for t, m, s, p, q in rows]


def _standard_error(values: FloatArray) -> FloatArray:
    """Return the standard error of the mean over the first axis; NaN where it has one value."""
    if len(values) == 1:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def summarise(outcomes: Sequence[LearnerOutcome], run: Run) -> list[Summary]:
    """Summarise each learner."""
    return [outcome.summary(run.decisions_after, run.unwanted) for outcome in outcomes]
