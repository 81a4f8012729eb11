"""Draws of arms from a policy's probabilities, after the floor."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.policy import AnyPolicy, sample_arms


class ArmDraws:
    """Draws of arms from a policy's probabilities, after the floor."""

    def __init__(self, policy: AnyPolicy, floor: float, rng: Generator) -> None:
        self.policy, self.floor, self.rng = policy, floor, rng

    def step_sampler(self, n_arms: int) -> Callable[[Any, FloatArray, Generator], IntArray]:
        """Return the function that draws at every step, with as few calls around it as possible."""
        if self.policy.sample is None or self.floor:
            return lambda prepared, contexts, _: self.arms(prepared, contexts, n_arms)
        return self.policy.sample

    def arms(self, prepared: Any, contexts: FloatArray, n_arms: int) -> IntArray:
        """Draw an arm for each of contexts (R, d) or (R, n, d)."""
        arms = sample_arms(self.policy, prepared, contexts, self.rng)
        if self.floor == 0:
            return arms
        # π' = ε + (1 − Kε)π is a mixture: an arm at random with chance Kε, else the policy's.
        u = self.rng.random(arms.shape)
        return np.where(u < n_arms * self.floor, (u / self.floor).astype(np.int64), arms)
