"""Active policy: a policy on a snapshot, as it chooses for an experiment, and a cache of them."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from threading import Lock
from typing import Any

import msgspec
import numpy as np

from bandits.allocation import (
    NEWCOMER_MATURED,
    AllocationRule,
    apply_floor,
    cap_newcomers,
    renormalize_others,
)
from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.arm_counts import ArmCounts
from bandits.errors import NotDerivable
from bandits.policy import Contributions
from bandits.sampling import draw, uniforms
from bandits.schemas import DerivationSource, SlotChoice
from bandits.statistics import Statistic, dump, load
from bandits.store import Store
from bandits.store.fold import LogAudit
from bandits.store.values import ExperimentRecord, RetainedSums, Snapshot
from bandits.versions import Configuration, decode_restriction
from bandits.waits import held

_log = logging.getLogger(__name__)
_SUM_TOLERANCE = 1e-9  # rows of a policy that sum to 1 only this closely are still taken
_PREPARED_SETS = 256  # eligible sets whose prepared state is kept,
_PREPARED_CELLS = 16_000_000  # or fewer where a linear model makes them large: K d² in all


def load_statistic(
    configuration: Configuration,
    stored: Snapshot | RetainedSums | None,
    folded: Configuration | None = None,
) -> tuple[Statistic, ArmCounts]:
    """Read a stored statistic and arm counts, with room for arms that joined since.

    Args:
        configuration: the experiment's.
        stored: None where nothing was learned.
        folded: the configuration that the statistic was folded under, where that may be another
            and its policy's own family matters.

    Raises:
        ValueError: the statistic is of another family than the policy's.
    """
    family: type[Statistic] = (folded or configuration).policy.statistic
    problem = configuration.problem
    if stored is None:
        n_metrics = len(configuration.experiment.reward.metrics)
        return family.zeros(problem), ArmCounts.zeros(problem.n_arms, n_metrics)
    statistic: Statistic = load(family, stored.statistic)
    return statistic.padded(problem), ArmCounts.load(stored.arm_counts).padded(problem.n_arms)


class ActivePolicy:
    """Policy under one configuration and one snapshot; immutable but for its cache."""

    def __init__(
        self,
        key: str,
        salt: bytes,
        configuration: Configuration,
        snapshot: Snapshot | None,
        folded: Configuration | None = None,
    ) -> None:
        """Read the snapshot; preparing the policy waits for the first decision.

        Args:
            key: the experiment's.
            salt: the experiment's.
            configuration: the experiment's, of the version to decide under.
            snapshot: None before the first.
            folded: what the snapshot was folded under, None where that is `configuration`.
        """
        self.key = key
        self.salt = salt
        self.configuration = configuration
        self.experiment = configuration.experiment
        self.version = 0 if snapshot is None else snapshot.version
        self.encoder = self.experiment.encoder()
        self.policy = configuration.policy
        self.problem = configuration.problem
        self.control = configuration.control
        self.statistic, self.counts = load_statistic(configuration, snapshot, folded)
        self._seed = 0 if snapshot is None else snapshot.seed
        self._upcoming = 1 if snapshot is None else snapshot.upcoming
        # Before the first snapshot nothing is known of any arm, and the older rule goes on.
        rule = AllocationRule.RENORMALIZED if snapshot is None else snapshot.allocation_rule
        self._rule = AllocationRule(rule)
        matured = self.counts.complete[:-1]
        self._newcomers = configuration.newcomers & (matured < NEWCOMER_MATURED)
        self._prepared: dict[bytes, Any] = {}
        self._shared: dict[bytes, FloatArray] = {}  # probabilities that are the same for everybody
        self._preparing = Lock()
        cells = self.problem.n_arms * max(self.problem.n_features, 1) ** 2
        # At least two: an eligible set, and the same without its newcomers.
        self._prepared_at_most = min(_PREPARED_SETS, 2 + _PREPARED_CELLS // cells)

    @classmethod
    def restore(
        cls,
        record: ExperimentRecord,
        configuration: Configuration,
        snapshot: Snapshot | None,
        read_configuration: Callable[[int], Configuration],
    ) -> "ActivePolicy":
        """Restore the policy of an experiment under a configuration and a snapshot of it.

        Args:
            record: the experiment.
            configuration: the version to decide under.
            snapshot: None before the first.
            read_configuration: reads another version, for the one that the snapshot was folded
                under.
        """
        folded = configuration
        if snapshot is not None and snapshot.configuration_version != configuration.version:
            folded = read_configuration(snapshot.configuration_version)
        return cls(record.key, record.salt, configuration, snapshot, folded)

    @classmethod
    def of_allocation(
        cls,
        record: ExperimentRecord,
        configuration: Configuration,
        restriction: bytes,
        allocation: FloatArray,
    ) -> "ActivePolicy":
        """Restore the policy that decided by what it gave: the probability of each arm, (K,).

        It knows nothing else, and answers for this restriction alone.
        """
        active = cls(record.key, record.salt, configuration, None)
        arms = active.eligible(restriction)
        active._shared[arms.tobytes()] = allocation[arms]
        return active

    @cached_property
    def unrestricted_arms(self) -> IntArray:
        """Arms that may be chosen where a request does not restrict them."""
        return self.configuration.eligible()

    @cached_property
    def slots(self) -> list[dict[str, SlotChoice]]:
        """Variant and payload of every slot, by arm, as the sender gets them."""
        return [self.configuration.slots_of(arm) for arm in range(self.problem.n_arms)]

    def eligible(self, restriction: bytes) -> IntArray:
        """List the arms that a request's encoded restriction leaves.

        Raises:
            InvalidInput: at ``/{slot}``.
        """
        if not restriction:
            return self.unrestricted_arms
        return self.configuration.eligible(decode_restriction(restriction))

    def probabilities(self, arms: IntArray, contexts: FloatArray) -> FloatArray:
        """Return the probabilities that decisions among `arms` (m,) are drawn from.

        Args:
            arms: the eligible arms.
            contexts: (n, d).

        Returns:
            (m,) where they are the same for everybody, else (n, m); cap and floor applied.

        Raises:
            ArithmeticError: the policy returned no distribution.
        """
        key = arms.tobytes()
        shared = self._shared.get(key)
        if shared is not None:
            return shared
        probabilities = self._compute(arms, contexts)
        if probabilities.ndim == 1:
            if len(self._shared) >= _PREPARED_SETS:
                self._shared.clear()
            self._shared[key] = probabilities
        return probabilities

    def _compute(self, arms: IntArray, contexts: FloatArray) -> FloatArray:
        shares = self._policy_shares(arms, contexts)
        newcomers = self._newcomers[arms]
        if newcomers.any() and not newcomers.all():
            if self._rule == AllocationRule.RENORMALIZED:
                among_others = renormalize_others(shares, newcomers)
            else:
                among_others = self._policy_shares(arms[~newcomers], contexts)
            shares = cap_newcomers(shares, newcomers, among_others)
        return apply_floor(shares, self.experiment.floor_among(len(arms)))

    def _policy_shares(self, arms: IntArray, contexts: FloatArray) -> FloatArray:
        """Return the policy's own probabilities among `arms`, before cap and floor.

        Raises:
            ArithmeticError: it returned no distribution.
        """
        prepared = self._prepare(arms)
        shares = np.asarray(self.policy.propensities(prepared, contexts), dtype=np.float64)
        sums = shares.sum(axis=-1)
        if not (np.all(shares >= 0) and np.all(np.abs(sums - 1) <= _SUM_TOLERANCE)):
            raise ArithmeticError(f"{self.experiment.policy.name} returned no distribution")
        return shares

    def probabilities_or_none(self, arms: IntArray, contexts: FloatArray) -> FloatArray | None:
        """Return `probabilities`, or None where the policy failed and the control is answered."""
        try:
            return self.probabilities(arms, contexts)
        except Exception:  # noqa: BLE001 - whatever a policy does wrong, the email has to leave
            _log.exception("policy of experiment %s failed; answering the control", self.key)
            return None

    def contributions(self, arms: IntArray, context: FloatArray) -> Contributions | None:
        """Split the prediction of `arms` (m,) for one context (d,) by feature, if it is linear.

        It is the policy's own, before the cap of newcomers and the floor.
        """
        if self.policy.contributions is None:
            return None
        return self.policy.contributions(self._prepare(arms), context)

    def _prepare(self, arms: IntArray) -> Any:
        key = arms.tobytes()
        with self._preparing:  # one thread prepares, the others wait for its result
            if key not in self._prepared:
                if len(self._prepared) >= self._prepared_at_most:
                    self._prepared.clear()
                self._prepared[key] = self.policy.prepare(
                    self.statistic.take(arms),
                    self.problem.take(arms),
                    self._upcoming,
                    np.random.default_rng(self._seed),
                )
            return self._prepared[key]

    def choose(
        self, arms: IntArray, contexts: FloatArray, u: FloatArray
    ) -> tuple[IntArray, FloatArray, bool]:
        """Draw an arm for each of n decisions by its uniform number, of `uniforms`.

        Returns:
            Arms (n,), the propensity of each (n,), and whether the policy failed: then each is the
            control, or the first eligible arm where the control is not, with propensity 1.
        """
        probabilities = self.probabilities_or_none(arms, contexts)
        if probabilities is None:
            return np.full(len(u), self.fallback_arm(arms)), np.ones(len(u)), True
        positions = draw(probabilities, u)
        if probabilities.ndim == 1:
            return arms[positions], probabilities[positions], False
        propensities = np.take_along_axis(probabilities, positions[:, None], axis=-1)[:, 0]
        return arms[positions], propensities, False

    def uniforms(self, ids: Sequence[str]) -> FloatArray:
        """Hash n decision ids to the numbers (n,) in [0, 1) that arms are drawn by."""
        return uniforms(self.salt, ids, prefix="draw:")

    def fallback_arm(self, arms: IntArray) -> int:
        """Return the control, or the first of the eligible `arms` where it is not among them."""
        return self.control if self.control in arms else int(arms[0])

    def held_out(self, subjects: Sequence[str]) -> BoolArray:
        """Mark the subjects that are held out, (n,): fixed for the experiment."""
        if self.experiment.holdout == 0:
            return np.zeros(len(subjects), dtype=np.bool_)
        return uniforms(self.salt, subjects, prefix="holdout:") < self.experiment.holdout


class ActivePolicyCache:
    """Active policies of experiments, the newest of each kept."""

    def __init__(self, store: Store, rebuild: Callable[[LogAudit], Statistic]) -> None:
        """Read snapshots from `store`; `rebuild` sums a statistic that is no longer kept."""
        self._store = store
        self._rebuild = rebuild
        self._newest: dict[str, tuple[tuple[int, int], ActivePolicy]] = {}
        self._renewing = Lock()
        self._rebuilt: tuple[str, int, Snapshot] | None = None
        self._rebuilding = Lock()

    def newest(self, record: ExperimentRecord, snapshot: Snapshot | None = None) -> ActivePolicy:
        """Return the policy that decides under a record; it is made once for each version.

        Args:
            record: the experiment.
            snapshot: the record's newest, where it is read already.
        """
        versions = (record.configuration.version, record.learned_version)
        cached = self._newest.get(record.key)
        if cached is None or cached[0] != versions:
            # One thread reads the new snapshot, the others wait for it.
            with held(self._renewing, "what was learned last is being read"):
                cached = self._newest.get(record.key)
                if cached is None or cached[0] != versions:
                    cached = self._newest[record.key] = (
                        versions,
                        self._read(record, snapshot),
                    )
        return cached[1]

    def _read(self, record: ExperimentRecord, snapshot: Snapshot | None = None) -> ActivePolicy:
        try:
            if snapshot is None or snapshot.version != record.learned_version:
                snapshot = self._snapshot(record.key, record.learned_version)
        except NotDerivable:  # a subject was erased since `record` was read: there is a newer one
            return self._read(self._store.experiments.record(record.key))
        return self._restore(record, record.configuration, snapshot)

    def past(
        self,
        record: ExperimentRecord,
        configuration: Configuration,
        version: int,
        restriction: bytes,
        decision_id: str,
    ) -> tuple[ActivePolicy, DerivationSource]:
        """Return the policy that decided, under an earlier configuration and snapshot.

        Where the snapshot's arrays are no longer kept, it is one of the probabilities that were
        stored: when its decisions were counted, if these do not depend on the context, or with this
        decision. Else the log is summed anew.

        Args:
            record: the experiment.
            configuration: the earlier one.
            version: the snapshot's.
            restriction: the encoded `eligible` set of the decision.
            decision_id: the decision's.

        Returns:
            The policy, and what it rests on.

        Raises:
            NotDerivable: the snapshot's statistic cannot be summed again.
        """
        key = record.key
        if version == 0 or self._kept(key, version):
            snapshot = self._past_snapshot(key, version)
            return self._restore(record, configuration, snapshot), "snapshot"
        source: DerivationSource = "shares"
        allocation = None
        if not configuration.policy.statistic.contextual:
            allocation = self._store.snapshots.allocation(
                key, configuration.version, version, restriction
            )
        if allocation is None:
            source, kept = "kept", self._store.snapshots.receipt_allocation(decision_id)
            allocation = None if kept is None else kept.probabilities
        if allocation is not None:
            active = ActivePolicy.of_allocation(record, configuration, restriction, allocation)
            return active, source
        return self._restore(record, configuration, self._past_snapshot(key, version)), "log"

    def _kept(self, key: str, version: int) -> bool:
        """Return true where the arrays of a snapshot are neither erased nor pruned."""
        try:
            return bool(self._store.snapshots.snapshot(key, version).statistic)
        except NotDerivable:
            return False

    def _restore(
        self, record: ExperimentRecord, configuration: Configuration, snapshot: Snapshot | None
    ) -> ActivePolicy:
        read = partial(self._store.experiments.configuration, record.key)
        return ActivePolicy.restore(record, configuration, snapshot, read)

    def _snapshot(self, key: str, version: int) -> Snapshot | None:
        return None if version == 0 else self._store.snapshots.snapshot(key, version)

    def _past_snapshot(self, key: str, version: int) -> Snapshot | None:
        """Read an earlier snapshot; where its arrays are no longer kept, sum the log anew."""
        snapshot = self._snapshot(key, version)
        if snapshot is None or snapshot.statistic:
            return snapshot
        # One at a time: it goes through the log.
        with held(self._rebuilding, "an earlier state is being derived for somebody else"):
            if self._rebuilt is None or self._rebuilt[:2] != (key, version):
                with self._store.snapshots.audit(key, version) as audit:
                    statistic = dump(self._rebuild(audit))
                snapshot = msgspec.structs.replace(snapshot, statistic=statistic)
                self._rebuilt = (key, version, snapshot)
            return self._rebuilt[2]
