"""What takes part in a simulation: a policy that learns, or a procedure such as an A/B test."""

from typing import Any, Protocol

from msgspec import Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem
from simulations.running.replications import Chunk
from simulations.running.schedule import Run, Schedule


class Learner(Protocol):
    """A contestant at play in R replications side by side; it remembers what it has seen."""

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Prepare for a batch of `upcoming` decisions; `last` if no other follows."""
        ...

    def choose(self, contexts: FloatArray) -> IntArray:
        """Choose arms for contexts (R, n, d): (R, n)."""
        ...

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Hear what was sent, and pack its feedback: what `learn` gets once it is visible."""
        ...

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Pack a correction of what was last `sent`, for `learn` to get later.

        Where `changed` (R, n) is 1, the decision was taken to have earned nothing, and turns out to
        have earned its reward after all.
        """
        ...

    def learn(self, feedback: Any) -> None:
        """Learn from what an earlier `sent` or `corrected` packed."""
        ...

    def shipped(self) -> FloatArray | None:
        """Return which arm it would send once all feedback is in, (R, K), ties shared.

        NaN in replications where it sends none more than others; None where that depends on the
        recipient.
        """
        ...

    def decided(self) -> FloatArray:
        """Tell after how many decisions it settled on an arm, (R,); NaN where it has not."""
        ...


class SequentialLearner(Protocol):
    """A contestant at play that goes through rounds by itself.

    For speed: one that learns after every decision need not be asked for one at a time.
    """

    def go_through(self, stretch: Chunk) -> tuple[IntArray, FloatArray]:
        """Play a stretch: the arms chosen, and their means, (R, n)."""
        ...

    def finish(self) -> None:
        """Learn what is still under way: whoever ships a winner waits for it."""
        ...

    def shipped(self) -> FloatArray | None:
        """As a `Learner`."""
        ...

    def decided(self) -> FloatArray:
        """As a `Learner`."""
        ...


class LearnerFactory(Protocol):
    """What is compared in a simulation; its figures only, so that it can play again."""

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse what it cannot play.

        Raises:
            InvalidInput: naming the parameter that does not fit.
        """
        ...

    def schedule(self, run: Run, problem: Problem) -> Schedule:
        """Return when it sends and learns."""
        ...

    def enter(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner | SequentialLearner:
        """Begin to play in so many replications side by side."""
        ...


class FixedSize(LearnerFactory, Protocol):
    """What a contestant may offer on top whose end was planned without asking for the horizon."""

    def planned(self, problem: Problem) -> int:
        """Return the decisions after which it is read for the last time, so that it can ship."""
        ...


class LabelledLearner(Struct, frozen=True):
    """A contestant and what tables call it."""

    label: str
    contestant: LearnerFactory
