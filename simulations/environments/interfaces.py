"""Interface of an environment: contexts, true means, and rewards."""

from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.problem import Problem


class Rounds(Struct, frozen=True, eq=False):
    """Contexts and true means of n recipients.

    Attributes:
        contexts: (n, d), or (1, d) where all n are alike; the first feature is 1, as the engine's.
        means: (n, K), or (1, K) where all n are alike: the expected reward of each arm, which
            regret is measured against; it may drift.
    """

    contexts: FloatArray
    means: FloatArray


class RoundSource(Protocol):
    """Source of the rounds of one replication."""

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:
        """Draw the rounds from `start` (0 for the first) to `start + n`."""
        ...


class Environment(RoundSource, Protocol):
    """Simulated recipients. It holds figures only; randomness arrives as `rng`.

    One number a round is the noise of every arm's reward. Only one arm of a round is ever seen, so
    the dependence between arms changes no policy's law; sharing the noise makes the difference
    between two policies as quiet as it can be, and policies that choose alike earn alike.
    """

    @property
    def problem(self) -> Problem:
        """The arms, features and bounds of rewards."""
        ...

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the K arms."""
        ...

    def replicate(self, rng: Generator) -> RoundSource:
        """Draw the rounds' source for one replication."""
        ...

    def noise(self, n: int, rng: Generator) -> FloatArray:
        """Draw the noise of n rounds: (n,)."""
        ...

    def reward(self, arms: IntArray, means: FloatArray, noise: FloatArray) -> FloatArray:
        """Return the rewards of arms with these means, element by element."""
        ...


class SharedRoundSource:
    """Environment that draws nothing once for each replication."""

    __slots__ = ()

    def replicate(self: RoundSource, rng: Generator) -> RoundSource:  # noqa: ARG002 - nothing is drawn
        """Return itself."""
        return self


class BinaryRewards(SharedRoundSource):
    """Rewards that are 0 or 1; the means are success rates."""

    __slots__ = ()

    def noise(self, n: int, rng: Generator) -> FloatArray:
        """Draw n uniforms."""
        return rng.random(n)

    def reward(self, arms: IntArray, means: FloatArray, noise: FloatArray) -> FloatArray:  # noqa: ARG002 - the mean is enough
        """Succeed where the uniform lies below the rate: a higher rate never does worse."""
        return (noise < means).astype(np.float64)


def numbered_arms(n_arms: int) -> tuple[str, ...]:
    """Number arms that have no names of their own."""
    return tuple(f"arm {i + 1}" for i in range(n_arms))
