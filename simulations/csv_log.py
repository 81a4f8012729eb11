"""Log of sent emails in a CSV file, as arrays; every fault is named by its line and column."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray, IntArray
from bandits.csv_rows import missing_column, position, whole_rows
from bandits.errors import InvalidInput
from bandits.features import CategoryFeature, EncodingCounts, NumberFeature

MOST_VALUES = 100  # different texts of a context column; as many as the engine takes


class LogColumns(Struct, frozen=True):
    """Columns of the file by their meaning."""

    arm: str
    reward: str
    context: tuple[str, ...] = ()
    propensity: str | None = None

    def check(self) -> None:
        """Refuse a context that holds the arm, the reward or the propensity.

        Raises:
            InvalidInput: a column has two meanings.
        """
        used = [self.arm, self.reward, *filter(None, [self.propensity]), *self.context]
        for i, name in enumerate(used):
            if name in used[:i]:
                raise InvalidInput.at("", f"column {name!r} is named twice")


class ReplayLog(Struct, frozen=True, eq=False):
    """n rows of a log.

    Attributes:
        arms: the K names, in alphabetical order.
        arm: (n,) int, the arm that was sent.
        rewards: (n,).
        contexts: (n, d), the first feature 1, numbers scaled to [0, 1], texts one feature a value.
        propensities: (n,), of the arm that was sent; None where they are not logged.
    """

    arms: tuple[str, ...]
    arm: IntArray
    rewards: FloatArray
    contexts: FloatArray
    propensities: FloatArray | None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.arm)


class _ColumnCells(Struct, frozen=True):
    """A column: its cells as text, and the lines they stand on."""

    file: str
    name: str
    texts: Sequence[str]
    lines: Sequence[int]

    def fault(self, row: int, detail: str) -> InvalidInput:
        """Make the error for a cell."""
        place = f"{self.file}, line {self.lines[row]}, column {self.name!r}"
        return InvalidInput.at("", f"{place}: {detail}")

    def numbers(self) -> FloatArray:
        """Read every cell as a finite number.

        Raises:
            InvalidInput: at the first cell that is none.
        """
        out = np.empty(len(self.texts))
        for row, text in enumerate(self.texts):
            number = _number(text)
            if number is None:
                raise self.fault(row, f"{text[:40]!r} is not a finite number")
            out[row] = number
        return out


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def read_log(path: Path, columns: LogColumns) -> ReplayLog:
    """Read a log.

    Raises:
        InvalidInput: the file cannot be read, a column is missing, a row is ragged, or a cell does
            not fit, with its line and column.
    """
    columns.check()
    needed = [columns.arm, columns.reward, *columns.context, *filter(None, [columns.propensity])]
    cells = _read_cells(path, needed)
    names = cells[columns.arm]
    for row, text in enumerate(names.texts):
        if not text:
            raise names.fault(row, "is empty")
    arms, arm = np.unique(np.array(names.texts), return_inverse=True)
    rewards = cells[columns.reward].numbers()
    encoded = [np.ones((len(arm), 1)), *(_encode(cells[name]) for name in columns.context)]
    propensities = None
    if columns.propensity is not None:
        propensities = _propensities(cells[columns.propensity])
    return ReplayLog(
        tuple(str(a) for a in arms), arm, rewards, np.concatenate(encoded, axis=1), propensities
    )


class LabelledTable(Struct, frozen=True, eq=False):
    """n rows of a labelled table.

    Attributes:
        labels: the K names, in alphabetical order.
        label: (n,) int.
        contexts: (n, d), encoded as a log's.
    """

    labels: tuple[str, ...]
    label: IntArray
    contexts: FloatArray


def read_labelled(path: Path, label: str, features: Sequence[str]) -> LabelledTable:
    """Read a table in which one column is predicted from others, by default from all others.

    Raises:
        InvalidInput: as `read_log`.
    """
    cells = _read_cells(path, (label, *features) if features else None)
    if label not in cells:
        raise missing_column(path, cells, label)
    labels, positions = np.unique(np.array(cells[label].texts), return_inverse=True)
    encoded = [_encode(column) for name, column in cells.items() if name != label]
    contexts = np.concatenate([np.ones((len(positions), 1)), *encoded], axis=1)
    return LabelledTable(tuple(str(name) for name in labels), positions, contexts)


def _propensities(cells: _ColumnCells) -> FloatArray:
    values = cells.numbers()
    wrong = np.flatnonzero((values <= 0) | (values > 1))
    if len(wrong):
        row = int(wrong[0])
        raise cells.fault(row, f"{cells.texts[row]!r} is not a probability above 0")
    return values


def _encode(cells: _ColumnCells) -> FloatArray:
    """Encode a context column as the engine does: (n, 1) if numbers, else (n, values)."""
    are_numbers = [_number(text) is not None for text in cells.texts]
    if sum(are_numbers) * 2 > len(
        are_numbers
    ):  # a few texts among numbers are mistakes, not categories
        numbers = cells.numbers()
        low, high = float(numbers.min()), float(numbers.max())
        feature = NumberFeature(cells.name, low, high if high > low else low + 1)
        return feature.column(numbers.tolist(), EncodingCounts())
    values = sorted(set(cells.texts))
    if len(values) > MOST_VALUES:
        raise cells.fault(
            0, f"has {len(values):,} different texts, at most {MOST_VALUES} can be told apart"
        )
    return CategoryFeature(cells.name, tuple(values)).column(cells.texts, EncodingCounts())


def _read_cells(path: Path, names: Sequence[str] | None) -> dict[str, _ColumnCells]:
    """Read the columns of these names, or all."""
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            all_rows = whole_rows(path, file)
            _, header = next(all_rows, (0, []))
            names = header if names is None else names
            positions = [position(path, header, name) for name in names]
            for line, row in all_rows:
                lines.append(line)
                rows.append([row[at] for at in positions])
    except OSError as error:
        raise InvalidInput.at("", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput.at("", f"{path}: is not UTF-8 text") from None
    if not rows:
        raise InvalidInput.at("", f"{path}: has a header and no rows")
    texts = zip(*rows, strict=True)
    return {
        name: _ColumnCells(str(path), name, cells, lines)
        for name, cells in zip(names or (), texts, strict=True)
    }
