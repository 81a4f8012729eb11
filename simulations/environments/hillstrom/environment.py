"""Customers like Hillstrom's: a real randomised email test, in figures that behave like it."""

from functools import cache
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.hillstrom import coefficients
from simulations.environments.hillstrom.design_matrix import (
    ARMS,
    CHANNELS,
    LEVELS,
    ZIP_CODES,
    design,
    group,
    third,
)
from simulations.environments.interfaces import BinaryRewards, Rounds

HISTORY_HIGH = 1000.0  # dollars; 2.4 % of the customers spent more
FEATURES = (
    "always 1",
    "recency",
    "history",
    "mens",
    "womens",
    "newbie",
    *(f"zip_code={z}" for z in ZIP_CODES),
    *(f"channel={c}" for c in CHANNELS),
)

_COEFFICIENTS = {
    "visit": coefficients.VISIT,
    "conversion": coefficients.CONVERSION,
}


class Hillstrom(
    Parameters, BinaryRewards, tag_field="kind", tag="hillstrom", frozen=True, kw_only=False
):
    """Customers like those of Hillstrom's test (2008), who get no email, mens' or womens'.

    Customers are drawn from the joint shares of mens, womens, newbie, zip code and channel, then
    recency and history given those; their actions follow one logistic model per arm. Contexts are
    encoded as the engine encodes them.
    """

    metric: Annotated[
        Literal["visit", "conversion"], Meta(description="what counts, within two weeks")
    ] = "visit"

    @property
    def problem(self) -> Problem:
        """Three arms, twelve features, rewards in [0, 1]."""
        return Problem.of(len(ARMS), n_features=len(FEATURES))

    @property
    def arms(self) -> tuple[str, ...]:
        """As the file calls them."""
        return ARMS

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - nothing changes with time
        """Draw n customers: contexts (n, 12), means (n, 3)."""
        traits, recency, history = customers(n, rng)
        logits = design(traits, recency, history) @ _table(_COEFFICIENTS[self.metric]).T
        return Rounds(encode(traits, recency, history), 1 / (1 + np.exp(-logits)))


def customers(n: int, rng: Generator) -> tuple[IntArray, IntArray, FloatArray]:
    """Draw n customers: traits (n, 5) as `design` takes them, recency (n,), history (n,)."""
    shares = _shares()
    u = rng.random((n, 3))
    traits = shares.traits[np.searchsorted(shares.cells, u[:, 0], side="right")]
    groups = group(traits)
    month = np.searchsorted(shares.months, groups + u[:, 1], side="right") - 12 * groups
    recency = 1 + np.minimum(month, 11)  # the last of the summed shares may lie a rounding below 1
    row = shares.history[3 * groups + third(recency)]
    level = u[:, 2] * LEVELS[-1]
    at = np.searchsorted(LEVELS, level, side="right") - 1
    low, high = np.take(LEVELS, at), np.take(LEVELS, at + 1)
    below, above = np.take_along_axis(row, np.stack([at, at + 1], axis=1), axis=1).T
    return traits, recency, below + (above - below) * (level - low) / (high - low)


def encode(traits: IntArray, recency: IntArray, history: FloatArray) -> FloatArray:
    """Encode customers as FEATURES: (n, 12), numbers scaled to [0, 1]."""
    zip_code, channel = traits[:, 3], traits[:, 4]
    numbers = [np.ones(len(traits)), (recency - 1) / 11, np.minimum(history / HISTORY_HIGH, 1.0)]
    return np.concatenate(
        [
            np.stack(numbers, axis=1),
            traits[:, :3],
            np.eye(len(ZIP_CODES))[zip_code],
            np.eye(len(CHANNELS))[channel],
        ],
        axis=1,
    )


class _CustomerShares(Struct, frozen=True, eq=False):
    """Tables of `coefficients` as arrays.

    Attributes:
        traits: (cells, 5).
        cells: (cells,), cumulative shares.
        months: (8 × 12,), cumulative shares, each group's raised by its number, so that one search
            finds group and month.
        history: (8 × 3, levels), dollars.
    """

    traits: IntArray
    cells: FloatArray
    months: FloatArray
    history: FloatArray


@cache
def _shares() -> _CustomerShares:
    cells = _table(coefficients.CELLS)
    months = np.cumsum(_table(coefficients.RECENCY), axis=1)
    months = months / months[:, -1:] + np.arange(len(months))[:, None]
    cumulative = np.cumsum(cells[:, 5])
    return _CustomerShares(
        cells[:, :5].astype(np.int64),
        cumulative[:-1] / cumulative[-1],
        months.ravel(),
        _table(coefficients.HISTORY),
    )


@cache
def _table(text: str) -> FloatArray:
    return np.array([line.split() for line in text.strip().splitlines()], dtype=np.float64)
