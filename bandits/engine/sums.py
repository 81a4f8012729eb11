"""Sums that a fold keeps: of the policy's statistic, of counts by arm and of inference."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from msgspec import Struct

from bandits.additive import Additive
from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy, load_statistic
from bandits.engine.arm_counts import ArmCounts
from bandits.errors import NotDerivable, NotFound
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.periods import PeriodSums, period_of
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.state import GROUPS, InferenceState
from bandits.statistics import Statistic, dump
from bandits.store.fold import HistoryReader
from bandits.store.values import DecisionColumns, ExperimentRecord, RetainedSums, Snapshot
from bandits.versions import Configuration, decode_restriction

_SAME = 1e-6  # a probability derived again may differ by rounding between machines
_AT_ONCE = 10_000  # decisions whose probabilities are derived together
_PAST_POLICIES = 8  # kept at hand
_LEAST = 1e-9  # a smaller propensity, possible only without a floor, counts as this

_Origin = tuple[int, int, bytes]  # configuration, snapshot and restriction of a decision


@dataclass(frozen=True, slots=True, eq=False)
class Sums(Additive):
    """Sums over an experiment's decisions; additive.

    Attributes:
        statistic: for the policy; it may forget.
        counts: for pages.
        inference: for results.
    """

    statistic: Statistic
    counts: ArmCounts
    inference: InferenceState

    def dump(self) -> tuple[bytes, bytes, bytes]:
        """Serialise the three, as `Snapshot` and `RetainedSums` hold them."""
        return dump(self.statistic), self.counts.dump(), self.inference.dump()


def load_sums(
    configuration: Configuration,
    stored: Snapshot | RetainedSums | None,
    folded: Configuration | None = None,
) -> Sums:
    """Read sums back, with room for arms that joined since; None are the sums over no decision.

    Args:
        configuration: the experiment's.
        stored: None before the first snapshot, or where no decision was removed.
        folded: the configuration whose policy the statistic was summed for, where it is another.

    Raises:
        ValueError: the statistic is of another family than the policy's.
    """
    statistic, counts = load_statistic(configuration, stored, folded)
    return Sums(statistic, counts, load_inference_state(configuration, stored))


def load_inference_state(
    configuration: Configuration, stored: Snapshot | RetainedSums | None
) -> InferenceState:
    """Read the state of inference, with room for arms that joined since.

    It is that over no decision where none is kept, or one of an earlier format.
    """
    n_arms = len(configuration.arms)
    if stored is None or InferenceState.is_missing(stored.inference_state):
        return InferenceState.zeros(n_arms, configuration.segmentation.size)
    return InferenceState.load(stored.inference_state).padded(n_arms)


class Rewards(Struct, frozen=True, eq=False):
    """Rewards of n decisions, by the events that count for them.

    Attributes:
        gross: (n,) before costs.
        net: (n,) after costs.
        metrics: (M, n) the aggregated value of each metric.
    """

    gross: FloatArray
    net: FloatArray
    metrics: FloatArray


def measure_rewards(configuration: Configuration, decisions: DecisionColumns) -> Rewards:
    """Measure the rewards of decisions under a configuration's rule and costs."""
    gross, metrics = configuration.experiment.reward.measure(
        decisions.event_rows, decisions.event_metrics, decisions.event_values, len(decisions)
    )
    return Rewards(gross, gross + configuration.costs[decisions.arms], metrics)


class StatisticBuilder:
    """Sum decisions into a policy's statistic; held-out ones are left out.

    Forgetting is a weight on the observation, taken at the reference time `at`: it is the same
    whether an observation is added, corrected or rebuilt, so that all three agree.
    """

    def __init__(
        self, configuration: Configuration, at: float, folded: Configuration | None = None
    ) -> None:
        """Prepare to sum as of `at`, seconds since 1970, for the policy of `folded` if given."""
        self.family: type[Statistic] = (folded or configuration).policy.statistic
        self.zeros: Statistic = self.family.zeros(configuration.problem)
        self._problem = configuration.problem
        self._rule = configuration.experiment.reward
        self._forgetting = configuration.experiment.forgetting
        self._at = at

    def weights(self, started_at: FloatArray) -> FloatArray:
        """Return the weights (n,) at the reference time of observations started at times (n,)."""
        forgetting = self._forgetting
        if forgetting is None:
            return np.ones(len(started_at))
        if forgetting.window_seconds is not None:  # compared just as `FoldIncrement.expired` is
            return (started_at >= self._at - forgetting.window_seconds).astype(np.float64)
        age = np.maximum(self._at - started_at, 0.0)
        return np.exp2(-age / (forgetting.half_life_seconds or np.inf))

    def fade(self, statistic: Statistic, since: float) -> Statistic:
        """Apply a half-life to a statistic as of `since`."""
        if self._forgetting is None or self._forgetting.half_life_seconds is None:
            return statistic
        return statistic.decayed(
            2.0 ** (-max(self._at - since, 0.0) / self._forgetting.half_life_seconds)
        )

    def sum_learned(
        self, decisions: DecisionColumns, rewards: FloatArray, weights: FloatArray | None = None
    ) -> Statistic:
        """Sum decisions as learned, with rewards (n,) after costs; zeros where `fit` is needed.

        Each weighs what its age says, unless `weights` (n,) are given.
        """
        return self.fit(decisions, rewards, weights) if self.family.invertible else self.zeros

    def fit(
        self, decisions: DecisionColumns, rewards: FloatArray, weights: FloatArray | None = None
    ) -> Statistic:
        """Learn decisions as `sum_learned`, also of a family that has to learn all at once."""
        weights = self.weights(decisions.started_at) if weights is None else weights
        kept = ~decisions.holdout & (weights > 0)
        return self.family.from_observations(
            self._problem,
            decisions.arms[kept],
            self._rule.as_maximised(rewards[kept]),
            decisions.contexts[kept],
            weights[kept],
        )

    def sum_pending(self, decisions: DecisionColumns) -> Statistic:
        """Sum decisions as pending."""
        kept = ~decisions.holdout
        ones = np.ones(int(np.count_nonzero(kept)))
        return self.family.from_pending(
            self._problem, decisions.arms[kept], decisions.contexts[kept], ones
        )


class EvidenceBuilder:
    """Sum decisions of one experiment into inference state, each under its own configuration."""

    def __init__(self, record: ExperimentRecord, past: HistoryReader) -> None:
        """Sum with as many arms as the record's configuration has."""
        self._record = record
        self._past = past
        self._configuration = record.configuration
        self._rule = record.configuration.experiment.reward
        self._holdout = record.configuration.experiment.holdout
        self._n_arms = len(record.configuration.arms)
        self._segmentation = record.configuration.segmentation
        self._since = record.created_at if record.started_at is None else record.started_at
        self._policies: dict[tuple[int, int], ActivePolicy | None] = {}
        self.zeros = InferenceState.zeros(self._n_arms, self._segmentation.size)

    def sum_sent(self, decisions: DecisionColumns) -> InferenceState:
        """Sum decisions as sent, against the probabilities that they were drawn from.

        These are derived again from the snapshot that the decision rested on. A decision is left
        out where that is no longer kept, or where it no longer gives the probability that was
        logged: one that was counted before stays counted, which speaks neither for nor against the
        split.
        """
        ratio = SampleRatio.zeros(self._n_arms)
        for origin, rows in _rows_by_origin(decisions, np.flatnonzero(~decisions.holdout)):
            active = self._policy(*origin[:2])
            if active is None:
                continue
            arms = active.eligible(origin[2])
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                ratio = ratio + self._ratio(active, arms, decisions, part)
        return replace(self.zeros, ratio=ratio)

    def _ratio(
        self, active: ActivePolicy, arms: IntArray, decisions: DecisionColumns, rows: IntArray
    ) -> SampleRatio:
        shared = not active.policy.statistic.contextual
        contexts = decisions.contexts[rows[:1] if shared else rows]
        derived = active.probabilities_or_none(arms, contexts)
        if derived is None:
            return SampleRatio.zeros(self._n_arms)
        positions = np.searchsorted(arms, decisions.arms[rows])
        of_chosen = derived[positions] if shared else derived[np.arange(len(rows)), positions]
        same = np.abs(of_chosen - decisions.propensities[rows]) <= _SAME
        ratio = SampleRatio.from_draws(positions[same], derived if shared else derived[same])
        return ratio.spread(arms, self._n_arms)

    def _policy(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        key = (configuration_version, policy_version)
        if key not in self._policies:
            if len(self._policies) >= _PAST_POLICIES:
                self._policies.pop(next(iter(self._policies)))
            self._policies[key] = self._restore(*key)
        return self._policies[key]

    def _restore(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        configuration = self._past.configuration(configuration_version)
        try:
            snapshot = self._past.snapshot(policy_version)
        except (NotDerivable, NotFound):  # its arrays are no longer kept
            return None
        return ActivePolicy.restore(self._record, configuration, snapshot, self._past.configuration)

    def sum_outcomes(self, decisions: DecisionColumns, rewards: Rewards) -> InferenceState:
        """Sum decisions as matured, with their events so far, and as closed those that are."""
        drawn = ~decisions.holdout
        arms, gross = decisions.arms[drawn], rewards.gross[drawn]
        at_maturity = self._at_maturity(decisions, rewards.gross)[drawn]
        so_far = LateRewardSums.from_decisions(arms, gross, at_maturity, self._n_arms)
        return replace(self.sum_closed(decisions, rewards), late_so_far=so_far)

    def sum_closed(self, decisions: DecisionColumns, rewards: Rewards) -> InferenceState:
        """Sum those of the decisions whose window has closed, with all their events."""
        counted = decisions.closed
        if not counted.any():
            return self.zeros
        propensities = np.maximum(decisions.propensities, _LEAST)
        strata = self._strata(decisions)
        drawn = np.flatnonzero(counted & ~decisions.holdout)
        arms, gross, net = decisions.arms[drawn], rewards.gross[drawn], rewards.net[drawn]
        columns = (strata.sets[drawn], arms, net, propensities[drawn])
        reachable = counted & strata.eligible[strata.sets, self._configuration.control]
        periods = period_of(decisions.started_at[drawn], self._since)
        at_maturity = self._at_maturity(decisions, rewards.gross)[drawn]
        return replace(
            self.zeros,
            arms=AipwSums.from_decisions(strata.eligible, *columns, earned=gross != 0),
            groups=self._groups(decisions, reachable, rewards),
            periods=PeriodSums.from_decisions(periods, arms, net, self._n_arms),
            segments=AipwSums.by_segment(
                strata.eligible,
                *columns,
                segments=self._segmentation.segments_of(decisions.contexts[drawn]),
                n_segments=self._segmentation.size,
                earned=gross != 0,
            ),
            lateness=LateRewardSums.from_decisions(arms, gross, at_maturity, self._n_arms),
            floors=FloorHistory.from_floors(strata.floors[strata.sets[drawn]]),
            lift_periods=self._lift_periods(decisions, strata, drawn, periods, net),
        )

    def _lift_periods(
        self,
        decisions: DecisionColumns,
        strata: "_Strata",
        rows: IntArray,
        periods: IntArray,
        rewards: FloatArray,
    ) -> LiftPeriodSums:
        """Sum rows (m,) for comparisons with the control, periods and rewards (m,) theirs.

        A decision whose probabilities cannot be derived is left out, as of `ratio`.
        """
        arms, logged = decisions.arms[rows], np.maximum(decisions.propensities[rows], _LEAST)
        origins, contextual = strata.origins[rows], strata.contextual[strata.origins[rows]]
        shares = strata.eligible[strata.sets_of_origins].astype(np.float64)
        for number in np.unique(origins[~contextual]).tolist():
            shares[number] = self._allocation(strata.keys[number])
        same = contextual | (np.abs(shares[origins, arms] - logged) <= _SAME)
        return LiftPeriodSums.from_decisions(
            periods[same],
            origins[same],
            arms[same],
            rewards[same],
            scales=np.where(contextual, 1 / logged, 1.0)[same],
            shares=shares,
            control=self._configuration.control,
        )

    def _allocation(self, origin: _Origin) -> FloatArray:
        """Return the probabilities (K,) of decisions of one origin, 0 where they are not kept."""
        active = self._policy(*origin[:2])
        shares = np.zeros(self._n_arms)
        if active is not None:
            arms = active.eligible(origin[2])
            one = np.ones((1, active.problem.n_features))
            derived = active.probabilities_or_none(arms, one)
            if derived is not None:
                shares[arms] = derived
        return shares

    def _groups(self, decisions: DecisionColumns, counted: BoolArray, rewards: Rewards) -> AipwSums:
        """Sum both groups; who could not get the control is in neither."""
        if self._holdout == 0:
            return self.zeros.groups
        groups = decisions.holdout[counted].astype(np.int64)
        return AipwSums.from_decisions(
            np.ones((1, GROUPS), dtype=np.bool_),
            np.zeros(len(groups), dtype=np.int64),
            groups,
            rewards.net[counted],
            np.where(groups == 1, self._holdout, 1 - self._holdout),
            earned=rewards.gross[counted] != 0,
        )

    def _at_maturity(self, decisions: DecisionColumns, gross: FloatArray) -> FloatArray:
        """Return rewards before costs as they were when silence came to count as zero, (n,)."""
        matured_at = decisions.started_at[decisions.event_rows] + self._rule.maturity
        in_time = decisions.event_times <= matured_at
        if in_time.all():
            return gross
        late = np.zeros(len(decisions), dtype=np.bool_)
        late[decisions.event_rows[~in_time]] = True
        rewards = np.where(late, 0.0, gross)
        both = in_time & late[decisions.event_rows]
        if both.any():
            rows, places = np.unique(decisions.event_rows[both], return_inverse=True)
            metrics, values = decisions.event_metrics[both], decisions.event_values[both]
            rewards[rows] = self._rule.measure(places.reshape(-1), metrics, values, len(rows))[0]
        return rewards

    def _strata(self, decisions: DecisionColumns) -> "_Strata":
        """Return what n decisions could get; a set may be there twice, of two configurations."""
        numbers: dict[_Origin, int] = {}
        columns = (decisions.configuration_versions, decisions.policy_versions)
        versions = zip(*(column.tolist() for column in columns), strict=True)
        origins = np.array(
            [
                numbers.setdefault((configuration, policy, restriction), len(numbers))
                for (configuration, policy), restriction in zip(
                    versions, decisions.eligible_sets, strict=True
                )
            ],
            dtype=np.int64,
        )
        pairs: dict[tuple[int, bytes], int] = {}
        of_origins = [pairs.setdefault((o[0], o[2]), len(pairs)) for o in numbers]
        sets = np.zeros((len(pairs), self._n_arms), dtype=np.bool_)
        floors, contextual = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=np.bool_)
        for i, (version, restriction) in enumerate(pairs):
            configuration = self._past.configuration(version)
            arms = configuration.eligible(decode_restriction(restriction))
            sets[i, arms] = True
            floors[i] = configuration.experiment.floor_among(len(arms))
            contextual[i] = configuration.policy.statistic.contextual
        of_origin = np.array(of_origins, dtype=np.int64)
        return _Strata(
            list(numbers),
            origins,
            of_origin,
            of_origin[origins],
            sets,
            floors,
            contextual[of_origin],
        )


class _Strata(Struct, frozen=True, eq=False):
    """What n decisions of O origins could get: one of G sets of arms, and under which floor.

    Attributes:
        keys: O origins.
        origins: (n,) the origin of each decision,
        sets_of_origins: (O,) the set of each origin,
        sets: (n,) and so the set of each decision.
        eligible: (G, K) those sets.
        floors: (G,) of each set.
        contextual: (O,) the shares depended on the recipient.
    """

    keys: list[_Origin]
    origins: IntArray
    sets_of_origins: IntArray
    sets: IntArray
    eligible: BoolArray
    floors: FloatArray
    contextual: BoolArray


def _rows_by_origin(
    decisions: DecisionColumns, rows: IntArray
) -> Iterator[tuple[_Origin, IntArray]]:
    """Group rows by configuration, snapshot and restriction of their decisions."""
    rows_by_origin: dict[_Origin, list[int]] = {}
    columns = (decisions.configuration_versions, decisions.policy_versions)
    versions = zip(*(column[rows].tolist() for column in columns), strict=True)
    for row, (configuration, policy) in zip(rows.tolist(), versions, strict=True):
        origin = (configuration, policy, decisions.eligible_sets[row])
        rows_by_origin.setdefault(origin, []).append(row)
    for origin, numbers in rows_by_origin.items():
        yield origin, np.array(numbers, dtype=np.int64)


class SumsBuilder:
    """Sum decisions of one experiment into `Sums`, as of one moment.

    Where the policy's family cannot subtract, every statistic is zero but the one that `fit` makes
    of all decisions at once.
    """

    def __init__(
        self,
        record: ExperimentRecord,
        past: HistoryReader,
        at: float,
        folded: Configuration | None = None,
    ) -> None:
        """Prepare to sum as of `at`, seconds since 1970.

        Args:
            record: the experiment.
            past: reads the configurations and snapshots that its decisions rested on.
            at: the reference time of forgetting.
            folded: the configuration whose policy learns, where that is not the record's.
        """
        self._configuration = record.configuration
        self._folded = folded
        self._statistic = StatisticBuilder(record.configuration, at, folded)
        self._evidence = EvidenceBuilder(record, past)
        self._n_arms = len(record.configuration.arms)
        self._n_metrics = len(record.configuration.experiment.reward.metrics)
        counts = ArmCounts.zeros(self._n_arms, self._n_metrics)
        self.zeros = Sums(self._statistic.zeros, counts, self._evidence.zeros)
        self.invertible = self._statistic.family.invertible

    def load(self, stored: Snapshot | RetainedSums | None) -> Sums:
        """Read sums back, faded to the reference time."""
        if stored is None:
            return self.zeros
        return self.fade(load_sums(self._configuration, stored, self._folded), stored.at)

    def fade(self, sums: Sums, since: float) -> Sums:
        """Apply a half-life to sums as of `since`; only the statistic forgets."""
        return replace(sums, statistic=self._statistic.fade(sums.statistic, since))

    def sum_pending(self, decisions: DecisionColumns) -> Sums:
        """Sum decisions that were sent, and are not learned."""
        return replace(self._sum_sent(decisions), statistic=self._statistic.sum_pending(decisions))

    def sum_learned(self, decisions: DecisionColumns) -> Sums:
        """Sum decisions that were sent, and are learned."""
        return self._sum_sent(decisions) + self.sum_outcomes(decisions)

    def sum_matured(self, decisions: DecisionColumns) -> Sums:
        """Sum the difference that it makes when pending decisions are learned."""
        outcomes = self.sum_outcomes(decisions)
        pending = self._statistic.sum_pending(decisions)
        return replace(outcomes, statistic=outcomes.statistic - pending)

    def sum_outcomes(self, decisions: DecisionColumns) -> Sums:
        """Sum learned decisions without counting them as sent."""
        rewards = measure_rewards(self._configuration, decisions)
        return Sums(
            self._statistic.sum_learned(decisions, rewards.net),
            ArmCounts.from_complete(
                self._n_arms, decisions.arms, decisions.holdout, rewards.net, rewards.metrics
            ),
            self._evidence.sum_outcomes(decisions, rewards),
        )

    def sum_closing(self, decisions: DecisionColumns) -> Sums:
        """Sum the difference that it makes when the reward window of learned decisions closes."""
        rewards = measure_rewards(self._configuration, decisions)
        return replace(self.zeros, inference=self._evidence.sum_closed(decisions, rewards))

    def sum_expired(self, decisions: DecisionColumns) -> Sums:
        """Sum learned decisions that leave the forgetting window: each weighs 1 until it does."""
        rewards, ones = measure_rewards(self._configuration, decisions), np.ones(len(decisions))
        return replace(
            self.zeros, statistic=self._statistic.sum_learned(decisions, rewards.net, ones)
        )

    def fit(self, portions: Iterable[DecisionColumns]) -> Statistic:
        """Learn all decisions at once, for a family that cannot subtract; it ignores pending."""
        parts = [portion for portion in portions if len(portion)]
        if not parts:
            return self.zeros.statistic
        decisions = DecisionColumns.concatenate(parts)
        rewards = measure_rewards(self._configuration, decisions)
        return self._statistic.fit(decisions, rewards.net)

    def _sum_sent(self, decisions: DecisionColumns) -> Sums:
        arms, holdout = decisions.arms, decisions.holdout
        counts = ArmCounts.from_sent(self._n_arms, self._n_metrics, arms, holdout)
        return Sums(self.zeros.statistic, counts, self._evidence.sum_sent(decisions))
