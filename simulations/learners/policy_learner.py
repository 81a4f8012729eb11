"""A policy as a learner: the same prepare and propensities as live, with a memory of its own."""

from collections.abc import Callable
from math import prod
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray, row_starts
from bandits.errors import InvalidInput
from bandits.numerics.ties import NOTHING_LEFT, draw_largest, equal_shares, largest
from bandits.policy import AnyPolicy, draw_from_propensities
from bandits.problem import Problem
from bandits.statistics import Moments
from simulations.learners.arm_draws import ArmDraws
from simulations.learners.guarded import GuardedLearner, GuardrailRule
from simulations.learners.interfaces import Learner
from simulations.learners.memory import DecisionForgetting, Memory, MemorySums, create_memory
from simulations.learners.remaining_value import ValueRemainingLearner, ValueRemainingRule
from simulations.learners.scheduled_learner import ScheduledLearner
from simulations.learners.timed_learner import TimedPolicyLearner
from simulations.running.replications import Chunk
from simulations.running.schedule import Run, Schedule

LARGEST_FLOOR_SUM = 0.5  # as the engine: more would be an A/B test with some learning on top

Advance = Callable[[Any, IntArray, FloatArray, FloatArray], Any]


class PolicyLearnerFactory(Struct, frozen=True):
    """A policy that learns as the simulated campaign goes on.

    Attributes:
        policy: the policy.
        floor: the least share of each arm.
        forgetting: half-life or window of its memory, in decisions.
        greedy_last_batch: send the arm with the best mean in the last batch, whose feedback is not
            used; each recipient the arm of the best prediction, where that depends on them.
        stop: the rule that ends learning and sends the champion.
        guardrail: the rule that pauses arms with too many unwanted events.
    """

    policy: AnyPolicy
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.0
    forgetting: DecisionForgetting | None = None
    greedy_last_batch: bool = False
    stop: ValueRemainingRule | None = None
    guardrail: GuardrailRule | None = None

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse rewards outside the policy's support, too high a floor, or no last batch.

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
        self._check_timed(run)
        self._check_guardrail(run)
        if self.greedy_last_batch and run.schedule.sequential:
            raise InvalidInput.at("/greedy_last_batch", "needs run.batches: there is no last batch")
        contextual = self.policy.statistic.contextual
        if self.greedy_last_batch and contextual and self.policy.predictions is None:
            raise InvalidInput.at(
                "/greedy_last_batch", f"{self.policy.name} does not tell what it predicts"
            )

    def _check_timed(self, run: Run) -> None:
        if not self.policy.statistic.timed:
            return
        if run.delay:
            raise InvalidInput.at("/name", f"{self.policy.name} needs run.feedback, not run.delay")
        if run.feedback is not None and run.feedback.window is None:
            raise InvalidInput.at("/name", f"{self.policy.name} needs run.feedback.window")
        unfit = {
            "/forgetting": self.forgetting is not None,
            "/greedy_last_batch": self.greedy_last_batch,
            "/guardrail": self.guardrail is not None,
        }
        for place, is_declared in unfit.items():
            if is_declared:
                raise InvalidInput.at(place, f"is not simulated for {self.policy.name}")

    def _check_stop(self, problem: Problem, run: Run) -> None:
        if self.stop is None:
            return
        if self.policy.statistic is not Moments:
            raise InvalidInput.at("/stop", f"{self.policy.name} has no single champion to send")
        if problem.low < 0 or problem.high > 1:
            raise InvalidInput.at("/stop", "judges rates: rewards must lie in [0, 1]")
        if run.schedule.sequential:
            raise InvalidInput.at("/stop", "needs run.batches: it is judged after each")

    def _check_guardrail(self, run: Run) -> None:
        if self.guardrail is None:
            return
        if run.unwanted is None:
            raise InvalidInput.at("/guardrail", "needs run.unwanted: how often the event happens")
        if run.schedule.sequential:
            raise InvalidInput.at("/guardrail", "needs run.batches: it is looked at after each")
        if self.stop is not None or self.greedy_last_batch:
            raise InvalidInput.at("/guardrail", "may not stand beside stop or greedy_last_batch")

    def schedule(self, run: Run, problem: Problem) -> Schedule:  # noqa: ARG002 - it follows from the run
        """Return the run's batches."""
        return run.schedule

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create a learner that advances by the policy's own steps, where it has some."""
        arm_draws = ArmDraws(self.policy, self.floor, rng)
        if self.policy.statistic.timed and run.feedback is not None:
            return TimedPolicyLearner(arm_draws, problem, replications, run)
        late = run.delay > 0 or run.feedback is not None
        stepwise = run.schedule.sequential and not late and self.forgetting is None
        if stepwise and self.policy.advance is not None:
            return SequentialPolicyLearner(arm_draws, self.policy.advance, problem, replications)
        sums = MemorySums(self.policy.statistic, problem, replications)
        memory = create_memory(sums, self.forgetting, late=late)
        learner = PolicyLearner(arm_draws, problem, memory, greedy_last=self.greedy_last_batch)
        if self.guardrail is not None:
            unwanted = np.tile(np.array(run.unwanted), (replications, 1))
            guarded = GuardedLearner(learner, memory, self.guardrail, unwanted, rng)
            return ScheduledLearner(guarded, run.schedule, run.feedback)
        if self.stop is None:
            return ScheduledLearner(learner, run.schedule, run.feedback)
        stoppable = ValueRemainingLearner(learner, memory, self.stop, replications, rng)
        return ScheduledLearner(stoppable, run.schedule, run.feedback)

    def planned_size(self, problem: Problem) -> int | None:  # noqa: ARG002 - nothing is planned
        """Return None: it learns until the horizon."""
        return None


class SequentialPolicyLearner:
    """A policy that learns after every decision by its own `advance`."""

    def __init__(
        self, arm_draws: ArmDraws, advance: Advance, problem: Problem, replications: int
    ) -> None:
        self._arm_draws, self._advance, self._problem = arm_draws, advance, problem
        policy = arm_draws.policy
        nothing = policy.statistic.zeros(problem, (replications,))
        self._prepared = policy.prepare(nothing, problem, 1, arm_draws.rng)
        self._count = self._total = np.zeros((replications, problem.n_arms))

    def play(self, chunk: Chunk) -> tuple[IntArray, FloatArray]:
        """Choose and learn, round by round: the arms, and their means, (R, n)."""
        sample, rng = self._arm_draws.step_sampler(self._problem.n_arms), self._arm_draws.rng
        prepared, advance = self._prepared, self._advance
        step_arms, step_rewards = [], []
        rewards_of = chunk.rewards_by_step()
        for step, contexts in enumerate(chunk.contexts.swapaxes(0, 1)):
            arms = sample(prepared, contexts, rng)
            rewards = rewards_of(step, arms)
            prepared = advance(prepared, arms, rewards, contexts)
            step_arms.append(arms)
            step_rewards.append(rewards)
        self._prepared = prepared
        rows = np.concatenate(step_arms).reshape(chunk.n, -1)  # several times quicker than a stack
        if not self._arm_draws.policy.statistic.contextual:
            count, total = _sums_by_arm(self._problem.n_arms, rows, np.concatenate(step_rewards))
            self._count, self._total = self._count + count, self._total + total
        return rows.T, chunk.means_of(rows.T)

    def finish(self) -> None:
        """Learn nothing: no feedback is pending."""

    def shipped_shares(self) -> FloatArray | None:
        """Return the arm of the best mean, unless it depends on the recipient."""
        if self._arm_draws.policy.statistic.contextual:
            return None
        none = np.zeros_like(self._total)  # a mean needs no squares
        return best_mean_shares(Moments(self._count, self._total, none, none))

    def sends_to_decision(self) -> FloatArray:
        """Return NaN: it never settles."""
        return np.full(len(self._count), np.nan)


def _sums_by_arm(n_arms: int, arms: IntArray, rewards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Count and sum rounds by arm, (R, K) each: arms (n, R), rewards (n·R,)."""
    shape = arms.shape[1], n_arms
    cells, size = (arms + row_starts(*shape)).reshape(-1), prod(shape)
    count = np.bincount(cells, minlength=size).reshape(shape)
    total = np.bincount(cells, rewards, size).reshape(shape)
    return count.astype(np.float64), total.astype(np.float64, copy=False)


class PolicyLearner:
    """A policy that prepares anew for every batch."""

    def __init__(
        self, arm_draws: ArmDraws, problem: Problem, memory: Memory, *, greedy_last: bool
    ) -> None:
        self._arm_draws, self._problem, self._memory = arm_draws, problem, memory
        self._replications = 0
        self._greedy_last, self._greedy = greedy_last, False
        self._prepared: Any = None

    def begin(self, upcoming: int, *, last: bool) -> None:
        """Prepare for a batch."""
        self._greedy = last and self._greedy_last
        policy, rng = self._arm_draws.policy, self._arm_draws.rng
        if policy.statistic.contextual or not self._greedy:
            self._prepared = policy.prepare(self._memory.statistic, self._problem, upcoming, rng)

    def choose(self, contexts: FloatArray) -> IntArray:
        """Draw arms for contexts (R, n, d): (R, n)."""
        self._replications = len(contexts)
        if self._greedy:
            return self._best_arms(contexts)
        n_arms = self._problem.n_arms
        if contexts.shape[1] == 1:  # one each: the state's own shape, which is the faster one
            return self._arm_draws.arms(self._prepared, contexts[:, 0], n_arms)[:, None]
        return self._arm_draws.arms(self._prepared, contexts, n_arms)

    def _best_arms(self, contexts: FloatArray) -> IntArray:
        """Draw an arm of the best estimate for each of contexts (R, n, d), tied with equal chance.

        The rounding that remains after rewards were taken back counts as nothing.
        """
        policy, rng = self._arm_draws.policy, self._arm_draws.rng
        if policy.predictions is None or not policy.statistic.contextual:
            shares = best_mean_shares(self._memory.statistic)
            return draw_from_propensities(shares, contexts, rng)
        predicted = policy.predictions(self._prepared, contexts)
        return draw_largest(predicted, rng, NOTHING_LEFT * self._problem.span)

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count decisions as pending, and return their feedback."""
        return self._memory.send(arms, rewards, contexts)

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Return the feedback of late rewards."""
        return self._memory.correct(arms, rewards, contexts, changed)

    def learn(self, feedback: Any) -> None:
        """Learn from feedback that is due."""
        self._memory.learn(feedback)

    def shipped_shares(self) -> FloatArray | None:
        """Return the arm of the best mean in its memory, unless it depends on the recipient."""
        contextual = self._arm_draws.policy.statistic.contextual
        return None if contextual else best_mean_shares(self._memory.statistic)

    def sends_to_decision(self) -> FloatArray:
        """Return NaN: it never settles."""
        return np.full(self._replications, np.nan)


def best_mean_shares(moments: Moments) -> FloatArray:
    """Share (..., K) among the arms with the best mean."""
    return equal_shares(largest(moments.means))
