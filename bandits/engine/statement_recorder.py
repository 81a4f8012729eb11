"""Statement recorder: claims are recorded at folds, and stay as what held then."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bandits.engine.active_policy import ActivePolicyCache
from bandits.engine.analysis.conclusions import claims
from bandits.engine.analysis.findings import Analysis
from bandits.engine.analysis.health import check_senders
from bandits.inference.sender_checks import distrusted
from bandits.inference.state import InferenceState
from bandits.store import Store
from bandits.store.values import ExperimentRecord, Snapshot
from bandits.verdict import Statement, Statements, StatementsReset

_EVERY_SECONDS = 600.0  # claims are looked at no more often, since that costs what results cost
_MOST = 100  # statements of an experiment


class StatementRecorder:
    """Recorder of the claims that hold as of the newest snapshot."""

    def __init__(self, store: Store, policies: ActivePolicyCache) -> None:
        """Record in `store`."""
        self._store = store
        self._policies = policies
        self._recorded_at: dict[str, float] = {}

    def record(
        self, record: ExperimentRecord, snapshot: Snapshot, inference: InferenceState
    ) -> None:
        """Record what holds as of a snapshot, unless that was done a short while ago.

        Args:
            record: the experiment, as of the snapshot.
            snapshot: the newest, over all decisions that are counted.
            inference: its sums.
        """
        key, now = record.key, snapshot.at
        if now - self._recorded_at.get(key, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return
        self._recorded_at[key] = now
        if not inference.arms.sends.any():
            return  # nothing is claimed before a decision has closed
        if inference.ratio.alarms().any() or self._distrusts(record, snapshot):
            return  # no comparison can be trusted
        analysis = Analysis(self._policies.newest(record, snapshot), inference)
        if analysis.facts.lifts_move:
            self._keep(record, snapshot, lambda kept: _reset(kept, now))
        elif new := claims(record, analysis, now):
            self._keep(record, snapshot, lambda kept: merge_statements(kept, new, now))

    def _distrusts(self, record: ExperimentRecord, snapshot: Snapshot) -> bool:
        """Return true where what an API key does makes comparisons wrong."""
        alarms = check_senders(record, snapshot, self._store.voids.actors(record.key))
        return distrusted(alarms) is not None

    def _keep(
        self,
        record: ExperimentRecord,
        snapshot: Snapshot,
        change: Callable[[Statements], Statements],
    ) -> None:
        """Change the statements that are kept, unless another process did a short while ago."""
        kept = self._store.snapshots.statements(record.key)
        if snapshot.at - kept.at < _EVERY_SECONDS:
            return
        statements = change(kept)
        if (statements.statements, statements.reset) != (kept.statements, kept.reset):
            self._store.snapshots.keep_statements(record.key, statements, version=snapshot.version)


def _reset(kept: Statements, at: float) -> Statements:
    """Drop all statements, since the lifts that they speak of moved."""
    if not kept.statements:
        return kept
    return Statements(at, (), StatementsReset(datetime.fromtimestamp(at, UTC), "lifts_move"))


def merge_statements(kept: Statements, new: Sequence[Statement], at: float) -> Statements:
    """Put new statements in the place of those of the same kind and arm, the oldest first."""
    by_claim = {(s.kind, s.arm): s for s in kept.statements}
    for statement in new:
        by_claim[statement.kind, statement.arm] = statement
    ordered = sorted(by_claim.values(), key=lambda s: s.at)
    return Statements(at, tuple(ordered[-_MOST:]), kept.reset)
