"""Result of a simulation, for people, notebooks and programs."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from simulations.reporting.result_tables import as_html, as_text
from simulations.reporting.summary import (
    CurvePoint,
    Difference,
    Estimate,
    LearnerOutcome,
    Summary,
    summarise,
)
from simulations.running.recorder import RunRecord
from simulations.running.schedule import Run

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Report(Struct, frozen=True):
    """The JSON form of a result."""

    policies: list[Summary]
    differences: list[Difference]
    replications: int
    interrupted: bool
    seconds: float
    steps_per_second: float


class Result(Struct, frozen=True, eq=False):
    """Result of a simulation: printed, drawn, in a notebook, as tables or as a file.

    Attributes:
        run: the run's settings.
        arms: the arms' names.
        outcomes: one for each learner, in their order.
        seconds: duration of the simulation.
        interrupted: true where fewer replications were finished than `run` has.
    """

    run: Run
    arms: tuple[str, ...]
    outcomes: tuple[LearnerOutcome, ...]
    seconds: float
    interrupted: bool = False

    @property
    def replications(self) -> int:
        """Number of finished replications."""
        return self.outcomes[0].replications

    def __getitem__(self, label: str) -> RunRecord:
        """Return the replications of the learner with this label.

        Raises:
            KeyError: there is none.
        """
        for outcome in self.outcomes:
            if outcome.label == label:
                return outcome.record
        raise KeyError(label)

    def summaries(self) -> list[Summary]:
        """Summarise each learner."""
        return summarise(self.outcomes, self.run)

    def differences(self) -> list[Difference]:
        """Compare each learner with each that comes after it."""
        return [Difference.between(one, other) for one, other in combinations(self.outcomes, 2)]

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
        """Return one row for each learner."""
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
            "unwanted": lambda s: s.unwanted,
        }
        for name, measure in measures.items():
            for part in Estimate.__struct_fields__:
                heading = name if part == "mean" else f"{name}_{part}"
                columns[heading] = [getattr(measure(s), part, None) for s in summaries]
        return pa.table(columns)

    def curves(self) -> pa.Table:
        """Return one row for each learner and point of its regret curve."""
        rows = [
            {
                "policy": outcome.label,
                **{f: getattr(point, f) for f in CurvePoint.__struct_fields__},
            }
            for outcome in self.outcomes
            for point in outcome.curve()
        ]
        return pa.Table.from_pylist(rows)

    def replication_rows(self) -> pa.Table:
        """Return one row for each learner and replication; an undefined value is null."""
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
                    "worst_dip": outcome.record.worst_dip,
                }
            )
            for outcome in self.outcomes
        ]
        return pa.concat_tables(tables)

    def to_parquet(self, path: str | Path) -> None:
        """Write `replication_rows` to a parquet file."""
        pq.write_table(self.replication_rows(), path)

    def figure(self) -> "Figure":
        """Draw the regret of every learner as the campaign goes on."""
        from simulations.reporting.charts import regret_curves  # noqa: PLC0415 - plotly is loaded when used

        return regret_curves(self.outcomes)

    def __repr__(self) -> str:
        return as_text(self.outcomes, self.run)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return as_html(self.outcomes, self.run)
