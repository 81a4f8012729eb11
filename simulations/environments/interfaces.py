"""What an environment is: contexts, the truth behind the rewards, and the rewards themselves."""

from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
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


class SharedNoise(Environment, Protocol):
    """What an environment may offer on top, for speed: one number is a round's luck for every arm.

    Then only the chosen arm's reward is computed. `rewards` must be what `reward` gives for the
    luck that the same generator gives.
    """

    def luck(self, n: int, rng: Generator) -> FloatArray:
        """Draw the luck of n rounds: (n,)."""
        ...

    def reward(self, arms: IntArray, means: FloatArray, luck: FloatArray) -> FloatArray:
        """Return the rewards of arms, whose means these are, element by element."""
        ...


class RoundSource(Protocol):
    """Where the rounds of one replication come from."""

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:
        """Draw the rounds from `start` (0 for the first) to `start + n`."""
        ...


class ReplicatedEnvironment(Environment, Protocol):
    """What an environment may offer on top: something that is drawn once for each replication."""

    def replicated(self, rng: Generator) -> RoundSource:
        """Draw the world of one replication."""
        ...


class RoundNoise:
    """All potential rewards by one number a round, for an environment that is `SharedNoise`.

    Only one arm of a round is ever seen, so how the arms' luck hangs together changes no policy's
    law; sharing it makes the difference between two policies as quiet as it can be.
    """

    __slots__ = ()

    def rewards(self: SharedNoise, means: FloatArray, rng: Generator) -> FloatArray:
        """Draw the reward of each arm: (n, K)."""
        n, n_arms = means.shape
        return self.reward(np.arange(n_arms), means, self.luck(n, rng)[:, None])


class BinaryRewards(RoundNoise):
    """Rewards that are 0 or 1; the means are success rates."""

    __slots__ = ()

    def luck(self, n: int, rng: Generator) -> FloatArray:
        """Draw n uniforms."""
        return rng.random(n)

    def reward(self, arms: IntArray, means: FloatArray, luck: FloatArray) -> FloatArray:  # noqa: ARG002 - the mean says it all
        """Succeed where the uniform lies below the rate: a higher rate never does worse."""
        return (luck < means).astype(np.float64)


def numbered(n_arms: int) -> tuple[str, ...]:
    """Number arms that have no names of their own."""
    return tuple(f"arm {i + 1}" for i in range(n_arms))
