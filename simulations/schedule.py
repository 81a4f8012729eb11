"""When a simulated campaign sends and learns."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from bandits.arrays import IntArray
from bandits.errors import Fault, InvalidInput
from bandits.policy import Parameters

Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class Schedule(Struct, frozen=True, eq=False):
    """Where batches end, and how late their feedback is.

    Attributes:
        ends: (batches,) int, ascending: decisions made when each batch ends; the last is the
            horizon.
        delay: how many further batches end before a batch's feedback is visible.
    """

    ends: IntArray
    delay: int = 0

    @property
    def sequential(self) -> bool:
        """Whether every decision is a batch of its own."""
        return len(self.ends) == int(self.ends[-1])


class Run(Parameters, frozen=True):
    """How a simulation is run."""

    horizon: Annotated[Positive, Meta(description="decisions in a replication")]
    batches: Annotated[
        Positive | tuple[Positive, ...] | None,
        Meta(
            description="equal batches, or the size of each; without it, policies learn after "
            "every decision"
        ),
    ] = None
    delay: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="batches before the feedback of a batch is visible"),
    ] = 0
    replications: Annotated[Positive, Meta(description="independent repetitions")] = 1000
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="the same seed gives the same numbers")
    ] = 0

    def __post_init__(self) -> None:
        """Check each field, and that the batches fill the horizon.

        Raises:
            InvalidInput: naming what does not fit.
        """
        Parameters.__post_init__(self)
        if isinstance(self.batches, tuple) and sum(self.batches) != self.horizon:
            total = sum(self.batches)
            raise InvalidInput.at("/batches", f"sizes sum to {total}, horizon is {self.horizon}")
        if isinstance(self.batches, int) and self.batches > self.horizon:
            raise InvalidInput([Fault("/batches", f"more batches than horizon, {self.horizon}")])

    @property
    def schedule(self) -> Schedule:
        """The ends of its batches, and its delay."""
        return Schedule(batch_ends(self.horizon, self.batches), self.delay)


def batch_ends(horizon: int, batches: int | tuple[int, ...] | None) -> IntArray:
    """Return where batches end: equal ones up to rounding, given sizes, or every decision."""
    if batches is None:
        return np.arange(1, horizon + 1)
    if isinstance(batches, tuple):
        return np.cumsum(batches)
    return np.arange(1, batches + 1) * horizon // batches
