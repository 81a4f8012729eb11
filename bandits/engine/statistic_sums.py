"""Summing decisions into what is learned and what pages count."""

import numpy as np

from bandits.array_types import FloatArray
from bandits.engine.arm_counts import ArmCounts
from bandits.inference.state import InferenceState
from bandits.segments import Segmentation
from bandits.statistics import Statistic, load
from bandits.store.values import DecisionColumns, RetainedSums, Snapshot
from bandits.versions import Configuration


class StatisticBuilder:
    """Sum decisions into a statistic and a tally, under one configuration at one moment.

    Forgetting is a weight on the observation, taken at the reference time `at`: it is the same
    whether an observation is added, corrected or rebuilt, so that all three agree.
    """

    def __init__(self, configuration: Configuration, at: float) -> None:
        """Prepare to sum as of `at`, seconds since 1970."""
        self.experiment = configuration.experiment
        self.rule = self.experiment.reward
        self.family: type[Statistic] = self.experiment.make_policy().statistic
        self.problem = configuration.problem
        self.costs = configuration.costs
        self.at = at

    def follow(self, configuration: Configuration) -> None:
        """Learn as the policy of an earlier configuration does, which was of the same kind."""
        self.family = configuration.experiment.make_policy().statistic

    @property
    def n_arms(self) -> int:
        """K."""
        return self.problem.n_arms

    def weights(self, started_at: FloatArray) -> FloatArray:
        """Return what observations started at these times (n,) weigh now, (n,)."""
        forgetting = self.experiment.forgetting
        if forgetting is None:
            return np.ones(len(started_at))
        if forgetting.window_seconds is not None:  # compared just as `Due.expired` is
            return (started_at >= self.at - forgetting.window_seconds).astype(np.float64)
        age = np.maximum(self.at - started_at, 0.0)
        return np.exp2(-age / (forgetting.half_life_seconds or np.inf))

    def fade(self, load_statistic: Statistic, since: float) -> Statistic:
        """Let a half-life act on what was learned as of `since`."""
        forgetting = self.experiment.forgetting
        if forgetting is None or forgetting.half_life_seconds is None:
            return load_statistic
        return load_statistic.decayed(
            2.0 ** (-max(self.at - since, 0.0) / forgetting.half_life_seconds)
        )

    def rewards(self, decided: DecisionColumns) -> tuple[FloatArray, FloatArray]:
        """Return rewards (n,), costs included, and metrics (M, n) as far as their events tell."""
        rewards, metrics = self.rule.measure(
            decided.event_rows, decided.event_metrics, decided.event_values, len(decided)
        )
        return rewards + self.costs[decided.arms], metrics

    def observed(self, decided: DecisionColumns, weights: FloatArray | None = None) -> Statistic:
        """Sum decisions as learned; held-out ones are left out."""
        weights = self.weights(decided.started_at) if weights is None else weights
        kept = ~decided.holdout & (weights > 0)
        rewards, _ = self.rewards(decided)
        return self.family.from_observations(
            self.problem,
            decided.arms[kept],
            self.rule.learned(rewards[kept]),
            decided.contexts[kept],
            weights[kept],
        )

    def waiting(self, decided: DecisionColumns) -> Statistic:
        """Sum decisions as pending; held-out ones are left out."""
        kept = ~decided.holdout
        ones = np.ones(int(np.count_nonzero(kept)))
        return self.family.from_pending(
            self.problem, decided.arms[kept], decided.contexts[kept], ones
        )

    def sent(self, decided: DecisionColumns) -> ArmCounts:
        """Count decisions as sent."""
        return ArmCounts.of_sent(self.n_arms, len(self.rule.metrics), decided.arms, decided.holdout)

    def complete(self, decided: DecisionColumns) -> ArmCounts:
        """Count decisions as complete."""
        rewards, metrics = self.rewards(decided)
        return ArmCounts.of_complete(self.n_arms, decided.arms, decided.holdout, rewards, metrics)


def load_statistic(
    configuration: Configuration, snapshot: Snapshot | None, folded: Configuration | None = None
) -> tuple[Statistic, ArmCounts]:
    """Read a snapshot's statistic and tally, with room for arms that joined since.

    Args:
        configuration: what decides with them.
        snapshot: None before the first.
        folded: what the snapshot was folded under, where that may be another and how it was
            learned matters, as to a policy.

    Raises:
        ValueError: the statistic is of another family than the policy's.
    """
    summing = StatisticBuilder(configuration, 0.0)
    if folded is not None:
        summing.follow(folded)
    if snapshot is None:
        metrics = len(summing.rule.metrics)
        return summing.family.zeros(summing.problem), ArmCounts.zeros(summing.n_arms, metrics)
    statistic: Statistic = load(summing.family, snapshot.statistic)
    return statistic.padded(summing.problem), ArmCounts.load(snapshot.arm_counts).padded(
        summing.n_arms
    )


def load_retained(
    summing: StatisticBuilder, base: RetainedSums | None
) -> tuple[Statistic, ArmCounts, InferenceState]:
    """Read what the log no longer has, faded to the summing's moment; nothing where it has all."""
    segments = Segmentation(summing.experiment.context).size
    n_arms, problem = summing.n_arms, summing.problem
    if base is None:
        tally = ArmCounts.zeros(n_arms, len(summing.rule.metrics))
        return summing.family.zeros(problem), tally, InferenceState.zeros(n_arms, segments)
    statistic: Statistic = load(summing.family, base.statistic)
    return (
        summing.fade(statistic.padded(problem), base.at),
        ArmCounts.load(base.arm_counts).padded(n_arms),
        InferenceState.load(base.inference_state).padded(n_arms),
    )


def load_inference_state(configuration: Configuration, snapshot: Snapshot | None) -> InferenceState:
    """Read what a snapshot's results rest on, with room for arms that joined since."""
    n_arms = len(configuration.arms)
    if snapshot is None or InferenceState.lacking(snapshot.inference_state):
        return InferenceState.zeros(n_arms, Segmentation(configuration.experiment.context).size)
    return InferenceState.load(snapshot.inference_state).padded(n_arms)
