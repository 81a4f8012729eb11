"""Result of an evaluation: estimates of a target's value, and how far a log can tell it."""

from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import msgspec
import pyarrow as pa
from msgspec import Struct

from simulations.evaluation.diagnostics import Diagnostics

IntervalKind = Literal["betting", "bootstrap", "orders", "none"]

_WIDTH = 100


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
            parameter is not known; ``orders`` is Student's, over resampled logs in random orders;
            ``none`` where the error is the model's own.
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

    def rows(self) -> list[tuple[str, ...]]:
        """Write a table: the headings, and one row for each estimator."""
        interval = f"{100 * self.level:g} % interval"
        rows: list[tuple[str, ...]] = [("estimator", "reward per email", interval, "± se", "by")]
        for estimate in self.estimates:
            interval = "–"
            if estimate.low is not None and estimate.high is not None:
                interval = f"{estimate.low:.5f} to {estimate.high:.5f}"
            chosen = "" if estimate.parameter is None else f" ({estimate.parameter:.3g})"
            numbers = (f"{estimate.value:.5f}", interval, f"{estimate.se:.5f}")
            rows.append((estimate.name + chosen, *numbers, estimate.interval))
        return rows

    def notes(self) -> list[str]:
        """Write the diagnostics, the warnings and the refusal as sentences."""
        shown = self.diagnostics
        support = "" if shown.support is None else f", support {100 * shown.support:.1f} %"
        worth = (
            f"{shown.rows:,} rows, worth {shown.effective_rows:,.0f} of the target's own; mean "
            f"weight {shown.mean_weight:.4f} ± {shown.mean_weight_se:.4f}, largest "
            f"{shown.largest_weight:,.1f}{support}."
        )
        lines = [
            worth,
            f"The log itself earned {shown.logged_value:.5f} ± {shown.logged_se:.5f}.",
        ]
        if self.refusal is not None:
            lines.append(f"No value is shown: {self.refusal}.")
        return [*lines, *(f"Note: {warning}." for warning in self.warnings)]

    def __str__(self) -> str:
        """Write the table and the notes as plain text."""
        lines = [self.label]
        if self.estimates:
            table = self.rows()
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            for row in table:
                first, *numbers, last = row
                cells = [first.ljust(widths[0])]
                cells += [c.rjust(w) for c, w in zip(numbers, widths[1:-1], strict=True)]
                lines.append("  ".join([*cells, last]).rstrip())
        for note in self.notes():
            lines += wrap(note, _WIDTH)
        return "\n".join(lines)
