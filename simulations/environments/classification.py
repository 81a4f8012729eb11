"""Any labelled table as a bandit: the arms are the labels, and the right one earns 1.

After Dudík, Langford and Li (2011), section 5: full information turned into bandit feedback.
"""

from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.random import SFC64, Generator, SeedSequence

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.csv_log import LabelledTable, read_labelled
from simulations.environments.interfaces import Rounds, SharedRoundSource

DIGITS = "digits"
_BRIGHTEST = 16.0  # of a pixel in scikit-learn's digits


class Classification(
    Parameters,
    SharedRoundSource,
    tag_field="kind",
    tag="classification",
    frozen=True,
    kw_only=False,
):
    """Rows of a labelled table in a random order, each once before any comes again.

    Numbers are scaled to their range, texts become one feature a value, and a constant comes first.
    """

    table: Annotated[
        str,
        Meta(
            min_length=1,
            description="a CSV file, or `digits`: scikit-learn's images, with the extra `digits`",
        ),
    ]
    target: Annotated[str, Meta(description="the column to be predicted")] = ""
    features: Annotated[
        tuple[str, ...], Meta(description="the columns that predict it; by default all others")
    ] = ()

    def __post_init__(self) -> None:
        """Check each field, and read the table.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if self.table != DIGITS and not self.target:
            raise InvalidInput.at("/target", "is missing")
        _ = self._rows

    @property
    def _rows(self) -> LabelledTable:
        return _read(self.table, self.target, self.features)

    @property
    def problem(self) -> Problem:
        """One arm for each label, rewards in [0, 1]."""
        return Problem.of(len(self._rows.labels), self._rows.contexts.shape[1])

    @property
    def arms(self) -> tuple[str, ...]:
        """The labels."""
        return self._rows.labels

    def replicate(self, rng: Generator) -> "ShuffledTable":
        """Shuffle the rows."""
        return ShuffledTable(self._rows, int(rng.integers(2**63)))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:
        """Draw n rows in an order of their own: contexts (n, d), means (n, K), 0 or 1."""
        return self.replicate(rng).rounds(start, n, rng)

    def noise(self, n: int, rng: Generator) -> FloatArray:  # noqa: ARG002 - nothing is drawn
        """Return zeros: the right label is certain."""
        return np.zeros(n)

    def reward(self, arms: IntArray, means: FloatArray, noise: FloatArray) -> FloatArray:  # noqa: ARG002 - the mean is enough
        """Earn 1 with the right label."""
        return means + noise


class ShuffledTable(Struct, frozen=True, eq=False):
    """The rows of a table in one replication's order, which every pass shuffles anew."""

    rows: LabelledTable
    key: int

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - the key is enough
        """Look up the rows of n rounds: contexts (n, d), means (n, K), 0 or 1."""
        size = len(self.rows.label)
        positions = np.arange(start, start + n)
        order = np.concatenate(
            [self._order(p) for p in range(start // size, (start + n - 1) // size + 1)]
        )
        rows = order[positions - start // size * size]
        truth = np.eye(len(self.rows.labels))[self.rows.label[rows]]
        return Rounds(self.rows.contexts[rows], truth)

    def _order(self, in_pass: int) -> IntArray:
        rng = Generator(SFC64(SeedSequence(self.key, spawn_key=(in_pass,))))
        return rng.permutation(len(self.rows.label))


@cache
def _read(table: str, target: str, features: tuple[str, ...]) -> LabelledTable:
    if table == DIGITS:
        return _digits()
    try:
        return read_labelled(Path(table), target, features)
    except InvalidInput as error:
        raise error.under("/table") from None


def _digits() -> LabelledTable:
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra
    except ImportError:
        raise InvalidInput.at(
            "/table", "digits come with scikit-learn: pip install 'email-bandits[digits]'"
        ) from None
    images, label = load_digits(return_X_y=True)
    contexts = np.concatenate([np.ones((len(label), 1)), images / _BRIGHTEST], axis=1)
    return LabelledTable(tuple(str(digit) for digit in range(10)), label, contexts)
