"""Statement recorder: claims are recorded at folds, and stay as what held then."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bandits.engine.active_policy import ActivePolicyCache
from bandits.engine.analysis.conclusions import claims
from bandits.engine.analysis.findings import Analysis
from bandits.engine.sum_anew import resummed_part
from bandits.engine.sums import load_inference_state
from bandits.store import Store
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

    def record(self, key: str, at: float) -> None:
        """Record what holds as of a snapshot `at`, unless that was done a short while ago."""
        if at - self._recorded_at.get(key, -_EVERY_SECONDS) < _EVERY_SECONDS:
            return
        self._recorded_at[key] = at
        state = self._store.snapshots.state(key, 0)
        if state.snapshot is None or at - state.statements.at < _EVERY_SECONDS:
            return
        record = state.record
        inference = load_inference_state(record.configuration, state.snapshot)
        if resummed_part(state, inference) is not None:
            return  # some decisions are not in them yet
        if not inference.arms.sends.any():
            return  # nothing is claimed before a decision has closed
        analysis = Analysis(self._policies.newest(record, state.snapshot), inference)
        kept, now = state.statements, state.snapshot.at
        if analysis.facts.lifts_move:
            statements = _reset(kept, now)
        else:
            statements = merge_statements(kept, claims(record, analysis, now), now)
        if (statements.statements, statements.reset) != (kept.statements, kept.reset):
            self._store.snapshots.keep_statements(key, statements, version=state.snapshot.version)


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
