"""Order values: most emails sell nothing, a few sell for an amount that varies widely."""

from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.random import Generator
from scipy.special import ndtr, ndtri

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.environments.bernoulli import Rate
from simulations.environments.interfaces import Rounds, SharedRoundSource, numbered_arms

Amount = Annotated[float, Meta(gt=0, le=1e9)]


class Orders(
    Parameters, SharedRoundSource, tag_field="kind", tag="orders", frozen=True, kw_only=False
):
    """An order comes at the arm's rate; its value is log-normal, cut at the cap.

    So an email with fewer but larger orders may be the better one.
    """

    rates: Annotated[
        tuple[Rate, ...], Meta(min_length=1, description="share of emails that sell, by arm")
    ]
    values: Annotated[
        tuple[Amount, ...], Meta(min_length=1, description="median value of an order, by arm")
    ]
    sigma: Annotated[
        float, Meta(gt=0, le=5, description="standard deviation of the logarithm of a value")
    ] = 0.8
    cap: Annotated[
        Amount, Meta(description="the most that an order counts, as a reward rule would say")
    ] = 1000.0

    def __post_init__(self) -> None:
        """Check each field, and that each arm has a rate and a value.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if len(self.values) != len(self.rates):
            raise InvalidInput.at(
                "/values", f"has {len(self.values)} numbers, rates {len(self.rates)}"
            )

    @property
    def problem(self) -> Problem:
        """K arms, rewards in [0, cap]."""
        return Problem.of(len(self.rates), 1, 0.0, self.cap)

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered_arms(len(self.rates))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - all rounds are alike
        """Give the same truth for every round: rate times E[min(value, cap)]."""
        median, s = np.array(self.values), self.sigma
        z = np.log(self.cap / median) / s
        below = median * np.exp(s**2 / 2) * ndtr(z - s)
        return Rounds(np.ones((1, 1)), (np.array(self.rates) * (below + self.cap * ndtr(-z)))[None])

    def noise(self, n: int, rng: Generator) -> FloatArray:
        """Draw n uniforms."""
        return rng.random(n)

    def reward(self, arms: IntArray, means: FloatArray, noise: FloatArray) -> FloatArray:  # noqa: ARG002 - the arm is enough
        """Sell where the uniform lies below the rate; its rank below the rate decides the value."""
        rates, medians = np.array(self.rates)[arms], np.array(self.values)[arms]
        sold = noise < rates
        rank = np.divide(noise, rates, out=np.full(np.shape(sold), 0.5), where=sold)
        value = np.minimum(medians * np.exp(self.sigma * ndtri(1 - rank)), self.cap)
        return np.where(sold, value, 0.0)
