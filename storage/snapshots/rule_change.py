"""Rule change: decisions that are judged by another version of the rules against machines.

One portion of start batches after the other, in the order of time: the fold takes those of their
decisions that have judged events out as they were judged, writes the place that it came to, and
takes them in as they are judged now. Where no batch is left, the new version holds for all.
"""

from collections.abc import Sequence

from sqlalchemy import exists, select

from bandits.store.values import ExperimentRecord, RulesInForce
from storage.databases import NamedRow, Transaction
from storage.schema import activations, batches, decisions, events, of_batch
from storage.snapshots import backlog
from storage.snapshots.observations import Observations
from storage.snapshots.rules_in_force import read_rules, write_rules
from storage.snapshots.statements import drop_statements
from storage.snapshots.voids import Voids

_CHOSEN = select(decisions.c.serial).where(
    of_batch(batches.c.id),
    exists().where(events.c.decision == decisions.c.serial, events.c.kind.is_not(None)),
)
_ACTIVATED = select(activations.c.decision).where(
    exists().where(events.c.decision == activations.c.decision, events.c.kind.is_not(None)),
)


class RuleChange:
    """One portion of a change of the rules in an experiment, whose lock must be held.

    Attributes:
        serials: of the decisions that it concerns, ascending.
    """

    def __init__(  # noqa: PLR0913 - what changes, and how much of it at once
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        rules: int | None,
        *,
        at: float,
        most: int,
        left: int,
    ) -> None:
        """Find the decisions.

        Args:
            transaction: one that writes.
            record: the experiment.
            rules: the version that is to hold, unless another change is under way already.
            at: now, seconds since 1970.
            most: about how many decisions are enough.
            left: decisions whose rows were removed, so that they stay as they were judged.
        """
        self._transaction = transaction
        self._record = record
        self._at, self._left = at, left
        before = read_rules(transaction, record)
        if before.place is None:
            before = RulesInForce(rules, before.version)
        self._before = before
        observations = Observations(transaction, record)
        starts = observations.starts_after(before.place, min(most, backlog.row_limit(record)))
        self._starts = backlog.limit_past_origins(transaction, starts) if starts else starts
        self._voids = observations.voids
        self.serials = self._concerned()

    def save(self, version: int) -> Voids:
        """Write how far the rules hold, for snapshots from `version` on; return what is void."""
        version_now, earlier = self._before.version, self._before.earlier
        if self._starts:
            last = self._starts[-1]
            rules = RulesInForce(version_now, earlier, (last.created_at, last.id))
        else:
            rules = RulesInForce(version_now, version_now, left=self._left)
            drop_statements(self._transaction, self._record, self._at, "machine_rules")
        write_rules(self._transaction, self._record, rules, version=version)
        return self._voids

    def _concerned(self) -> list[int]:
        serials: list[int] = []
        chosen = self._of_kind("choose")
        if chosen:
            query = self._transaction.join_each(batches, [], _CHOSEN)
            condition = self._transaction.is_any(batches.c.id, chosen)
            serials += self._transaction.execute(query.where(condition)).scalars()
        activated = self._of_kind("activate")
        if activated:
            condition = self._transaction.is_any(activations.c.batch_id, activated)
            serials += self._transaction.execute(_ACTIVATED.where(condition)).scalars()
        return sorted(serials)

    def _of_kind(self, kind: str) -> Sequence[int]:
        starts: Sequence[NamedRow] = self._starts
        return [batch.id for batch in starts if batch.kind == kind]
