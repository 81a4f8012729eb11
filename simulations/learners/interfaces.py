"""Interfaces of learners: policies that learn, and procedures such as A/B tests."""

from typing import Any, Protocol

from msgspec import Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from simulations.running.replications import Chunk
from simulations.running.schedule import Run, Schedule


class Learner(Protocol):
    """A learner in R replications side by side, which plays chunk by chunk."""

    def play(self, chunk: Chunk) -> tuple[IntArray, FloatArray]:
        """Choose arms for the rounds of a chunk: these, and their means, (R, n)."""
        ...

    def finish(self) -> None:
        """Learn from the feedback that is still pending: a winner is shipped once it is in."""
        ...

    def shipped_shares(self) -> FloatArray | None:
        """Return the arm that it would send once all feedback is in, (R, K), ties shared.

        NaN in replications where it sends none more than others; None where that depends on the
        recipient.
        """
        ...

    def sends_to_decision(self) -> FloatArray:
        """Return the decisions after which it settled on an arm, (R,); NaN where it has not."""
        ...


class BatchLearner(Protocol):
    """A learner in R replications side by side, which plays batch by batch.

    `ScheduledLearner` makes a `Learner` of it.
    """

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Prepare for a batch of `upcoming` decisions; `last` if no other follows."""
        ...

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose arms for contexts (R, n, d): (R, n)."""
        ...

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count decisions as pending, and return their feedback: what `learn` gets when it is due.

        Args:
            arms: (R, n).
            rewards: (R, n), those that count when the feedback is due.
            contexts: (R, n, d).
        """
        ...

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Return the feedback that corrects decisions of the last `send`, for `learn` later.

        Where `changed` (R, n) is 1, the decision counted as one without reward, and its reward has
        arrived after all.
        """
        ...

    def learn(self, feedback: Any) -> None:
        """Learn from the feedback of an earlier `send` or `correct`."""
        ...

    def shipped_shares(self) -> FloatArray | None:
        """As a `Learner`."""
        ...

    def sends_to_decision(self) -> FloatArray:
        """As a `Learner`."""
        ...


class LearnerFactory(Protocol):
    """Configuration of a learner; it holds figures only, so that it can create it again."""

    @property
    def name(self) -> str:
        """The name in a scenario file."""
        ...

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse a problem or run that the learner cannot play.

        Raises:
            InvalidInput: naming the parameter that does not fit.
        """
        ...

    def schedule(self, run: Run, problem: Problem) -> Schedule:
        """Return the batches in which it sends and learns."""
        ...

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create the learner for so many replications side by side."""
        ...

    def planned_size(self, problem: Problem) -> int | None:
        """Return the decisions after which it is read for the last time, so that it can ship.

        None where its end is not planned, or follows from the horizon.
        """
        ...


class LabelledLearner(Struct, frozen=True):
    """A learner's factory, and its label in tables."""

    label: str
    factory: LearnerFactory
