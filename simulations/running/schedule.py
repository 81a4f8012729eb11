"""Schedule of a simulated campaign: batches, delay, and the run's settings."""

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from bandits.array_types import IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from simulations.running.delays import Feedback

_MOST_STEPS = 100_000_000  # one by one; already hours, and a gigabyte for where batches end

Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class Schedule(Struct, frozen=True, eq=False):
    """Ends of batches, and the delay of their feedback.

    Attributes:
        ends: (batches,) int, ascending: decisions made when each batch ends; the last is the
            horizon.
        delay: number of further batches that end before a batch's feedback is visible.
        patient: true where the next batch waits until all feedback of this one is in.
    """

    ends: IntArray
    delay: int = 0
    patient: bool = False

    @property
    def sequential(self) -> bool:
        """True where every decision is a batch of its own."""
        return len(self.ends) == int(self.ends[-1])


class Ramp(Parameters, frozen=True):
    """Batches that grow: each is `factor` times as large as the one before; 1 keeps to one size."""

    first: Annotated[Positive, Meta(description="size of the first batch")]
    factor: Annotated[float, Meta(ge=1, le=1000, description="growth from batch to batch")] = 2.0


class Run(Parameters, frozen=True):
    """Settings of a simulation run."""

    horizon: Annotated[Positive, Meta(description="decisions in a replication")]
    batches: Annotated[
        Positive | tuple[Positive, ...] | Ramp | None,
        Meta(
            description="equal batches, the size of each, or how they grow; without it, policies "
            "learn after every decision"
        ),
    ] = None
    delay: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="batches before the feedback of a batch is visible"),
    ] = 0
    feedback: Annotated[
        Feedback | None, Meta(description="when each reward arrives, instead of a delay in batches")
    ] = None
    after: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000_000)] | None,
        Meta(description="decisions after the campaign, with what it shipped; as many by default"),
    ] = None
    replications: Annotated[Positive, Meta(description="independent repetitions")] = 1000
    unwanted: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...] | None,
        Meta(description="chance of an unwanted event, such as a complaint, of each arm's emails"),
    ] = None
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="the same seed gives the same numbers")
    ] = 0

    def __post_init__(self) -> None:
        """Check each field, and that the batches fill the horizon.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if isinstance(self.batches, tuple) and sum(self.batches) != self.horizon:
            total = sum(self.batches)
            raise InvalidInput.at("/batches", f"sizes sum to {total}, horizon is {self.horizon}")
        if isinstance(self.batches, int) and self.batches > self.horizon:
            raise InvalidInput.at("/batches", f"more batches than horizon, {self.horizon}")
        if self.batches is None and self.horizon > _MOST_STEPS:
            raise InvalidInput.at("/batches", f"is required beyond {_MOST_STEPS:,} decisions")
        if self.feedback is not None and self.delay:
            raise InvalidInput.at("/feedback", "give either delay, in batches, or feedback")

    @property
    def decisions_after(self) -> int:
        """Decisions after the campaign."""
        return self.horizon if self.after is None else self.after

    @property
    def schedule(self) -> Schedule:
        """The ends of its batches, and its delay."""
        return Schedule(batch_ends(self.horizon, self.batches), self.delay)


def batch_ends(horizon: int, batches: int | tuple[int, ...] | Ramp | None) -> IntArray:
    """Return where batches end: equal ones up to rounding, given sizes, a ramp, or every decision.

    A ramp's last batch takes the remaining decisions: at most the size that its turn would have,
    unless that would leave a rest smaller than the first batch, which it then takes too.
    """
    if batches is None:
        return np.arange(1, horizon + 1)
    if isinstance(batches, tuple):
        return np.cumsum(batches)
    if isinstance(batches, Ramp):
        return _ramp_ends(horizon, batches)
    return np.arange(1, batches + 1) * horizon // batches


def _ramp_ends(horizon: int, ramp: Ramp) -> IntArray:
    ends: list[int] = []
    size = float(ramp.first)
    while (end := (ends[-1] if ends else 0) + round(size)) + ramp.first <= horizon:
        ends.append(end)
        size *= ramp.factor
    return np.array([*ends, horizon])
