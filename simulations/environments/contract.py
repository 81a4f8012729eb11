"""What an environment is: contexts, the truth behind the rewards, and the rewards themselves."""

from typing import Protocol

from msgspec import Struct
from numpy.random import Generator

from bandits.arrays import FloatArray
from bandits.problem import Problem


class Rounds(Struct, frozen=True, eq=False):
    """What n recipients bring along.

    Attributes:
        contexts: (n, d), or (1, d) where all n are alike; the first feature is 1, as the engine's.
        means: (n, K), or (1, K) where all n are alike: the expected reward of each arm, which is
            the truth that regret is measured against; it may drift.
    """

    contexts: FloatArray
    means: FloatArray


class Environment(Protocol):
    """A world that policies are tried in. It holds figures only; randomness arrives as `rng`."""

    @property
    def problem(self) -> Problem:
        """What is chosen among, and between what bounds its rewards lie."""
        ...

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the K arms."""
        ...

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:
        """Draw the rounds from `start` (0 for the first) to `start + n`."""
        ...

    def rewards(self, means: FloatArray, rng: Generator) -> FloatArray:
        """Draw all potential rewards (n, K), so that policies which choose alike earn alike.

        Args:
            means: (n, K), as `rounds` gave them.
            rng: the randomness.
        """
        ...


class Shared(Environment, Protocol):
    """What an environment may offer on top, for speed: one number is a round's luck for every arm.

    Then only the chosen arm's reward is computed. `rewards` must be `reward(means, luck)` for the
    luck that the same generator gives.
    """

    def luck(self, n: int, rng: Generator) -> FloatArray:
        """Draw the luck of n rounds: (n,)."""
        ...

    def reward(self, means: FloatArray, luck: FloatArray) -> FloatArray:
        """Return the rewards of arms with these means, element by element."""
        ...


def numbered(n_arms: int) -> tuple[str, ...]:
    """Number arms that have no names of their own."""
    return tuple(f"arm {i + 1}" for i in range(n_arms))
