"""A policy as a contestant: the same prepare and propensities as live, with a memory of its own."""

from collections.abc import Callable
from math import prod
from typing import Annotated, Any, cast

import numpy as np
from msgspec import Meta, Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.errors import InvalidInput
from bandits.numerics.ties import NOTHING_LEFT, draw_largest, equal_shares, largest
from bandits.policy import AnyPolicy, Predicting, draw_each, sample_arms
from bandits.problem import Problem
from bandits.statistics import Moments
from simulations.learners.forgetting import DecisionForgetting, Memory, MemorySums, memory_for
from simulations.learners.interfaces import Learner, SequentialLearner
from simulations.learners.value_remaining import ValueRemainingLearner, ValueRemainingRule
from simulations.running.replications import Chunk
from simulations.running.schedule import Run, Schedule

LARGEST_FLOOR_SUM = 0.5  # as the engine: more would be an A/B test with some learning on top


class PolicyLearnerFactory(Struct, frozen=True):
    """A policy that learns as the simulated campaign goes on.

    Attributes:
        policy: the policy.
        floor: the least share of each arm.
        forgetting: how fast it forgets, in decisions.
        greedy_last_batch: send the arm with the best mean in the last batch, whose feedback nobody
            will use; each recipient the arm of the best prediction, where that depends on them.
        stop: when to stop learning and send the champion.
    """

    policy: AnyPolicy
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.0
    forgetting: DecisionForgetting | None = None
    greedy_last_batch: bool = False
    stop: ValueRemainingRule | None = None

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse a reward outside the policy's support, a floor too high, a batch that is not.

        Raises:
            InvalidInput: naming the parameter.
        """
        low, high = self.policy.support
        if problem.low < low or problem.high > high:
            raise InvalidInput.at(
                "/name",
                f"{self.policy.name} takes rewards in [{low:g}, {high:g}], this environment's lie "
                f"in [{problem.low:g}, {problem.high:g}]; thompson_gaussian takes any",
            )
        if problem.n_arms * self.floor > LARGEST_FLOOR_SUM:
            raise InvalidInput.at(
                "/floor", f"must be at most {LARGEST_FLOOR_SUM / problem.n_arms:g} for each arm"
            )
        self._check_stop(problem, run)
        if self.greedy_last_batch and run.schedule.sequential:
            raise InvalidInput.at("/greedy_last_batch", "needs run.batches: there is no last batch")
        contextual = self.policy.statistic.contextual
        if self.greedy_last_batch and contextual and not hasattr(self.policy, "predictions"):
            raise InvalidInput.at(
                "/greedy_last_batch", f"{self.policy.name} does not tell what it predicts"
            )

    def _check_stop(self, problem: Problem, run: Run) -> None:
        if self.stop is None:
            return
        if self.policy.statistic is not Moments:
            raise InvalidInput.at("/stop", f"{self.policy.name} has no single champion to send")
        if problem.low < 0 or problem.high > 1:
            raise InvalidInput.at("/stop", "judges rates: rewards must lie in [0, 1]")
        if run.schedule.sequential:
            raise InvalidInput.at("/stop", "needs run.batches: it is judged after each")

    def schedule(self, run: Run, problem: Problem) -> Schedule:  # noqa: ARG002 - the run says it all
        """Send and learn as the run says."""
        return run.schedule

    def enter(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner | SequentialLearner:
        """Play with the policy's own steps where it has some and they apply."""
        draw = ArmDraws(self.policy, self.floor, rng)
        late = run.delay > 0 or run.feedback is not None
        stepwise = run.schedule.sequential and not late and self.forgetting is None
        if stepwise and hasattr(self.policy, "advance"):
            return SequentialPolicyLearner(draw, problem, replications)
        sums = MemorySums(self.policy.statistic, problem, replications)
        memory = memory_for(sums, self.forgetting, late=late)
        learner = PolicyLearner(draw, problem, memory, greedy_last=self.greedy_last_batch)
        if self.stop is None:
            return learner
        return ValueRemainingLearner(learner, memory, self.stop, replications, rng)


class ArmDraws:
    """Draw arms from a policy's probabilities, after the floor."""

    def __init__(self, policy: AnyPolicy, floor: float, rng: Generator) -> None:
        self.policy, self.floor, self.rng = policy, floor, rng

    def each(self, n_arms: int) -> Callable[[Any, FloatArray, Generator], IntArray]:
        """Return what draws at every step, with as little around it as can be."""
        sample: Callable[[Any, FloatArray, Generator], IntArray] | None
        sample = getattr(self.policy, "sample", None)
        if sample is None or self.floor:
            return lambda prepared, contexts, _: self.arms(prepared, contexts, n_arms)
        return sample

    def arms(self, prepared: Any, contexts: FloatArray, n_arms: int) -> IntArray:
        """Draw an arm for each of contexts (R, d) or (R, n, d)."""
        arms = sample_arms(self.policy, prepared, contexts, self.rng)
        if self.floor == 0:
            return arms
        # π' = ε + (1 − Kε)π is a mixture: an arm at random with chance Kε, else the policy's.
        u = self.rng.random(arms.shape)
        return np.where(u < n_arms * self.floor, (u / self.floor).astype(np.int64), arms)


class SequentialPolicyLearner:
    """A policy that learns after every decision by its own `advance`."""

    def __init__(self, draw: ArmDraws, problem: Problem, replications: int) -> None:
        self._draw, self._problem = draw, problem
        policy = draw.policy
        nothing = policy.statistic.zeros(problem, (replications,))
        self._prepared = policy.prepare(nothing, problem, 1, draw.rng)
        self._count = self._total = np.zeros((replications, problem.n_arms))

    def go_through(self, stretch: Chunk) -> tuple[IntArray, FloatArray]:
        """Choose and learn, round by round: the arms chosen, and their means, (R, n)."""
        draw, rng = self._draw.each(self._problem.n_arms), self._draw.rng
        prepared, advance = self._prepared, self._draw.policy.advance  # type: ignore[attr-defined]  # enter looked
        arms, rewards = [], []
        earned = stretch.by_step()
        for step, contexts in enumerate(stretch.contexts.swapaxes(0, 1)):
            chosen = draw(prepared, contexts, rng)
            reward = earned(step, chosen)
            prepared = advance(prepared, chosen, reward, contexts)
            arms.append(chosen)
            rewards.append(reward)
        self._prepared = prepared
        together = np.concatenate(arms).reshape(stretch.n, -1)  # several times quicker than a stack
        if not self._draw.policy.statistic.contextual:
            count, total = _summed(self._problem.n_arms, together, np.concatenate(rewards))
            self._count, self._total = self._count + count, self._total + total
        return together.T, stretch.means_of(together.T)

    def finish(self) -> None:
        """Have nothing under way."""

    def shipped(self) -> FloatArray | None:
        """Ship the best mean, unless it depends on the recipient."""
        if self._draw.policy.statistic.contextual:
            return None
        none = np.zeros_like(self._total)  # a mean needs no squares
        return best_mean(Moments(self._count, self._total, none, none))

    def decided(self) -> FloatArray:
        """Never settle."""
        return np.full(len(self._count), np.nan)


def _summed(n_arms: int, arms: IntArray, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Count and sum rounds by arm, (R, K) each: arms (n, R), rewards (n·R,)."""
    shape = arms.shape[1], n_arms
    cells, size = (arms + row_starts(*shape)).reshape(-1), prod(shape)
    count = np.bincount(cells, minlength=size).reshape(shape)
    total = np.bincount(cells, rewards, size).reshape(shape)
    return count.astype(np.float64), total.astype(np.float64, copy=False)


class PolicyLearner:
    """A policy that prepares anew for every batch."""

    def __init__(
        self, draw: ArmDraws, problem: Problem, memory: Memory, *, greedy_last: bool
    ) -> None:
        self._draw, self._problem, self._memory = draw, problem, memory
        self._replications = 0
        self._greedy_last, self._greedy = greedy_last, False
        self._prepared: Any = None

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Prepare for a batch."""
        self._greedy = last and self._greedy_last
        policy, rng = self._draw.policy, self._draw.rng
        if policy.statistic.contextual or not self._greedy:
            self._prepared = policy.prepare(self._memory.known, self._problem, upcoming, rng)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Draw arms for contexts (R, n, d): (R, n)."""
        self._replications = len(contexts)
        if self._greedy:
            return self._best(contexts)
        if contexts.shape[1] == 1:  # one each: the state's own shape, which is the faster one
            arms = self._draw.arms(self._prepared, contexts[:, 0], self._problem.n_arms)
            return arms[:, None]
        return self._draw.arms(self._prepared, contexts, self._problem.n_arms)

    def _best(self, contexts: FloatArray) -> IntArray:
        """Draw an arm of the best estimate for each of contexts (R, n, d), tied with equal chance.

        What is left of nothing after rewards were taken back counts as nothing.
        """
        policy, rng = self._draw.policy, self._draw.rng
        if not policy.statistic.contextual:
            return draw_each(best_mean(self._memory.known), contexts, rng)
        predicting = cast("Predicting[Any, Any]", policy)
        predicted = predicting.predictions(self._prepared, contexts)
        return draw_largest(predicted, rng, NOTHING_LEFT * self._problem.span)

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count as pending."""
        return self._memory.sent(arms, rewards, contexts)

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Pack what late rewards change."""
        return self._memory.corrected(arms, rewards, contexts, changed)

    def learn(self, feedback: Any) -> None:
        """Learn what has become visible."""
        self._memory.learn(feedback)

    def shipped(self) -> FloatArray | None:
        """Ship the best mean of what it remembers, unless it depends on the recipient."""
        contextual = self._draw.policy.statistic.contextual
        return None if contextual else best_mean(self._memory.known)

    def decided(self) -> FloatArray:
        """Never settle."""
        return np.full(self._replications, np.nan)


def best_mean(known: Moments) -> FloatArray:
    """Share (..., K) among the arms with the best mean."""
    return equal_shares(largest(known.means))
