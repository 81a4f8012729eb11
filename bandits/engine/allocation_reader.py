"""Allocation reader: the probabilities that decisions were drawn from, read or derived again."""

import numpy as np

from bandits.array_types import FloatArray
from bandits.engine.active_policy import ActivePolicy
from bandits.errors import NotDerivable, NotFound
from bandits.store.fold import HistoryReader
from bandits.store.values import AllocationKey, ExperimentRecord, Snapshot
from bandits.versions import Configuration

_PAST_POLICIES = 8  # kept at hand
_ALLOCATIONS = 10_000  # kept at hand
_ANY_CONTEXT = 1.0  # of a policy that uses none


class AllocationReader:
    """History of one experiment, with the allocations that its store has or its snapshots give.

    It is a `HistoryReader` whose `allocation` derives what no fold has stored yet.

    Attributes:
        derived: allocations that were derived and are not stored; empty unless recording.
    """

    def __init__(
        self, record: ExperimentRecord, history: HistoryReader, *, recording: bool = False
    ) -> None:
        """Read from a store's history.

        Args:
            record: the experiment.
            history: of the store.
            recording: keep what is derived, for a transaction that stores it.
        """
        self._record = record
        self._history = history
        self._n_arms = len(record.configuration.arms)
        self._recording = recording
        self._policies: dict[tuple[int, int], ActivePolicy | None] = {}
        self._allocations: dict[AllocationKey, FloatArray | None] = {}
        self.derived: dict[AllocationKey, FloatArray] = {}

    def configuration(self, version: int) -> Configuration:
        """Read one version of the configuration."""
        return self._history.configuration(version)

    def snapshot(self, version: int) -> Snapshot | None:
        """Read one snapshot; None for version 0, before the first."""
        return self._history.snapshot(version)

    def allocation(
        self, configuration_version: int, policy_version: int, restriction: bytes
    ) -> FloatArray | None:
        """Return the probability of each arm, (K,), 0 for those that a decision could not get.

        Args:
            configuration_version: the configuration that a decision was made under.
            policy_version: the snapshot that it was drawn from.
            restriction: its encoded `eligible` set.

        Returns:
            None where the policy uses the context, so that each decision has its own, and where
            the snapshot is no longer kept and no fold stored what followed from it.
        """
        key = (configuration_version, policy_version, restriction)
        if key not in self._allocations:
            if len(self._allocations) >= _ALLOCATIONS:
                self._allocations.clear()
            self._allocations[key] = self._read(key)
        return self._allocations[key]

    def _read(self, key: AllocationKey) -> FloatArray | None:
        if self.contextual(key[0]):
            return None
        stored = self._history.allocation(*key)
        if stored is not None:
            return stored
        derived = self._derive(key)
        if derived is not None and self._recording:
            self.derived[key] = derived
        return derived

    def _derive(self, key: AllocationKey) -> FloatArray | None:
        configuration_version, policy_version, restriction = key
        active = self.policy(configuration_version, policy_version)
        if active is None:
            return None
        arms = active.eligible(restriction)
        context = np.full((1, active.problem.n_features), _ANY_CONTEXT)
        probabilities = active.probabilities_or_none(arms, context)
        if probabilities is None:
            return None
        allocation = np.zeros(self._n_arms)
        allocation[arms] = probabilities
        return allocation

    def contextual(self, configuration_version: int) -> bool:
        """Return true where the policy of a configuration uses the context."""
        return self.configuration(configuration_version).policy.statistic.contextual

    def policy(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        """Return the policy that decided, None where its snapshot is no longer kept."""
        key = (configuration_version, policy_version)
        if key not in self._policies:
            if len(self._policies) >= _PAST_POLICIES:
                self._policies.pop(next(iter(self._policies)))
            self._policies[key] = self._restore(*key)
        return self._policies[key]

    def _restore(self, configuration_version: int, policy_version: int) -> ActivePolicy | None:
        configuration = self.configuration(configuration_version)
        try:
            snapshot = self.snapshot(policy_version)
        except (NotDerivable, NotFound):  # its arrays are no longer kept
            return None
        return ActivePolicy.restore(self._record, configuration, snapshot, self.configuration)
