"""What a simulation found, for people, notebooks and programs."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from simulations.reporting.summary import ResultSummary
from simulations.reporting.tables import as_html, as_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Result(ResultSummary, frozen=True, eq=False):
    """What a simulation found, and how to see it: printed, drawn, in a notebook or as a file."""

    def to_parquet(self, path: str | Path) -> None:
        """Write `replicated` to a parquet file."""
        pq.write_table(self.replicated(), path)

    def figure(self) -> "Figure":
        """Draw the regret of every contestant as the campaign goes on."""
        from simulations.reporting.charts import regret_curves  # noqa: PLC0415 - drawing is loaded when used

        return regret_curves(self)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return as_html(self)
