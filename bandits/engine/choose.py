"""Choose: decide for requests, and record the decisions before anything is answered."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from threading import Lock
from typing import Any

from bandits.batching_queue import BatchingQueue, NotCombinable
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.active_policy_cache import ActivePolicyCache
from bandits.engine.assignment import AssignmentBatch, assign_arms
from bandits.errors import Fault, InvalidInput, Unavailable, WrongState
from bandits.identifiers import pointer
from bandits.schemas import Decision, Request
from bandits.segments import Segmentation
from bandits.store import StaleRead, Store
from bandits.store.values import ExperimentRecord, NewDecisions, StoredDecision
from bandits.versions import Configuration

MOST_SETS = 256  # or fewer,
_LEAST_SETS = 16
_MOST_NUMBERS = 2_000_000  # where there are many arms and segments: 10 for each arm, in each
_MOST_FAULTS = 100


def eligible_set_limit(configuration: Configuration) -> int:
    """Return how many different restrictions an experiment takes."""
    segments = 1 + Segmentation(configuration.experiment.context).size
    affordable = _MOST_NUMBERS // (10 * len(configuration.arms) * segments)
    return max(_LEAST_SETS, min(MOST_SETS, affordable))


class EligibleSetRegistry:
    """The restrictions that experiments are known to have been asked for."""

    def __init__(self, store: Store) -> None:
        """Know none yet; `store` knows what other processes let in."""
        self._store = store
        self._known: dict[int, set[bytes]] = {}
        self._changing = Lock()

    def admit(
        self, record: ExperimentRecord, batch: AssignmentBatch, restrictions: Sequence[bytes]
    ) -> None:
        """Let in the restrictions of a batch, or none of them.

        Raises:
            InvalidInput: at ``/requests/{row}/eligible``: they would be too many.
        """
        known = self._known.get(record.id, set())
        new = [r for r in dict.fromkeys(restrictions) if r and r not in known]
        if not new:
            return
        most = eligible_set_limit(record.configuration)
        refused = set(self._store.log.admit(record, new, most=most))
        if refused:
            detail = (
                f"is one more set of variants than the {most} that this experiment keeps results"
                " for; ask for one that came before, or leave it out"
            )
            rows = [i for i, row in enumerate(batch.rows) if restrictions[row] in refused]
            raise InvalidInput(
                Fault(pointer("requests", i, "eligible"), detail) for i in rows[:_MOST_FAULTS]
            )
        with self._changing:
            self._known[record.id] = self._known.get(record.id, set()) | set(new)


def new_decisions_response(
    live: ActivePolicy, chosen: NewDecisions, *, dry_run: bool
) -> list[Decision]:
    """Say what was chosen, row by row; what is only tried has no decision id."""
    slots, version = live.slots, chosen.policy_version
    columns = zip(
        [None] * len(chosen.ids) if dry_run else chosen.ids,
        chosen.arms.tolist(),
        chosen.propensities.tolist(),
        chosen.holdout.tolist(),
        chosen.fallback.tolist(),
        strict=True,
    )
    return [
        Decision(key, slots[arm], propensity, version, holdout, fallback, shipped=chosen.shipped)
        for key, arm, propensity, holdout, fallback in columns
    ]


def repeated_decisions_response(
    store: Store, before: Mapping[int, StoredDecision]
) -> Iterator[tuple[int, Decision]]:
    """Answer these rows as before, with the payloads of then."""
    configuration = cache(store.experiments.configuration)

    @cache
    def slots(experiment: str, version: int, arm: int) -> dict[str, dict[str, Any]]:
        return configuration(experiment, version).slots_of(arm)

    for row, stored in before.items():
        yield (
            row,
            Decision(
                stored.id,
                slots(stored.experiment, stored.configuration_version, stored.arm),
                stored.propensity,
                stored.policy_version,
                stored.holdout,
                stored.fallback,
                repeat=True,
                shipped=stored.shipped,
            ),
        )


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
                return self._all(self._store.experiments.record(key), requests, dry_run=dry_run)
            except StaleRead:
                continue
        raise Unavailable(f"experiment {key} is being changed")

    def _one(self, key: str, request: Request) -> Decision:
        queue = self._queues.get(key)
        if queue is None:
            self._store.experiments.recent(key)  # there is such an experiment
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
        record = self._store.experiments.recent(key)
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
            self._admitted.admit(record, batch, chosen.eligible_sets)
        before = {} if dry_run else self._store.log.append_decisions(record, chosen, at=now)
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
