"""A log of sent emails in a CSV file, as arrays; every fault is named by its line and column."""

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
    """Which columns of the file mean what."""

    arm: str
    reward: str
    context: tuple[str, ...] = ()
    propensity: str | None = None

    def check(self) -> None:
        """Refuse a context that would tell the policy what it is asked to find out.

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
        arm: (n,) int, what was sent.
        rewards: (n,).
        contexts: (n, d), the first feature 1, numbers scaled to [0, 1], texts one feature a value.
        propensities: (n,), of what was sent; None where nobody knows.
    """

    arms: tuple[str, ...]
    arm: IntArray
    rewards: FloatArray
    contexts: FloatArray
    propensities: FloatArray | None

    @property
    def n(self) -> int:
        """How many rows."""
        return len(self.arm)


class _Cells(Struct, frozen=True):
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
            InvalidInput: at the first that is none.
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
    wanted = [columns.arm, columns.reward, *columns.context, *filter(None, [columns.propensity])]
    cells = _read_cells(path, wanted)
    names = cells[columns.arm]
    for row, text in enumerate(names.texts):
        if not text:
            raise names.fault(row, "is empty")
    arms, arm = np.unique(np.array(names.texts), return_inverse=True)
    rewards = cells[columns.reward].numbers()
    encoded = [np.ones((len(arm), 1)), *(_encoded(cells[name]) for name in columns.context)]
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
    """Read a table in which one column is to be told from others, by default from all others.

    Raises:
        InvalidInput: as `read_log`.
    """
    cells = _read_cells(path, (label, *features) if features else None)
    if label not in cells:
        raise missing_column(path, cells, label)
    labels, positions = np.unique(np.array(cells[label].texts), return_inverse=True)
    told = [_encoded(column) for name, column in cells.items() if name != label]
    contexts = np.concatenate([np.ones((len(positions), 1)), *told], axis=1)
    return LabelledTable(tuple(str(name) for name in labels), positions, contexts)


def _propensities(cells: _Cells) -> FloatArray:
    values = cells.numbers()
    wrong = np.flatnonzero((values <= 0) | (values > 1))
    if len(wrong):
        row = int(wrong[0])
        raise cells.fault(row, f"{cells.texts[row]!r} is not a probability above 0")
    return values


def _encoded(cells: _Cells) -> FloatArray:
    """Encode a context column as the engine does: (n, 1) if numbers, else (n, values)."""
    found = [_number(text) is not None for text in cells.texts]
    if sum(found) * 2 > len(found):  # a few texts among numbers are mistakes, not categories
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


def _read_cells(path: Path, wanted: Sequence[str] | None) -> dict[str, _Cells]:
    """Read the wanted columns, or all."""
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            all_rows = whole_rows(path, file)
            _, header = next(all_rows, (0, []))
            wanted = header if wanted is None else wanted
            positions = [position(path, header, name) for name in wanted]
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
        name: _Cells(str(path), name, cells, lines)
        for name, cells in zip(wanted or (), texts, strict=True)
    }
