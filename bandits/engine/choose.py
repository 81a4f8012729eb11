"""Deciding for requests, and recording it before anything is answered.

Single choices that wait for each other's commit are decided together too: most of what one takes
is the same for a hundred. Their answers are those that each would have got alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bandits.batching_queue import BatchingQueue, NotCombinable
from bandits.engine.active_policy_cache import ActivePolicyCache
from bandits.engine.assignment import AssignmentBatch, assign_arms
from bandits.engine.eligible_set_limit import EligibleSetRegistry
from bandits.engine.responses import new_decisions_response, repeated_decisions_response
from bandits.errors import InvalidInput, Unavailable, WrongState
from bandits.schemas import Decision, Request
from bandits.store import StaleRead, Store
from bandits.store.records import ExperimentRecord
from bandits.store.values import StoredDecision

MAX_BATCH = 10_000
_CHANGES = 5  # of an experiment while it decides, before the sender is asked to come again

Answered = tuple[
    Decision, StoredDecision | None
]  # and what was decided before, which holds instead


class ChooseHandler:
    """Who decides for whom: the requests of every experiment."""

    def __init__(self, store: Store, lives: ActivePolicyCache, clock: Callable[[], float]) -> None:
        """Record in `store` what `lives` decide; `clock` gives seconds since 1970."""
        self._store = store
        self._lives = lives
        self._clock = clock
        self._admitted = EligibleSetRegistry(store)
        self._queues: dict[str, BatchingQueue[Request, Answered]] = {}

    def choose(self, key: str, requests: Sequence[Request], *, dry_run: bool) -> list[Decision]:
        """Decide for each request, as `Engine.choose` declares."""
        if len(requests) > MAX_BATCH:
            raise InvalidInput.at("/requests", f"must be at most {MAX_BATCH:,}")
        if len(requests) == 1 and not dry_run:  # of which there may be thousands a second
            try:
                return [self._one(key, requests[0])]
            except (StaleRead, WrongState):
                pass
        for _ in range(_CHANGES):
            try:
                return self._all(self._store.record(key), requests, dry_run=dry_run)
            except StaleRead:
                continue
        raise Unavailable(f"experiment {key} is being changed")

    def _one(self, key: str, request: Request) -> Decision:
        queue = self._queues.get(key)
        if queue is None:
            self._store.recent(key)  # there is such an experiment
            made = BatchingQueue(partial(self._alone, key), partial(self._together, key))
            queue = self._queues.setdefault(key, made)
        decision, before = queue.do(request)
        return (
            decision
            if before is None
            else next(repeated_decisions_response(self._store, {0: before}))[1]
        )

    def _alone(self, key: str, request: Request) -> Answered:
        return self._together(key, [request])[0]

    def _together(self, key: str, requests: Sequence[Request]) -> list[Answered]:
        """Decide for requests of as many callers.

        Raises:
            Apart: one of them may stand out; nothing was recorded.
        """
        record = self._store.recent(key)
        shipped = _shipped(record)
        apart = len(requests) > 1
        _, decisions, before = self._recorded(record, requests, shipped, apart=apart)
        return [(decision, before.get(row)) for row, decision in enumerate(decisions)]

    def _all(
        self, record: ExperimentRecord, requests: Sequence[Request], *, dry_run: bool
    ) -> list[Decision]:
        """Decide under a record, which must still hold when the decisions are appended."""
        shipped = _shipped(record)
        if not requests:
            return []
        rows, decisions, before = self._recorded(record, requests, shipped, dry_run=dry_run)
        if before:
            for row, decision in repeated_decisions_response(self._store, before):
                decisions[row] = decision
        return [decisions[row] for row in rows]

    def _recorded(
        self,
        record: ExperimentRecord,
        requests: Sequence[Request],
        shipped: int | None,
        *,
        dry_run: bool = False,
        apart: bool = False,
    ) -> tuple[Sequence[int], list[Decision], Mapping[int, StoredDecision]]:
        """Decide and append, unless it is a dry run; return rows, decisions and earlier ones.

        Raises:
            Apart: if `apart`, where an id comes twice, or the policy failed, which for all that it
                is asked about at once it does where it fails for one.
        """
        now = self._clock()
        live = self._lives.of(record)
        batch = AssignmentBatch(record.salt, requests, now)
        if apart and len(batch.ids) < len(requests):
            raise NotCombinable
        chosen = assign_arms(live, batch, shipped)
        if apart and shipped is None and (chosen.fallback & ~chosen.holdout).any():
            raise NotCombinable
        if not dry_run and shipped is None:
            self._admitted.admit(record, batch, chosen.restrictions)
        before = {} if dry_run else self._store.append_decisions(record, chosen, at=now)
        return batch.rows, new_decisions_response(live, chosen, dry_run=dry_run), before


def _shipped(record: ExperimentRecord) -> int | None:
    """Return the arm that a stopped experiment goes on sending, None where it chooses.

    Raises:
        WrongState: it does neither.
    """
    shipped = record.shipped if record.state == "stopped" else None
    if record.state != "running" and shipped is None:
        raise WrongState(record.key, record.state, "only a running one chooses")
    return shipped
