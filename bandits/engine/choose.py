"""Choose: decide for requests, and record the decisions before anything is answered."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import repeat
from threading import Lock

from bandits.actors import Actor
from bandits.engine.active_policy import ActivePolicy, ActivePolicyCache
from bandits.engine.assignment import AssignmentBatch, assign_arms, request_digest, stand_in
from bandits.errors import Fault, InvalidInput, Unavailable, WrongState
from bandits.identifiers import pointer
from bandits.inference.recent_days import RECENT_DAYS
from bandits.results import EligibleSetCount
from bandits.schemas import (
    Decision,
    PartialDecisions,
    RefusalReason,
    RefusedRow,
    Request,
    SlotChoice,
)
from bandits.store import StaleRead, Store, UnfitRepeat
from bandits.store.values import ExperimentRecord, NewDecisions, StoredDecision
from bandits.versions import Configuration, encode_restriction
from bandits.waits import BatchingQueue, NotCombinable

MAX_BATCH = 10_000
MOST_SETS = 342  # of which one actor may introduce 256; or fewer,
_LEAST_SETS = 16
_MOST_NUMBERS = 2_400_000  # where there are many arms and segments: `eligible_set_limit`
_MOST_FAULTS = 100
_REUSED = "this id was used before with another body"
_TAKEN = "another key used this id before, with another body; use another id"
_CHANGES = 5  # of an experiment while it decides, before the sender is asked to come again


def eligible_set_limit(configuration: Configuration) -> int:
    """Return how many different restrictions an experiment takes.

    For each arm they take 10 numbers in each segment and on each recent day, of which one is closed
    in part, and 3 for each event by name, or 9 where its events have values.
    """
    rule = configuration.experiment.reward
    events = sum(3 if rule.event(name).is_binary else 9 for name in rule.event_names)
    numbers = 10 * (1 + RECENT_DAYS + 1 + configuration.segmentation.size) + events
    affordable = _MOST_NUMBERS // (numbers * len(configuration.arms))
    return max(_LEAST_SETS, min(MOST_SETS, affordable))


def eligible_set_counts(
    configuration: Configuration, counts: Mapping[Actor | None, int]
) -> list[EligibleSetCount]:
    """List who introduced how many of an experiment's restrictions, and what part of its limit."""
    most = eligible_set_limit(configuration)
    return [EligibleSetCount(actor, n, n / most) for actor, n in counts.items()]


class TooManySets(InvalidInput):
    """Requests have more different restrictions than their actor may introduce.

    Attributes:
        restrictions: those that are too many.
        detail: what would fit.
    """

    def __init__(self, rows: Sequence[int], restrictions: Collection[bytes], most: int) -> None:
        self.restrictions = restrictions
        self.detail = (
            "is one more set of variants than this key may introduce: three quarters of what other"
            f" keys left of the {most} that this experiment keeps results for; ask for one that"
            " came before, or leave it out"
        )
        places = [pointer("requests", row, "eligible") for row in rows[:_MOST_FAULTS]]
        super().__init__(Fault(place, self.detail) for place in places)


_AsOf = tuple[int, int] | None  # void decisions and version of an experiment


class EligibleSetRegistry:
    """Registry of the restrictions that experiments have admitted, by who asked for them."""

    def __init__(self, store: Store) -> None:
        """Begin with none; `store` has those that other processes admitted."""
        self._store = store
        # By experiment; where anything was ever void, as of a snapshot: a void takes some back.
        self._admitted: dict[int, tuple[_AsOf, dict[Actor, set[bytes]]]] = {}
        self._changing = Lock()

    def admit(
        self, record: ExperimentRecord, batch: AssignmentBatch, actor: Actor, at: float
    ) -> None:
        """Admit the restrictions of a batch, or none of them.

        Raises:
            TooManySets: at ``/requests/{row}/eligible``: they would be too many.
        """
        admitted = self._of(record).get(actor, set())
        restrictions = batch.restrictions
        new = [r for r in dict.fromkeys(restrictions) if r and r not in admitted]
        if not new:
            return
        most = eligible_set_limit(record.configuration)
        refused = set(self._store.log.admit(record, new, actor=actor, at=at, most=most))
        if refused:
            rows = [i for i, row in enumerate(batch.rows) if restrictions[row] in refused]
            raise TooManySets(rows, refused, most)
        with self._changing:
            sets = self._of(record)
            sets = sets | {actor: sets.get(actor, set()) | set(new)}
            self._admitted[record.id] = _as_of(record), sets

    def _of(self, record: ExperimentRecord) -> dict[Actor, set[bytes]]:
        as_of, admitted = self._admitted.get(record.id, (None, {}))
        return admitted if as_of == _as_of(record) else {}


def _as_of(record: ExperimentRecord) -> _AsOf:
    return None if record.voided is None else (record.voided, record.learned_version)


def new_decisions_response(
    active: ActivePolicy, decisions: NewDecisions, *, dry_run: bool
) -> list[Decision]:
    """Answer new decisions, row by row; those of a dry run have no id."""
    return list(
        map(
            Decision,
            repeat(None) if dry_run else decisions.ids,
            map(active.slots.__getitem__, decisions.arms.tolist()),
            decisions.propensities.tolist(),
            repeat(decisions.policy_version),
            decisions.holdout.tolist(),
            decisions.fallback.tolist(),
            repeat(False),  # noqa: FBT003 - no repeat of an earlier decision
            repeat(decisions.shipped),
        )
    )


def repeated_decisions_response(
    store: Store, earlier: Mapping[int, StoredDecision]
) -> Iterator[tuple[int, Decision]]:
    """Answer rows with their earlier decisions, and with the payloads that these had."""
    configuration = cache(store.experiments.configuration)

    @cache
    def slots(experiment: str, version: int, arm: int) -> dict[str, SlotChoice]:
        return configuration(experiment, version).slots_of(arm)

    for row, stored in earlier.items():
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


class _PartialCall:
    """A call whose rows are refused each by itself.

    Attributes:
        rows: positions of requests that are not refused so far.
    """

    def __init__(self, record: ExperimentRecord, requests: Sequence[Request], actor: Actor) -> None:
        """Refuse ids that come again with another body in this very call."""
        self.rows: list[int] = list(range(len(requests)))
        self._key, self._salt = record.key, record.salt
        self._requests = requests
        self._actor = actor
        self._refused: dict[int, RefusedRow] = {}
        first: dict[str, int] = {}
        for row, request in enumerate(requests):
            if request.decision_id is not None:
                earlier = first.setdefault(request.decision_id, row)
                if earlier != row and self._digest(row) != self._digest(earlier):
                    self._refuse(row, "id_reused", _REUSED)
        self._leave_out_refused()

    def refuse_sets(self, error: TooManySets) -> None:
        """Refuse rows with restrictions that are too many."""
        for row in self.rows:
            eligible = self._requests[row].eligible
            if eligible and encode_restriction(eligible) in error.restrictions:
                self._refuse(row, "eligible_sets", error.detail)
        self._leave_out_refused()

    def refuse_reused(
        self, places: Sequence[int], earlier: Mapping[int, StoredDecision]
    ) -> dict[int, StoredDecision]:
        """Refuse rows whose id came before with another body; return the other earlier decisions.

        Args:
            places: of each row, its position among the distinct decisions.
            earlier: by that position.
        """
        repeats = {}
        for row, place in zip(self.rows, places, strict=True):
            stored = earlier.get(place)
            if stored is None:
                continue
            if stored.id == self._requests[row].decision_id and (
                stored.experiment != self._key or stored.digest != self._digest(row)
            ):
                another = stored.actor not in (self._actor, None)
                self._refuse(row, "id_reused", _TAKEN if another else _REUSED)
            else:
                repeats[place] = stored
        return repeats

    def in_its_rows(self, error: InvalidInput) -> InvalidInput:
        """Return an error whose rows are positions among all requests of the call."""
        faults = []
        for fault in error.faults:
            _, place, row, *rest = fault.pointer.split("/", 3)
            pointer_of_row = "/".join(["", place, str(self.rows[int(row)]), *rest])
            faults.append(Fault(pointer_of_row, fault.detail))
        return InvalidInput(faults)

    def answer(self, rows: Sequence[int], decisions: Sequence[Decision]) -> PartialDecisions:
        """Answer with the decisions of these rows, but for those that are refused."""
        answers: list[Decision | None] = [None] * len(self._requests)
        for row, decision in zip(rows, decisions, strict=True):
            if row not in self._refused:
                answers[row] = decision
        return PartialDecisions(answers, [self._refused[row] for row in sorted(self._refused)])

    def _digest(self, row: int) -> bytes:
        return request_digest(self._salt, self._requests[row])

    def _refuse(self, row: int, reason: RefusalReason, detail: str) -> None:
        self._refused[row] = RefusedRow(row, self._requests[row].decision_id, reason, detail)

    def _leave_out_refused(self) -> None:
        self.rows = [row for row in self.rows if row not in self._refused]


# A decision, and the one that was made before it and holds instead.
_Outcome = tuple[Decision, StoredDecision | None]


class ChooseHandler:
    """Handler of requests to choose, for every experiment."""

    def __init__(
        self, store: Store, policies: ActivePolicyCache, clock: Callable[[], float]
    ) -> None:
        """Record in `store` what `policies` decide; `clock` gives seconds since 1970."""
        self._store = store
        self._policies = policies
        self._clock = clock
        self._eligible_sets = EligibleSetRegistry(store)
        # By experiment and actor: a group is written as a batch, which is of one actor.
        self._queues: dict[tuple[str, Actor], BatchingQueue[Request, _Outcome]] = {}

    def choose(
        self, key: str, requests: Sequence[Request], *, actor: Actor, dry_run: bool
    ) -> list[Decision]:
        """Decide for each request, as `Engine.choose` declares."""
        if len(requests) > MAX_BATCH:
            raise InvalidInput.at("/requests", f"must be at most {MAX_BATCH:,}")
        if len(requests) == 1 and not dry_run:  # of which there may be thousands a second
            queue = self._queues.get((key, actor))
            if queue is None:
                queue = self._add_queue(key, actor)
            try:
                decision, earlier = queue.do(requests[0])
            except (StaleRead, WrongState):
                pass
            else:
                return [decision] if earlier is None else self._repeat([decision], {0: earlier})
        for _ in range(_CHANGES):
            try:
                return self._choose_batch(key, requests, actor=actor, dry_run=dry_run)
            except StaleRead:
                continue
        raise Unavailable(f"experiment {key} is being changed")

    def _add_queue(self, key: str, actor: Actor) -> BatchingQueue[Request, _Outcome]:
        """Make the queue of an experiment and an actor.

        Raises:
            NotFound: there is none of this key.
        """
        self._store.experiments.recent(key)
        queue = BatchingQueue(
            partial(self._choose_one, key, actor), partial(self._choose_group, key, actor)
        )
        return self._queues.setdefault((key, actor), queue)

    def _choose_one(self, key: str, actor: Actor, request: Request) -> _Outcome:
        """Decide for the request of one caller."""
        record = self._store.experiments.recent(key)
        _, decisions, earlier = self._decide(record, [request], actor=actor, grouped=True)
        return decisions[0], earlier.get(0)

    def _choose_group(self, key: str, actor: Actor, requests: Sequence[Request]) -> list[_Outcome]:
        """Decide for one request of each of several callers.

        Raises:
            NotCombinable: one of them may stand out; nothing was recorded.
        """
        record = self._store.experiments.recent(key)
        _, decisions, earlier = self._decide(record, requests, actor=actor, grouped=True)
        return [(decision, earlier.get(row)) for row, decision in enumerate(decisions)]

    def _choose_batch(
        self, key: str, requests: Sequence[Request], *, actor: Actor, dry_run: bool
    ) -> list[Decision]:
        """Decide under the newest record, which must still hold when decisions are appended."""
        record = self._store.experiments.record(key)
        if not requests:
            _shipped_arm(record)
            return []
        rows, decisions, earlier = self._decide(record, requests, actor=actor, dry_run=dry_run)
        if earlier:
            decisions = self._repeat(decisions, earlier)
        return [decisions[row] for row in rows]

    def choose_partial(
        self, key: str, requests: Sequence[Request], *, actor: Actor
    ) -> PartialDecisions:
        """Decide for each request that is not refused, as `Engine.choose_partial` declares."""
        if len(requests) > MAX_BATCH:
            raise InvalidInput.at("/requests", f"must be at most {MAX_BATCH:,}")
        call = _PartialCall(self._store.experiments.record(key), requests, actor)
        for _ in range(_CHANGES):
            record = self._store.experiments.record(key)
            if not call.rows:
                _shipped_arm(record)
                return call.answer([], [])
            try:
                places, decisions, earlier = self._decide(
                    record, [requests[row] for row in call.rows], actor=actor, partial=True
                )
            except StaleRead:
                continue
            except TooManySets as error:
                call.refuse_sets(error)
                continue
            except InvalidInput as error:
                raise call.in_its_rows(error) from None
            rows = call.rows
            repeats = call.refuse_reused(places, earlier)
            decisions = self._repeat(decisions, repeats)
            return call.answer(rows, [decisions[place] for place in places])
        raise Unavailable(f"experiment {key} is being changed")

    def _repeat(
        self, decisions: list[Decision], earlier: Mapping[int, StoredDecision]
    ) -> list[Decision]:
        """Put earlier decisions in their rows."""
        for row, decision in repeated_decisions_response(self._store, earlier):
            decisions[row] = decision
        return decisions

    def _decide(  # noqa: PLR0913 - for whom and how, by keyword
        self,
        record: ExperimentRecord,
        requests: Sequence[Request],
        *,
        actor: Actor,
        dry_run: bool = False,
        grouped: bool = False,
        partial: bool = False,
    ) -> tuple[Sequence[int], list[Decision], Mapping[int, StoredDecision]]:
        """Decide and append, unless it is a dry run.

        Args:
            record: the experiment, as it must still be when decisions are appended.
            requests: of one caller, or one each of several.
            actor: who asks: all of these callers.
            dry_run: append nothing.
            grouped: a leader decides for all callers that wait.
            partial: among the earlier ones are those with the same id and another body.

        Returns:
            For each request the row of its decision, the decisions, and the earlier ones by row.

        Raises:
            NotCombinable: several are `grouped`, and an id comes twice or the policy failed: a
                failure for one of several requests is a failure for all of them.
        """
        shipped = _shipped_arm(record)
        now = self._clock()
        active = self._policies.newest(record)
        batch = AssignmentBatch(record.salt, requests, now)
        if record.opt_outs:
            batch.leave_out(self._store.subjects.opted_out(record, batch.subjects))
        combined = grouped and len(requests) > 1
        if combined and len(batch.ids) < len(requests):
            raise NotCombinable
        decisions = assign_arms(active, batch, shipped, keeps_control=record.keeps_control)
        if combined and shipped is None and (decisions.fallback & ~decisions.holdout).any():
            raise NotCombinable
        if not dry_run and shipped is None and any(batch.restrictions):
            self._eligible_sets.admit(record, batch, actor, now)
        append = self._store.log.append_decisions
        while True:
            responses = new_decisions_response(active, decisions, dry_run=dry_run)
            if dry_run:
                return batch.rows, responses, {}
            try:
                earlier = append(
                    record, decisions, actor=actor, at=now, grouped=grouped, partial=partial
                )
            except UnfitRepeat as error:  # at most once for each row
                decisions = stand_in(active, decisions, error.rows)
            else:
                return batch.rows, responses, earlier


def _shipped_arm(record: ExperimentRecord) -> int | None:
    """Return the arm that a stopped experiment goes on sending, None where it chooses.

    Raises:
        WrongState: it does neither.
    """
    shipped = record.shipped if record.state == "stopped" else None
    if record.state != "running" and shipped is None:
        raise WrongState(record.key, record.state, "only a running one chooses")
    return shipped
