"""Summing decisions into what results rest on: when they are sent, and when their window closes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.assignment import restriction_of
from bandits.errors import NotDerivable, NotFound
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.floors import FloorHistory
from bandits.inference.late_rewards import LateRewardSums
from bandits.inference.periods import PeriodSums, period_of
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.state import GROUPS, InferenceState
from bandits.segments import Segmentation
from bandits.store.fold import HistoryReader
from bandits.store.values import DecisionColumns, ExperimentRecord

_SAME = 1e-6  # a probability derived again may differ by rounding between machines
_AT_ONCE = 10_000  # decisions whose probabilities are derived together
_LIVES = 8  # of the past, kept at hand
_LEAST = 1e-9  # a smaller propensity, possible only without a floor, counts as this

_Origin = tuple[
    int, int, bytes
]  # configuration, snapshot and restriction that a decision rested on


class EvidenceBuilder:
    """Sums decisions of one experiment, each under the configuration that it was made under."""

    def __init__(self, record: ExperimentRecord, past: HistoryReader) -> None:
        """Sum with as many arms as the record's configuration has."""
        experiment = record.configuration.experiment
        self._record = record
        self._past = past
        self._rule = experiment.reward
        self._costs = record.configuration.costs
        self._control = record.configuration.control
        self._holdout = experiment.holdout
        self._n_arms = len(record.configuration.arms)
        self._segmentation = Segmentation(experiment.context)
        self._since = record.created_at if record.started_at is None else record.started_at
        self._lives: dict[tuple[int, int], ActivePolicy | None] = {}
        self.nothing = InferenceState.zeros(self._n_arms, self._segmentation.size)

    def sent(self, decided: DecisionColumns) -> InferenceState:
        """Sum decisions as sent, against the probabilities that they were drawn from.

        These are derived again from the snapshot of then. A decision is left out where that is no
        longer kept, or where it no longer gives the probability that was logged: one that was
        counted before then stays counted, which speaks neither for nor against the split.
        """
        ratio = SampleRatio.zeros(self._n_arms)
        for origin, rows in _by_origin(decided, np.flatnonzero(~decided.holdout)):
            live = self._live(*origin[:2])
            if live is None:
                continue
            arms = live.eligible(restriction_of(origin[2]))
            for start in range(0, len(rows), _AT_ONCE):
                ratio = ratio + self._ratio(live, arms, decided, rows[start : start + _AT_ONCE])
        return replace(self.nothing, ratio=ratio)

    def _ratio(
        self, live: ActivePolicy, arms: IntArray, decided: DecisionColumns, rows: IntArray
    ) -> SampleRatio:
        shared = not live.policy.statistic.contextual
        contexts = decided.contexts[rows[:1] if shared else rows]
        derived = live.tried(arms, contexts)
        if derived is None:
            return SampleRatio.zeros(self._n_arms)
        positions = np.searchsorted(arms, decided.arms[rows])
        of_chosen = derived[positions] if shared else derived[np.arange(len(rows)), positions]
        same = np.abs(of_chosen - decided.propensities[rows]) <= _SAME
        found = SampleRatio.of(positions[same], derived if shared else derived[same])
        return found.spread(arms, self._n_arms)

    def _live(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        key = (configuration_version, policy_version)
        if key not in self._lives:
            if len(self._lives) >= _LIVES:
                self._lives.pop(next(iter(self._lives)))
            self._lives[key] = self._read(*key)
        return self._lives[key]

    def _read(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        configuration = self._past.configuration(configuration_version)
        try:
            snapshot = self._past.snapshot(policy_version)
        except (NotDerivable, NotFound):  # its arrays are no longer kept
            return None
        folded = configuration
        if snapshot is not None and snapshot.configuration_version != configuration.version:
            folded = self._past.configuration(snapshot.configuration_version)
        return ActivePolicy(self._record.key, self._record.salt, configuration, snapshot, folded)

    def closed(self, decided: DecisionColumns) -> InferenceState:
        """Sum those of the decisions whose window has closed, with all their events."""
        counted = decided.closed
        if not counted.any():
            return self.nothing
        gross, _ = self._rule.measure(
            decided.event_rows, decided.event_metrics, decided.event_values, len(decided)
        )
        rewards = gross + self._costs[decided.arms]
        propensities = np.maximum(decided.propensities, _LEAST)
        eligible, strata, floors = self._strata(decided)
        drawn = np.flatnonzero(counted & ~decided.holdout)
        columns = (strata[drawn], decided.arms[drawn], rewards[drawn], propensities[drawn])
        earned, arms = gross[drawn] != 0, decided.arms[drawn]
        return replace(
            self.nothing,
            arms=AipwSums.of(eligible, *columns, earned=earned),
            groups=self._groups(decided, counted & eligible[strata, self._control], gross),
            periods=PeriodSums.of(
                period_of(decided.started_at[drawn], self._since),
                arms,
                rewards[drawn],
                self._n_arms,
            ),
            segments=AipwSums.by_segment(
                eligible,
                *columns,
                segments=self._segmentation.of(decided.contexts[drawn]),
                n_segments=self._segmentation.size,
                earned=earned,
            ),
            lateness=LateRewardSums.of(
                arms, gross[drawn], self._at_maturity(decided, gross)[drawn], self._n_arms
            ),
            floors=FloorHistory.of(floors[strata[drawn]]),
        )

    def _groups(self, decided: DecisionColumns, counted: BoolArray, gross: FloatArray) -> AipwSums:
        """Sum both groups; who could not get the control is in neither."""
        if self._holdout == 0:
            return self.nothing.groups
        groups = decided.holdout[counted].astype(np.int64)
        return AipwSums.of(
            np.ones((1, GROUPS), dtype=np.bool_),
            np.zeros(len(groups), dtype=np.int64),
            groups,
            gross[counted] + self._costs[decided.arms[counted]],
            np.where(groups == 1, self._holdout, 1 - self._holdout),
            earned=gross[counted] != 0,
        )

    def _at_maturity(self, decided: DecisionColumns, gross: FloatArray) -> FloatArray:
        """Return what rewards were, before costs, when silence came to count as zero, (n,)."""
        matured_at = decided.started_at[decided.event_rows] + self._rule.maturity
        in_time = decided.event_times <= matured_at
        if in_time.all():
            return gross
        rows, metrics = decided.event_rows[in_time], decided.event_metrics[in_time]
        found, _ = self._rule.measure(rows, metrics, decided.event_values[in_time], len(decided))
        return found

    def _strata(self, decided: DecisionColumns) -> tuple[BoolArray, IntArray, FloatArray]:
        """Return the sets of arms that decisions could get (G, K), and which each could (n,).

        Sets come with the floor of each (G,); one may be there twice, of two configurations.
        """
        numbers: dict[tuple[int, bytes], int] = {}
        pairs = zip(decided.configuration_versions.tolist(), decided.eligible_sets, strict=True)
        strata = [numbers.setdefault(pair, len(numbers)) for pair in pairs]
        sets = np.zeros((len(numbers), self._n_arms), dtype=np.bool_)
        floors = np.zeros(len(numbers))
        for i, (version, restriction) in enumerate(numbers):
            configuration = self._past.configuration(version)
            arms = configuration.eligible(restriction_of(restriction))
            sets[i, arms] = True
            floors[i] = configuration.experiment.floor_among(len(arms))
        return sets, np.array(strata, dtype=np.int64), floors


def _by_origin(decided: DecisionColumns, rows: IntArray) -> Iterator[tuple[_Origin, IntArray]]:
    """Group rows by what their decisions rested on."""
    found: dict[_Origin, list[int]] = {}
    columns = (decided.configuration_versions, decided.policy_versions)
    versions = zip(*(column[rows].tolist() for column in columns), strict=True)
    for row, (configuration, policy) in zip(rows.tolist(), versions, strict=True):
        found.setdefault((configuration, policy, decided.eligible_sets[row]), []).append(row)
    for origin, mine in found.items():
        yield origin, np.array(mine, dtype=np.int64)
