"""Learning policies on a log: what one would have earned while it learned, by sequential DR."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.random import SFC64, Generator, SeedSequence
from scipy.stats import t as student

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import AnyPolicy
from bandits.registry import make
from simulations.evaluation.logged_rounds import LoggedRounds
from simulations.evaluation.reward_model import RewardModel
from simulations.evaluation.targets import PolicyState

_GROWTH = 0.1  # rows, of those so far, after which the policy is prepared anew
_LEAST_ROWS = 20  # at a time
_QUANTILE = 0.05  # of ratios that limit how many rows are taken
LEAST_STEPS = 100  # emails that it learned from, for its value to be shown


class LearningPolicy(Struct, frozen=True, eq=False):
    """A registered policy that begins with nothing and learns from the rows that it would draw.

    Attributes:
        policy: its name, or the policy.
        params: of a policy that is named.
        floor: the least probability of an eligible arm.
        orders: orders of the rows that values are averaged over; as many resampled logs give the
            error.
    """

    policy: str | AnyPolicy
    params: Mapping[str, Any] = {}
    floor: float = 0.0
    orders: int = 20

    @property
    def label(self) -> str:
        """Its name in tables."""
        name = self.policy if isinstance(self.policy, str) else self.policy.name
        return f"{name}, learning"

    def made(self) -> AnyPolicy:
        """Return the policy."""
        return make(self.policy, self.params) if isinstance(self.policy, str) else self.policy


class LearningValue(NamedTuple):
    """Value of a learning policy.

    Attributes:
        value: reward per email over its first `steps` emails.
        low: end of the interval.
        high: the other end.
        se: standard error: over logs, orders and draws.
        steps: emails that it learned from, on average.
    """

    value: float
    low: float
    high: float
    se: float
    steps: float


def value_while_learning(
    rounds: LoggedRounds, target: LearningPolicy, model: RewardModel, level: float, seed: int
) -> LearningValue:
    """Estimate the reward per email of a policy that learns along.

    Each row is taken into the policy's history with a probability in proportion to the policy's
    own over the log's, and scored doubly robustly whether it is taken or not. Values are averaged
    over random orders. The error is the deviation between resampled logs, each in one order, so it
    counts the path that learning took, which the scatter of one path's rewards does not show.

    Args:
        rounds: the log; sent by a policy that did not learn, or orders mix what it learned.
        target: the policy.
        model: of rewards, in random folds.
        level: of confidence.
        seed: the same seed gives the same numbers.

    Raises:
        InvalidInput: the policy does not take such rewards, or there are fewer than two orders.

    Source: Dudík, Erhan, Langford and Li (2012), Sample-efficient nonstationary policy evaluation
    for contextual bandits.
    """
    if target.orders < 2:  # noqa: PLR2004 - a deviation needs two
        raise InvalidInput.at("/orders", "must be at least 2")
    policy = target.made()
    seeds = SeedSequence(seed).spawn(2 * target.orders + 1)
    predictions = model.cross_fit(rounds, Generator(SFC64(seeds[-1])))
    values, steps = [], []
    for order, child in enumerate(seeds[:-1]):
        rng = Generator(SFC64(child))
        if order < target.orders:
            rows = rng.permutation(rounds.n)
        else:
            rows = rng.integers(0, rounds.n, rounds.n)
        value, taken = _value_of_order(rounds, rows, predictions, (policy, target.floor), rng)
        values.append(value)
        steps.append(taken)
    mean_steps = float(np.mean(steps[: target.orders]))
    mean = float(np.mean(values[: target.orders]))
    deviation = float(np.std(values[target.orders :], ddof=1))
    half = float(student.ppf((1 + level) / 2, target.orders - 1)) * deviation
    return LearningValue(mean, mean - half, mean + half, deviation, mean_steps)


def _value_of_order(
    rounds: LoggedRounds,
    rows: IntArray,
    predictions: FloatArray,
    policy: tuple[AnyPolicy, float],
    rng: Generator,
) -> tuple[float, int]:
    """Value the policy in one order of rows; return its value and how many rows it learned from."""
    state = PolicyState(policy[0], rounds, policy[1], int(rng.integers(2**31)))
    total = weight = 0.0
    start = steps = 0
    smallest: list[FloatArray] = []
    limit = float(rounds.propensities.min())
    while start < len(rows):
        size = max(_LEAST_ROWS, int(_GROWTH * start))
        part = rows[start : start + size]
        start += size
        seen = rounds.take(part)
        probabilities = state.probabilities(seen)
        sent = probabilities[np.arange(seen.n), seen.arms]
        ratios = sent / seen.propensities
        predicted = predictions[part]
        residuals = seen.rewards - predicted[np.arange(seen.n), seen.arms]
        scores = (probabilities * predicted).sum(axis=1) + ratios * residuals
        total += limit * float(scores.sum())
        weight += limit * seen.n
        taken = rng.random(seen.n) < limit * ratios
        if taken.any():
            state.learn(seen.take(np.flatnonzero(taken)))
            steps += int(np.count_nonzero(taken))
        smallest.append(1 / ratios[ratios > 0])
        limit = float(np.quantile(np.concatenate(smallest[-20:]), _QUANTILE))
    return total / weight, steps
