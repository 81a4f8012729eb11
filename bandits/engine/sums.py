"""Sums that a fold keeps: of the policy's statistic, of counts by arm and of inference."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from bandits.additive import Additive
from bandits.array_types import BoolArray, FloatArray, IntArray, distinct_places
from bandits.engine.active_policy import ActivePolicy, load_statistic
from bandits.engine.allocation_reader import AllocationReader
from bandits.engine.arm_counts import ArmCounts
from bandits.engine.guardrail_builder import GuardrailBuilder
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.clusters import GROUPS, ClusterSums, buckets_of
from bandits.inference.cohorts import CohortCounts
from bandits.inference.event_sums import EventSums, EventValues
from bandits.inference.event_verdict_counts import EventVerdictCounts
from bandits.inference.floors import FloorHistory
from bandits.inference.guardrail_sums import GuardrailSums
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.overlap import OverlapSums, count_by_origin
from bandits.inference.periods import PeriodSums, period_of
from bandits.inference.recent_days import (
    DAY,
    RECENT_DAYS,
    last_closed_day,
    sum_by_day,
)
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.sender_sums import SenderSums
from bandits.inference.state import InferenceState
from bandits.problem import Problem
from bandits.rewards import RewardRule
from bandits.statistics import AnswerDelays, SendTimes, Statistic, dump
from bandits.store.fold import HistoryReader
from bandits.store.values import (
    AllocationKey,
    DecisionColumns,
    ExperimentRecord,
    RetainedSums,
    Snapshot,
)
from bandits.versions import Configuration, decode_restriction

_SAME = 1e-6  # a probability derived again may differ by rounding between machines
_AT_ONCE = 10_000  # decisions whose probabilities are derived together
_LEAST = 1e-9  # a smaller propensity, possible only without a floor, counts as this


@dataclass(frozen=True, slots=True, eq=False)
class Sums(Additive):
    """Sums over an experiment's decisions; additive.

    Attributes:
        statistic: for the policy; it may forget.
        counts: for pages.
        inference: for results.
        senders: for checks of the keys that senders use.
        verdicts: of judged events, for the page of what was set aside.
        guardrails: of emails by day of sending, for guardrails.
    """

    statistic: Statistic
    counts: ArmCounts
    inference: InferenceState
    senders: SenderSums
    verdicts: EventVerdictCounts
    guardrails: GuardrailSums

    def dump(self) -> tuple[bytes, bytes, bytes]:
        """Serialise the first three, as `Snapshot` and `RetainedSums` hold them."""
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
    n_arms = len(configuration.arms)
    senders = SenderSums.load(b"" if stored is None else stored.senders, n_arms)
    verdicts = EventVerdictCounts.load(b"" if stored is None else stored.verdicts, n_arms)
    guardrails = GuardrailSums.load(b"" if stored is None else stored.guardrails, n_arms)
    inference = load_inference_state(configuration, stored)
    return Sums(statistic, counts, inference, senders, verdicts, guardrails)


def load_inference_state(
    configuration: Configuration, stored: Snapshot | RetainedSums | None
) -> InferenceState:
    """Read the state of inference, with room for arms that joined since.

    It is that over no decision where none is kept, or one of an earlier format.
    """
    compared = configuration.compared
    if stored is None or InferenceState.is_missing(stored.inference_state):
        return InferenceState.zeros(compared)
    return InferenceState.load(stored.inference_state).padded(compared)


def recent_end(record: ExperimentRecord, at: float) -> int:
    """Number the last closed day as of `at`; once a result is final, the last of them all."""
    until = at if record.closes_at is None else min(at, record.closes_at)
    return last_closed_day(until, record.configuration.experiment.reward.window_seconds)


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
        decisions.event_rows,
        decisions.event_metrics,
        decisions.event_values,
        len(decisions),
        configuration.weights_of(decisions.arms),
    )
    return Rewards(gross, gross + configuration.costs[decisions.arms], metrics)


def measure_events(rule: RewardRule, decisions: DecisionColumns) -> dict[str, EventValues]:
    """Aggregate the events of decisions, declared and listed, by the names that occurred."""
    measured = {}
    for position in np.flatnonzero(np.bincount(decisions.event_metrics)).tolist():
        name = rule.event_names[position]
        metric = rule.event(name)
        of_name = decisions.event_metrics == position
        rows, values = decisions.event_rows[of_name], decisions.event_values[of_name]
        aggregated = metric.aggregate(rows, values, len(decisions))
        times = np.bincount(rows[values != 0], minlength=len(decisions)).astype(np.float64)
        if metric.latest:
            times = (aggregated != 0).astype(np.float64)
        measured[name] = EventValues(aggregated, times, valued=not metric.is_binary)
    return measured


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
        self.zeros: Statistic = _aged(
            self.family.zeros(configuration.problem), configuration.problem, at
        )
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
        """Bring a statistic as of `since` to the reference time: it ages, and forgets."""
        statistic = _aged(statistic, self._problem, self._at)
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
        if self.family.timed or not self.family.invertible:
            return self.zeros
        return self.fit(decisions, rewards, weights)

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

    def sum_sent(self, decisions: DecisionColumns) -> Statistic:
        """Sum decisions, pending or learned, as they stand: zeros unless the family is timed.

        The one metric of its rule is answered by the first event that is not 0.
        """
        if not issubclass(self.family, AnswerDelays):
            return self.zeros
        answers = (decisions.event_metrics == 0) & (decisions.event_values > 0)
        rows, times = decisions.event_rows[answers], decisions.event_times[answers]
        first = np.full(len(decisions), np.inf)
        np.minimum.at(first, rows, times)
        rewards = np.isfinite(first).astype(np.float64)
        first = np.where(rewards > 0, first, decisions.started_at)
        weights = self.weights(decisions.started_at) * ~decisions.holdout
        times = SendTimes(decisions.started_at, first, self._at)
        return self.family.from_sent(self._problem, decisions.arms, rewards, weights, times)

    def sum_pending(self, decisions: DecisionColumns) -> Statistic:
        """Sum decisions as pending."""
        kept = ~decisions.holdout
        ones = np.ones(int(np.count_nonzero(kept)))
        return self.family.from_pending(
            self._problem, decisions.arms[kept], decisions.contexts[kept], ones
        )


def _aged(statistic: Statistic, problem: Problem, at: float) -> Statistic:
    """Bring the statistic of a timed family to a moment."""
    return statistic.aged_to(problem, at) if isinstance(statistic, AnswerDelays) else statistic


class EvidenceBuilder:
    """Sum decisions of one experiment into inference state, each under its own configuration."""

    def __init__(self, record: ExperimentRecord, past: AllocationReader, at: float) -> None:
        """Sum with as many arms as the record's configuration has, as of `at`."""
        self.past = past
        self._salt = record.salt
        self._configuration = record.configuration
        self._rule = record.configuration.experiment.reward
        self._holdout = record.configuration.experiment.holdout
        self._n_arms = len(record.configuration.arms)
        self._segmentation = record.configuration.segmentation
        self._since = record.created_at if record.started_at is None else record.started_at
        self.first_recent_day = recent_end(record, at) + 1 - RECENT_DAYS
        self.zeros = InferenceState.zeros(self._configuration.compared)
        self._last: tuple[DecisionColumns, _Origins] | None = None
        self._last_ratios: tuple[DecisionColumns, dict[int, SampleRatio]] | None = None
        self._measured: tuple[DecisionColumns, dict[str, EventValues]] | None = None

    def sum_sent(self, decisions: DecisionColumns) -> InferenceState:
        """Sum decisions as sent, against the probabilities that they were drawn from.

        These are read, or derived again from the snapshot that the decision rested on. A decision
        is left out where that is not possible, or where it does not give the probability that was
        logged; with a policy that uses the context, one that was counted before then stays counted,
        which speaks neither for nor against the split.
        """
        ratio = SampleRatio.zeros(self._n_arms)
        for of_key in self._ratios(decisions).values():
            ratio = ratio + of_key
        if decisions.holdout.any():  # theirs are needed when their windows close
            origins = self._origins(decisions)
            for origin, _ in _rows_by_origin(origins, np.flatnonzero(decisions.holdout)):
                self.past.allocation(*origin)
        return replace(self.zeros, ratio=ratio, events=self._events_so_far(decisions))

    def count_verdicts(self, decisions: DecisionColumns) -> EventVerdictCounts:
        """Count the judged events of sent decisions."""
        if not len(decisions.verdict_rows):
            return EventVerdictCounts.zeros(self._n_arms)
        columns = (
            decisions.verdict_metrics,
            decisions.verdict_reasons,
            decisions.verdict_mailboxes,
        )
        return EventVerdictCounts.from_events(
            self._rule.event_names,
            np.stack(columns, axis=1),
            self._groups_of(decisions)[decisions.verdict_rows],
            self._n_arms,
        )

    def sum_senders_sent(self, decisions: DecisionColumns) -> SenderSums:
        """Sum decisions as sent by the keys that asked for them."""
        drawn = ~decisions.holdout
        keys = decisions.keys[drawn]
        if not keys.any():
            return SenderSums.zeros(self._n_arms)
        restricted = np.array(list(map(bool, decisions.eligible_sets)), dtype=np.bool_)[drawn]
        return SenderSums.from_sent(keys, restricted, self._ratios(decisions), self._n_arms)

    def sum_senders_closed(self, decisions: DecisionColumns, rewards: Rewards) -> SenderSums:
        """Sum those of the decisions whose window has closed by the keys that asked for them."""
        drawn = decisions.closed & ~decisions.holdout & (decisions.keys > 0)
        keys, answered = decisions.keys[drawn], rewards.gross[drawn] != 0
        return SenderSums.from_closed(keys, answered, self._n_arms)

    def _ratios(self, decisions: DecisionColumns) -> dict[int, SampleRatio]:
        """Sum drawn decisions against their probabilities, by the key that asked for them."""
        if self._last_ratios is not None and self._last_ratios[0] is decisions:
            return self._last_ratios[1]
        ratios: dict[int, SampleRatio] = {}
        drawn = np.flatnonzero(~decisions.holdout)
        for origin, rows in _rows_by_origin(self._origins(decisions), drawn):
            keys = decisions.keys[rows]
            for key in np.unique(keys).tolist():
                of_key = rows if (keys == key).all() else rows[keys == key]
                ratio = ratios.get(key, SampleRatio.zeros(self._n_arms))
                ratios[key] = ratio + self._ratio_of_origin(origin, decisions, of_key)
        self._last_ratios = (decisions, ratios)
        return ratios

    def _ratio_of_origin(
        self, origin: AllocationKey, decisions: DecisionColumns, rows: IntArray
    ) -> SampleRatio:
        if not self.past.contextual(origin[0]):
            return self._ratio_of_allocation(origin, decisions, rows)
        ratio = SampleRatio.zeros(self._n_arms)
        active = self.past.policy(*origin[:2])
        if active is None:
            return ratio
        arms = active.eligible(origin[2])
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            ratio = ratio + self._ratio(active, arms, decisions, part)
        return ratio

    def sum_events_so_far(self, decisions: DecisionColumns) -> InferenceState:
        """Sum the events of sent decisions, closed or not."""
        return replace(self.zeros, events=self._events_so_far(decisions))

    def sum_events(self, decisions: DecisionColumns) -> InferenceState:
        """Sum all that events make, but the reward: so far, and of closed decisions."""
        events = self._events_so_far(decisions)
        if decisions.closed.any():
            events = events + self._events_closed(decisions, self._strata(decisions))
        return replace(self.zeros, events=events)

    def _events_so_far(self, decisions: DecisionColumns) -> EventSums:
        groups = self._groups_of(decisions)
        return EventSums.from_sent(groups, self.events(decisions), self._n_arms)

    def _events_closed(self, decisions: DecisionColumns, strata: "_Strata") -> EventSums:
        """Sum the events of closed decisions, over those that are in the sums by arm."""
        over = decisions.closed
        events = {
            name: EventValues(event.values[over], event.times[over], valued=event.valued)
            for name, event in self.events(decisions).items()
        }
        propensities = np.maximum(decisions.propensities[over], _LEAST)
        groups = self._groups_of(decisions)[over]
        return EventSums.from_closed(
            strata.eligible, strata.sets[over], groups, propensities, events
        )

    def events(self, decisions: DecisionColumns) -> dict[str, EventValues]:
        """Aggregate the events of n decisions, kept for their sums so far and of closed ones."""
        if self._measured is None or self._measured[0] is not decisions:
            self._measured = (decisions, measure_events(self._rule, decisions))
        return self._measured[1]

    def _groups_of(self, decisions: DecisionColumns) -> IntArray:
        """Return the arm of each decision, or K where it was held out, (n,)."""
        return np.where(decisions.holdout, self._n_arms, decisions.arms)

    def _ratio_of_allocation(
        self, key: AllocationKey, decisions: DecisionColumns, rows: IntArray
    ) -> SampleRatio:
        allocation = self.past.allocation(*key)
        if allocation is None:
            return SampleRatio.zeros(self._n_arms)
        arms = decisions.arms[rows]
        same = np.abs(allocation[arms] - decisions.propensities[rows]) <= _SAME
        return SampleRatio.from_draws(arms[same], allocation)

    def _ratio(
        self, active: ActivePolicy, arms: IntArray, decisions: DecisionColumns, rows: IntArray
    ) -> SampleRatio:
        derived = active.probabilities_or_none(arms, decisions.contexts[rows])
        if derived is None:
            return SampleRatio.zeros(self._n_arms)
        positions = np.searchsorted(arms, decisions.arms[rows])
        of_chosen = derived[np.arange(len(rows)), positions]
        same = np.abs(of_chosen - decisions.propensities[rows]) <= _SAME
        ratio = SampleRatio.from_draws(positions[same], derived[same])
        return ratio.spread(arms, self._n_arms)

    def sum_outcomes(self, decisions: DecisionColumns, rewards: Rewards) -> InferenceState:
        """Sum the learned decisions with their events so far, and as closed those that are."""
        drawn = decisions.learned & ~decisions.holdout
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
        columns = (strata.eligible, strata.sets[drawn], arms, net, propensities[drawn], gross != 0)
        reachable = counted & strata.eligible[strata.sets, self._configuration.control]
        periods = period_of(decisions.started_at[drawn], self._since)
        at_maturity = self._at_maturity(decisions, rewards.gross)[drawn]
        days = np.floor(decisions.started_at[drawn] / DAY).astype(np.int64)
        by_arm, recent = sum_by_day(columns, days, self.first_recent_day)
        shares = self._shares_of_origins(strata, counted)
        return replace(
            self._overlap(decisions, strata, shares, reachable, rewards),
            arms=by_arm,
            groups=self._groups(decisions, reachable, rewards),
            clusters=self._clusters(decisions, reachable, rewards),
            periods=PeriodSums.from_decisions(periods, arms, net, self._n_arms),
            segments=AipwSums.by_segment(
                *columns[:-1],
                segments=self._segmentation.segments_of(decisions.contexts[drawn]),
                n_segments=self._segmentation.size,
                earned=columns[-1],
            ),
            lateness=LateRewardSums.from_decisions(arms, gross, at_maturity, self._n_arms),
            floors=FloorHistory.from_floors(strata.floors[strata.sets[drawn]]),
            lift_periods=self._lift_periods(
                decisions, strata, shares, drawn, periods=periods, rewards=net
            ),
            recent=recent,
            cohorts=CohortCounts.from_decisions(
                strata.eligible, strata.requested, strata.sets[drawn], periods
            ),
            events=self._events_closed(decisions, strata),
        )

    def _shares_of_origins(self, strata: "_Strata", counted: BoolArray) -> FloatArray:
        """Return the probabilities of decisions that are `counted` (n,), by origin, (O, K).

        They are 0 where each recipient had others, and where they cannot be derived.
        """
        shares = np.zeros((len(strata.keys), self._n_arms))
        taken = np.bincount(strata.origins[counted], minlength=len(shares)) > 0
        for number in np.flatnonzero(taken & ~strata.contextual).tolist():
            allocation = self.past.allocation(*strata.keys[number])
            if allocation is not None:
                shares[number] = allocation
        return shares

    def _overlap(
        self,
        decisions: DecisionColumns,
        strata: "_Strata",
        shares: FloatArray,
        reachable: BoolArray,
        rewards: Rewards,
    ) -> InferenceState:
        """Sum closed decisions by comparison of arms, also with those of the control group.

        Args:
            decisions: n of them.
            strata: what they could get.
            shares: (O, K) of each origin.
            reachable: (n,) closed, and the control could be got.
            rewards: theirs.
        """
        compared, q = self._configuration.compared, self._holdout
        logged = np.maximum(decisions.propensities, _LEAST)
        same = np.abs(shares[strata.origins, decisions.arms] - logged) <= _SAME
        drawn = decisions.closed & ~decisions.holdout & same
        every, by_segment = self._counts(drawn, decisions, strata, rewards)
        alone = replace(
            self.zeros,
            overlap=OverlapSums.from_counts(compared.arms, shares, every),
            segment_overlap=OverlapSums.from_counts(compared.segments, shares, by_segment),
        )
        if q == 0:
            return alone
        possible = shares[:, self._configuration.control] > 0
        combined = shares * (1 - q * possible)[:, None]
        combined[:, self._configuration.control] += q * possible
        held_out = reachable & decisions.holdout & possible[strata.origins]
        beside, beside_by_segment = self._counts(held_out, decisions, strata, rewards)
        whole, whole_by_segment = every + beside, by_segment + beside_by_segment
        group = OverlapSums.from_counts(compared.group, combined, whole)
        within = OverlapSums.from_counts(compared.group_segments, combined, whole_by_segment)
        return replace(alone, group_overlap=group, group_segment_overlap=within)

    def _counts(
        self,
        counted: BoolArray,
        decisions: DecisionColumns,
        strata: "_Strata",
        rewards: Rewards,
    ) -> tuple[FloatArray, FloatArray]:
        """Count decisions that are `counted` (n,) by origin and arm, in all and by segment."""
        rows = np.flatnonzero(counted)
        columns = (strata.origins[rows], decisions.arms[rows], rewards.net[rows])
        earned, shape = rewards.gross[rows] != 0, (len(strata.keys), self._n_arms)
        everyone = np.zeros((1, len(rows)), dtype=np.int64)
        segments = self._segmentation.segments_of(decisions.contexts[rows])
        every = count_by_origin(*columns, earned, everyone, shape=(1, *shape))
        n_segments = self._segmentation.size
        return every[0], count_by_origin(*columns, earned, segments, shape=(n_segments, *shape))

    def _lift_periods(  # noqa: PLR0913 - one for each column of the log
        self,
        decisions: DecisionColumns,
        strata: "_Strata",
        shares: FloatArray,
        rows: IntArray,
        *,
        periods: IntArray,
        rewards: FloatArray,
    ) -> LiftPeriodSums:
        """Sum rows (m,) for comparisons with the control, periods and rewards (m,) theirs.

        A decision whose probabilities cannot be derived is left out, as of `ratio`.
        """
        arms, logged = decisions.arms[rows], np.maximum(decisions.propensities[rows], _LEAST)
        origins, contextual = strata.origins[rows], strata.contextual[strata.origins[rows]]
        eligible = strata.eligible[strata.sets_of_origins].astype(np.float64)
        shares = np.where(strata.contextual[:, None], eligible, shares)
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

    def _clusters(
        self, decisions: DecisionColumns, counted: BoolArray, rewards: Rewards
    ) -> ClusterSums:
        """Sum those of both groups by bucket of their recipients."""
        if self._holdout == 0:
            return self.zeros.clusters
        return ClusterSums.from_decisions(
            buckets_of(self._salt, decisions.subject_keys[counted]),
            decisions.holdout[counted].astype(np.int64),
            rewards.net[counted],
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
            weights = self._configuration.weights_of(decisions.arms[rows])
            measured = self._rule.measure(places.reshape(-1), metrics, values, len(rows), weights)
            rewards[rows] = measured[0]
        return rewards

    def _origins(self, decisions: DecisionColumns) -> "_Origins":
        """Return the origins of n decisions, kept for those that are summed as sent and learned."""
        if self._last is None or self._last[0] is not decisions:
            self._last = (decisions, _origins_of(decisions))
        return self._last[1]

    def _strata(self, decisions: DecisionColumns) -> "_Strata":
        """Return what n decisions could get; a set may be there twice, of two configurations."""
        keys, origins = self._origins(decisions)
        pairs: dict[tuple[int, bytes], int] = {}
        of_origins = [pairs.setdefault((o[0], o[2]), len(pairs)) for o in keys]
        requested = np.array([bool(restriction) for _, restriction in pairs], dtype=np.bool_)
        sets = np.zeros((len(pairs), self._n_arms), dtype=np.bool_)
        floors, contextual = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=np.bool_)
        for i, (version, restriction) in enumerate(pairs):
            configuration = self.past.configuration(version)
            arms = configuration.eligible(decode_restriction(restriction))
            sets[i, arms] = True
            floors[i] = configuration.experiment.floor_among(len(arms))
            contextual[i] = configuration.policy.statistic.contextual
        of_origin = np.array(of_origins, dtype=np.int64)
        return _Strata(
            keys,
            origins,
            of_origin,
            of_origin[origins],
            sets,
            requested,
            floors,
            contextual[of_origin],
        )


class _Origins(NamedTuple):
    """Origins of n decisions: configuration, snapshot and restriction.

    Attributes:
        keys: O origins.
        numbers: (n,) that of each decision.
    """

    keys: list[AllocationKey]
    numbers: IntArray


class _Strata(Struct, frozen=True, eq=False):
    """What n decisions of O origins could get: one of G sets of arms, and under which floor.

    Attributes:
        keys: O origins.
        origins: (n,) the origin of each decision,
        sets_of_origins: (O,) the set of each origin,
        sets: (n,) and so the set of each decision.
        eligible: (G, K) those sets,
        requested: (G,) and which of them a request narrowed.
        floors: (G,) of each set.
        contextual: (O,) the shares depended on the recipient.
    """

    keys: list[AllocationKey]
    origins: IntArray
    sets_of_origins: IntArray
    sets: IntArray
    eligible: BoolArray
    requested: BoolArray
    floors: FloatArray
    contextual: BoolArray


def _origins_of(decisions: DecisionColumns) -> "_Origins":
    """Number what n decisions were drawn from, in the order in which it first occurs."""
    sets = decisions.eligible_sets
    places = {restriction: i for i, restriction in enumerate(dict.fromkeys(sets))}
    columns = [decisions.configuration_versions, decisions.policy_versions]
    if len(places) > 1:
        columns.append(np.fromiter(map(places.__getitem__, sets), np.int64, len(sets)))
    varying = [column for column in columns if (column != column[:1]).any()]
    first, numbers = np.arange(min(len(sets), 1)), np.zeros(len(sets), dtype=np.int64)
    if varying:
        for column in varying:
            values, codes = distinct_places(column)
            numbers = numbers * len(values) + codes
        if len(varying) > 1:
            values, numbers = np.unique(numbers, return_inverse=True)
        first = np.zeros(len(values), dtype=np.int64)
        first[numbers[::-1]] = np.arange(len(numbers))[::-1]  # what is assigned last stays
        numbers = np.argsort(np.argsort(first))[numbers]
    versions = (decisions.configuration_versions, decisions.policy_versions)
    keys = [(int(versions[0][i]), int(versions[1][i]), sets[i]) for i in np.sort(first).tolist()]
    return _Origins(keys, numbers)


def _rows_by_origin(origins: "_Origins", rows: IntArray) -> list[tuple[AllocationKey, IntArray]]:
    """Group ascending rows (m,) by origin, in the order of their first rows."""
    numbers = origins.numbers[rows]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(numbers[order])) + 1)
    groups = sorted((group for group in groups if len(group)), key=lambda group: int(group[0]))
    return [(origins.keys[origins.numbers[group[0]]], group) for group in groups]


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
        *,
        recording: bool = False,
    ) -> None:
        """Prepare to sum as of `at`, seconds since 1970.

        Args:
            record: the experiment.
            past: reads the configurations and snapshots that its decisions rested on.
            at: the reference time of forgetting.
            folded: the configuration whose policy learns, where that is not the record's.
            recording: keep allocations that are derived, so that the transaction stores them.
        """
        self._configuration = record.configuration
        self._folded = folded
        self._statistic = StatisticBuilder(record.configuration, at, folded)
        self.allocations = AllocationReader(record, past, recording=recording)
        self._evidence = EvidenceBuilder(record, self.allocations, at)
        self._guards = GuardrailBuilder(record, self.allocations)
        self._n_arms = len(record.configuration.arms)
        self._n_metrics = len(record.configuration.experiment.reward.metrics)
        counts = ArmCounts.zeros(self._n_arms, self._n_metrics)
        senders = SenderSums.zeros(self._n_arms)
        verdicts = EventVerdictCounts.zeros(self._n_arms)
        guardrails = GuardrailSums.zeros(self._n_arms)
        inference = self._evidence.zeros
        self.zeros = Sums(self._statistic.zeros, counts, inference, senders, verdicts, guardrails)
        self.invertible = self._statistic.family.invertible

    def load(self, stored: Snapshot | RetainedSums | None) -> Sums:
        """Read sums back, faded to the reference time."""
        if stored is None:
            return self.zeros
        return self.fade(load_sums(self._configuration, stored, self._folded), stored.at)

    def fade(self, sums: Sums, since: float) -> Sums:
        """Bring sums as of `since` to the reference time.

        The statistic forgets by its half-life, and days that are recent no more are left out.
        """
        return replace(
            sums,
            statistic=self._statistic.fade(sums.statistic, since),
            inference=self.without_past_days(sums.inference),
        )

    def without_past_days(self, inference: InferenceState) -> InferenceState:
        """Leave out days that are recent no more."""
        return inference.since(self._evidence.first_recent_day)

    def sum_pending(self, decisions: DecisionColumns) -> Sums:
        """Sum decisions that were sent, and are not learned."""
        sent = self._sum_sent(decisions)
        pending = self._statistic.sum_pending(decisions)
        return replace(sent, statistic=sent.statistic + pending)

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
            self._evidence.sum_senders_closed(decisions, rewards),
            self.zeros.verdicts,
            self.zeros.guardrails,
        )

    def sum_inference(self, decisions: DecisionColumns) -> InferenceState:
        """Sum counted decisions for inference alone, the learned ones with their outcomes."""
        rewards = measure_rewards(self._configuration, decisions)
        return self._evidence.sum_sent(decisions) + self._evidence.sum_outcomes(decisions, rewards)

    def sum_closing(self, decisions: DecisionColumns) -> Sums:
        """Sum the difference that it makes when the reward window of learned decisions closes."""
        rewards = measure_rewards(self._configuration, decisions)
        return replace(
            self.zeros,
            inference=self._evidence.sum_closed(decisions, rewards),
            senders=self._evidence.sum_senders_closed(decisions, rewards),
        )

    def count_senders_closed(self, portions: Iterable[DecisionColumns]) -> SenderSums:
        """Sum all learned decisions anew, in portions, as closed ones of the keys that asked."""
        sums = self.zeros.senders
        for decisions in portions:
            rewards = measure_rewards(self._configuration, decisions)
            sums = sums + self._evidence.sum_senders_closed(decisions, rewards)
        return sums

    def sum_events_so_far(self, decisions: DecisionColumns) -> Sums:
        """Sum the events of sent decisions, as they are without waiting for a window to close."""
        return replace(
            self.zeros,
            statistic=self._statistic.sum_sent(decisions),
            inference=self._evidence.sum_events_so_far(decisions),
            verdicts=self._evidence.count_verdicts(decisions),
            guardrails=self._sum_guardrails(decisions),
        )

    def sum_events(self, decisions: DecisionColumns) -> Sums:
        """Sum the events of decisions, none of which corrects what was learned."""
        return replace(
            self.zeros,
            statistic=self._statistic.sum_sent(decisions),
            inference=self._evidence.sum_events(decisions),
            verdicts=self._evidence.count_verdicts(decisions),
            guardrails=self._sum_guardrails(decisions),
        )

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

    def _sum_guardrails(self, decisions: DecisionColumns) -> GuardrailSums:
        return self._guards.sum_sent(decisions, lambda: self._evidence.events(decisions))

    def _sum_sent(self, decisions: DecisionColumns) -> Sums:
        arms, holdout = decisions.arms, decisions.holdout
        counts = ArmCounts.from_sent(self._n_arms, self._n_metrics, arms, holdout)
        return Sums(
            self._statistic.sum_sent(decisions),
            counts,
            self._evidence.sum_sent(decisions),
            self._evidence.sum_senders_sent(decisions),
            self._evidence.count_verdicts(decisions),
            self._sum_guardrails(decisions),
        )
