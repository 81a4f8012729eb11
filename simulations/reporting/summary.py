"""What a simulation found, in numbers."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct

from bandits.array_types import FloatArray
from simulations.running.recorder import RunRecord
from simulations.running.schedule import Run

TWO_SIDED = 1.959964  # standard normal deviations that hold 95 %


class Estimate(Struct, frozen=True):
    """A mean over replications, its standard error, and the 95 % quantile of replications.

    One replication tells nothing of the error: it is NaN, in JSON null.
    """

    mean: float
    se: float
    p95: float

    @classmethod
    def of(cls, values: FloatArray) -> "Estimate":
        """Summarise values (R,)."""
        se = float(_standard_error(values))
        return cls(float(values.mean()), se, float(np.quantile(values, 0.95)))

    @classmethod
    def of_known(cls, values: FloatArray) -> "Estimate | None":
        """Summarise the values (R,) that are not NaN; None if there are none."""
        known = values[~np.isnan(values)]
        return cls.of(known) if len(known) else None


class Difference(Struct, frozen=True):
    """How much less regret one contestant had than another, replication by replication.

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
    def of(cls, one: "LearnerOutcome", other: "LearnerOutcome") -> "Difference":
        """Compare two contestants."""
        gain = other.record.regret[:, -1] - one.record.regret[:, -1]
        found = Estimate.of(gain)
        margin = TWO_SIDED * found.se
        low, high = found.mean - margin, found.mean + margin
        return cls(one.label, other.label, found.mean, found.se, low, high)


class CurvePoint(Struct, frozen=True):
    """A point of a regret curve: the mean over replications and the middle 90 % of them."""

    decisions: int
    mean: float
    se: float
    p05: float
    p95: float


class Summary(Struct, frozen=True):
    """What is reported for one contestant.

    Attributes:
        label: what tables call it.
        regret: expected reward missed in a replication, against the best arm of every round.
        reward: expected reward of what was chosen in a replication.
        reward_and_after: that, and of as many decisions after the campaign as the run says, with
            what it would ship.
        wrong_winner: how often it would ship an arm that is not the best; None where what it ships
            depends on the recipient.
        simple_regret: what a later decision loses by what it would ship; None likewise.
        sends_to_decision: decisions until it settled on an arm, in the replications where it did;
            None where it never did.
        decided: the share of replications where it did.
        needs: decisions that its test was planned for, where the campaign has fewer: where it has
            not ended before, it ships nothing.
        worst_dip: how far behind sending only the control it fell at worst.
        curve: regret after so many decisions.
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


class LearnerOutcome(Struct, frozen=True, eq=False):
    """One contestant's replications, and for how many decisions it was planned if too many."""

    label: str
    record: RunRecord
    needs: int | None = None

    def summary(self, after: int) -> Summary:
        """Summarise over replications, with so many decisions after the campaign."""
        record = self.record
        return Summary(
            label=self.label,
            regret=Estimate.of(record.regret[:, -1]),
            reward=Estimate.of(record.reward[:, -1]),
            reward_and_after=Estimate.of(record.reward[:, -1] + after * record.rate_after),
            wrong_winner=Estimate.of_known(record.wrong),
            simple_regret=Estimate.of_known(record.lost),
            sends_to_decision=Estimate.of_known(record.decided),
            decided=float(np.mean(~np.isnan(record.decided))),
            worst_dip=Estimate.of(record.dip),
            curve=_curve(record),
            needs=self.needs,
        )


def _curve(record: RunRecord) -> list[CurvePoint]:
    regret = record.regret
    low, high = np.quantile(regret, [0.05, 0.95], axis=0)
    mean = regret.mean(axis=0)
    se = _standard_error(regret)
    rows = zip(record.grid.tolist(), mean, se, low, high, strict=True)
    return [CurvePoint(t, float(m), float(s), float(p), float(q)) for t, m, s, p, q in rows]


def _standard_error(values: FloatArray) -> FloatArray:
    """Return the standard error of the mean over the first axis; NaN where it has one value."""
    if len(values) == 1:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


class Report(Struct, frozen=True):
    """The JSON form of a result."""

    policies: list[Summary]
    differences: list[Difference]
    replications: int
    interrupted: bool
    seconds: float
    steps_per_second: float


class ResultSummary(Struct, frozen=True, eq=False):
    """What a simulation found.

    Attributes:
        run: how it was run.
        arms: the arms' names.
        outcomes: one for each contestant, in their order.
        seconds: how long it took.
        interrupted: whether fewer replications were finished than `run` asked for.
    """

    run: Run
    arms: tuple[str, ...]
    outcomes: tuple[LearnerOutcome, ...]
    seconds: float
    interrupted: bool = False

    @property
    def replications(self) -> int:
        """How many were finished."""
        return len(self.outcomes[0].record.wrong)

    def __getitem__(self, label: str) -> RunRecord:
        """Return the replications of the contestant with this label.

        Raises:
            KeyError: there is none.
        """
        for outcome in self.outcomes:
            if outcome.label == label:
                return outcome.record
        raise KeyError(label)

    def summaries(self) -> list[Summary]:
        """Summarise each contestant."""
        return [outcome.summary(self.run.decisions_after) for outcome in self.outcomes]

    def differences(self) -> list[Difference]:
        """Compare each contestant with each that comes after it."""
        return [Difference.of(one, other) for one, other in combinations(self.outcomes, 2)]

    def report(self) -> Report:
        """Summarise everything, as `--json` prints it."""
        steps = self.run.horizon * self.replications * len(self.outcomes)
        return Report(
            self.summaries(),
            self.differences(),
            self.replications,
            self.interrupted,
            self.seconds,
            steps / self.seconds if self.seconds > 0 else 0.0,
        )

    def table(self) -> pa.Table:
        """Return one row for each contestant."""
        summaries = self.summaries()
        columns: dict[str, list[Any]] = {"policy": [s.label for s in summaries]}
        measures: dict[str, Callable[[Summary], Estimate | None]] = {
            "regret": lambda s: s.regret,
            "reward": lambda s: s.reward,
            "reward_and_after": lambda s: s.reward_and_after,
            "wrong_winner": lambda s: s.wrong_winner,
            "simple_regret": lambda s: s.simple_regret,
            "sends_to_decision": lambda s: s.sends_to_decision,
            "worst_dip": lambda s: s.worst_dip,
        }
        for name, measure in measures.items():
            for part in Estimate.__struct_fields__:
                heading = name if part == "mean" else f"{name}_{part}"
                columns[heading] = [getattr(measure(s), part, None) for s in summaries]
        return pa.table(columns)

    def curves(self) -> pa.Table:
        """Return one row for each contestant and point of its regret curve."""
        rows = [
            {
                "policy": outcome.label,
                **{f: getattr(point, f) for f in CurvePoint.__struct_fields__},
            }
            for outcome in self.outcomes
            for point in _curve(outcome.record)
        ]
        return pa.Table.from_pylist(rows)

    def replicated(self) -> pa.Table:
        """Return one row for each contestant and replication; what it has no answer to is null."""
        tables = [
            pa.table(
                {
                    "policy": [outcome.label] * self.replications,
                    "replication": np.arange(self.replications),
                    "regret": outcome.record.regret[:, -1],
                    "reward": outcome.record.reward[:, -1],
                    "wrong_winner": pa.array(outcome.record.wrong, from_pandas=True),
                    "simple_regret": pa.array(outcome.record.lost, from_pandas=True),
                    "sends_to_decision": pa.array(outcome.record.decided, from_pandas=True),
                    "worst_dip": outcome.record.dip,
                }
            )
            for outcome in self.outcomes
        ]
        return pa.concat_tables(tables)
