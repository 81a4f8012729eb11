"""Attribution: the decisions that an event is credited to which names its subject and its time.

An order is often known by its customer alone. It is credited to the newest decision of theirs that
was made at or before it and whose reward window was open, see docs/adr/0058-matching.md. Where an
event went is noted before it is recorded, by its source and id: sent again it goes there again,
whatever was decided since. Only where that decision is void or cancelled by now, so that the event
counts for nothing, is it credited anew.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import Fault, IdReused, InvalidInput
from bandits.identifiers import pointer
from bandits.rewards import refuse_value
from bandits.schemas import Reward
from bandits.store import Store
from bandits.store.values import Attribution, Candidate, Credit, ExperimentRecord

SKEW_SECONDS = 300.0  # that a sender's clock may run behind or ahead of ours

_Rank = tuple[bool, float, int]

_NEEDS_TIME = "is required with subject_id: it tells which email the event is of"
_NOT_BOTH = "must not be given beside decision_id"
_NEEDS_SUBJECT = "needs subject_id"
_NEEDS_EITHER = "is required, or subject_id and occurred_at in its place"
_NOT_FOUND_SO = "is not found by subject; its declaration has no attribution"
_NONE_FOUND_SO = "no experiment is found by subject; declare attribution in one"


class AttributedRewards(Struct, frozen=True, eq=False):
    """Rewards by decision, made of rewards of which some were by subject.

    Attributes:
        rewards: by decision; one by subject may have become several, or none.
        rows: the row that each of them was, ascending.
        unattributed: rows by subject that belong to no decision.
    """

    rewards: Sequence[Reward]
    rows: Sequence[int]
    unattributed: Sequence[int] = ()

    def places(self, first: int, end: int) -> tuple[int, int]:
        """Return the bounds in `rewards` of the rows from `first` to before `end`."""
        return bisect_left(self.rows, first), bisect_left(self.rows, end)

    def at_rows(self, error: InvalidInput) -> InvalidInput:
        """Name the row of a fault, where it names the place in `rewards`, each fault once."""
        faults: dict[str, Fault] = {}
        for fault in error.faults:
            _, top, place, *rest = fault.pointer.split("/")
            moved = "/".join(["", top, str(self.rows[int(place)]), *rest])
            faults.setdefault(moved, Fault(moved, fault.detail))
        return InvalidInput(faults.values())


def attribute(  # noqa: PLR0913 - rewards, of whom, when, and how it is done
    store: Store,
    rewards: Sequence[Reward],
    *,
    source: str,
    now: float,
    most_faults: int,
    note: bool = True,
) -> AttributedRewards:
    """Find the decisions of rewards that name their subject, and note where they went.

    Args:
        store: of the log.
        rewards: by decision or by subject.
        source: who reports them: event ids are unique within it.
        now: seconds since 1970.
        most_faults: how many faults are named.
        note: keep where they went.

    Raises:
        InvalidInput: at ``/rewards/{row}/...``: a reward by subject has no time, or asks for an
            experiment that is not found so; or an event that no experiment takes.
        IdReused: event ids came before with another subject, in the rows that it names.
        StaleRead: a decision was erased meanwhile.
    """
    if _all_by_decision(rewards):
        return AttributedRewards(rewards, range(len(rewards)))
    by_subject = [row for row, reward in enumerate(rewards) if reward.subject_id is not None]
    faults = _faults_without_subject(rewards)
    records = {record.key: record for record in store.experiments.found_by_subject()}
    for row in by_subject:
        faults += _faults(rewards[row], row, records)
    if faults:
        raise InvalidInput(faults[:most_faults])
    events = _SubjectEvents(store, records, source, now)
    try:
        credited = events.credit([rewards[row] for row in by_subject], note=note)
    except IdReused as error:
        rows_reused = [by_subject[place] for place in error.rows]
        raise IdReused(error.kind, error.key, rows_reused) from None
    by_row = dict(zip(by_subject, credited, strict=True))
    copies: list[Reward] = []
    rows: list[int] = []
    for row, reward in enumerate(rewards):
        if row not in by_row:
            copies.append(reward)
            rows.append(row)
            continue
        for _, decision_id in by_row[row]:
            copies.append(_of_decision(reward, decision_id))
            rows.append(row)
    return AttributedRewards(copies, rows, [row for row, c in by_row.items() if not c])


def match_subjects(
    store: Store, key: str, subjects: Sequence[str], times: Sequence[float | None], now: float
) -> list[str | None]:
    """Find the decision of an experiment that each event of a subject is of, None without any.

    Args:
        store: of the log.
        key: the experiment; where it is not found by subject, its log is read.
        subjects: n.
        times: n, seconds since 1970; None for an event whose time is not known, which is of the
            newest decision.
        now: seconds since 1970.

    Raises:
        NotFound: there is no experiment of this key.
    """
    record = store.experiments.record(key)
    window = record.configuration.experiment.reward.window_seconds
    names = list(dict.fromkeys(subjects))
    candidates = dict(zip(names, store.log.candidates([record], names), strict=True))
    matches: list[str | None] = []
    for subject, at in zip(subjects, times, strict=True):
        of_subject = candidates[subject]
        if at is None:
            best = max(of_subject, key=lambda c: (c.started_at, c.number), default=None)
        else:
            best = _newest(of_subject, min(at, now), {key: window})
        matches.append(None if best is None else best.decision_id)
    return matches


class _SubjectEvents:
    """Events of one source that name their subjects, and the experiments that they may be of."""

    def __init__(
        self, store: Store, records: Mapping[str, ExperimentRecord], source: str, now: float
    ) -> None:
        self._store = store
        self._source = source
        self._now = now
        self._open = {key: r for key, r in records.items() if not _is_final(r, now)}
        rules = {key: r.configuration.experiment.reward for key, r in self._open.items()}
        self._rules = rules
        self._windows = {key: rule.window_seconds for key, rule in rules.items()}

    def credit(self, events: Sequence[Reward], *, note: bool) -> list[Sequence[Credit]]:
        """Return the decisions that each event is credited to, by number and id, and `note` them.

        Raises:
            IdReused: an event id came before with another subject, in the places that it names.
            StaleRead: a decision was erased meanwhile.
        """
        names = list(dict.fromkeys(str(e.subject_id) for e in events))
        keys = dict(zip(names, self._store.log.match_keys(names), strict=True))
        ids = {e.event_id for e in events}
        ids |= {e.original_event_id for e in events if e.original_event_id is not None}
        went = self._store.log.attributions(self._source, list(ids))
        _refuse_other_subjects(events, keys, went)
        new = [e for e in events if e.event_id not in went or went[e.event_id].lapsed]
        credited = self._credit_new(new, keys, went)
        if credited:
            numbers = {i: [number for number, _ in a.credits] for i, a in credited.items()}
            went |= credited
            if note:
                went |= self._store.log.attribute(self._source, numbers)
        _refuse_other_subjects(events, keys, went)
        return [went[e.event_id].credits if e.event_id in went else () for e in events]

    def _credit_new(
        self, events: Sequence[Reward], keys: Mapping[str, bytes], went: Mapping[str, Attribution]
    ) -> dict[str, Attribution]:
        """Return where events go that came never before, the first of each id, if anywhere.

        So do those that came, and were credited to what is void or cancelled by now. Where others
        of their decisions still count, these stay.
        """
        if not events:
            return {}
        names = list(keys)
        candidates_of_names = self._store.log.candidates(list(self._open.values()), names)
        candidates = dict(zip(names, candidates_of_names, strict=True))
        credited: dict[str, Attribution] = {}
        # An order may come in one call with its refund, in any order.
        for event in sorted(events, key=lambda e: e.original_event_id is not None):
            if event.event_id in credited:
                continue
            subject = str(event.subject_id)
            original = event.original_event_id or ""
            order = credited.get(original) or went.get(original)
            kept = went[event.event_id].credits if event.event_id in went else ()
            if order is None or not order.credits:
                goes_to = [*kept, *self._best_beside(event, candidates[subject], kept)]
            else:
                goes_to = list(order.credits)
            if goes_to:
                credited[event.event_id] = Attribution(keys[subject], goes_to)
        return credited

    def _best_beside(
        self, event: Reward, candidates: Sequence[Candidate], kept: Sequence[Credit]
    ) -> list[Credit]:
        """Return the best decisions but those of experiments in which one is kept."""
        numbers = {number for number, _ in kept}
        experiments = {c.experiment for c in candidates if c.number in numbers}
        best = self._best(event, candidates)
        return [(c.number, c.decision_id) for c in best if c.experiment not in experiments]

    def _best(self, event: Reward, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the decisions that an event is credited to by its subject and time."""
        assert event.occurred_at is not None  # noqa: S101 - `_faults` refuses it
        at = min(event.occurred_at.timestamp(), self._now)
        takers = self._takers(event)
        newest = {}
        for key in sorted(takers):
            of_experiment = [c for c in candidates if c.experiment == key]
            if (one := _newest(of_experiment, at, self._windows)) is not None:
                newest[key] = one
        last = _newest(newest.values(), at, self._windows)
        return [c for key, c in newest.items() if c is last or self._takes_all(key)]

    def _takers(self, event: Reward) -> Iterable[str]:
        """Return the experiments that an event may be of, by its name or by the one it names."""
        if event.experiment is not None:
            rule = self._rules.get(event.experiment)
            takes = rule is not None and event.metric in rule.event_names
            return [event.experiment] if takes else []
        declaring = [key for key, rule in self._rules.items() if event.metric in rule.metrics]
        return declaring or self._rules  # else it is a listed event, which every one takes

    def _takes_all(self, key: str) -> bool:
        return self._open[key].configuration.experiment.attribution == "all"


def _refuse_other_subjects(
    events: Sequence[Reward], keys: Mapping[str, bytes], went: Mapping[str, Attribution]
) -> None:
    """Refuse events whose id came before with another subject.

    Raises:
        IdReused: in the places that it names.
    """
    places = [
        place
        for place, e in enumerate(events)
        if e.event_id in went
        and e.original_event_id is None  # else it may be of a customer who has another id now
        and went[e.event_id].match_key != keys[str(e.subject_id)]
    ]
    if places:
        raise IdReused("event", events[places[0]].event_id, places)


def _newest(
    candidates: Iterable[Candidate], at: float, windows: Mapping[str, float]
) -> Candidate | None:
    """Return the newest decision at or before a time whose window was open, None without any.

    Where none was made before, the first within the tolerance of a clock after it.
    """

    def rank(candidate: Candidate) -> _Rank:
        before = candidate.started_at <= at
        sign = 1 if before else -1
        return before, sign * candidate.started_at, sign * candidate.number

    open_then = [
        c
        for c in candidates
        if c.started_at - SKEW_SECONDS <= at <= c.started_at + windows[c.experiment]
    ]
    return max(open_then, key=rank, default=None)


def _is_final(record: ExperimentRecord, now: float) -> bool:
    return record.closes_at is not None and now > record.closes_at


def _of_decision(reward: Reward, decision_id: str) -> Reward:
    return replace(
        reward, decision_id=decision_id, subject_id=None, experiment=None, original_event_id=None
    )


def _all_by_decision(rewards: Sequence[Reward]) -> bool:
    """Return True for rewards as nearly all are: column by column, since they may be thousands."""
    n = len(rewards)
    return (
        "" not in [r.decision_id for r in rewards]
        and [r.subject_id for r in rewards].count(None) == n
        and [r.experiment for r in rewards].count(None) == n
        and [r.original_event_id for r in rewards].count(None) == n
    )


def _faults_without_subject(rewards: Sequence[Reward]) -> list[Fault]:
    """List the faults of rewards by decision: without one, or with what is for subjects alone."""
    faults = []
    for row, reward in enumerate(rewards):
        if reward.subject_id is not None:
            continue
        if not reward.decision_id:
            faults.append(Fault(pointer("rewards", row, "decision_id"), _NEEDS_EITHER))
        places = {"experiment": reward.experiment, "original_event_id": reward.original_event_id}
        names = [name for name, content in places.items() if content is not None]
        faults += [Fault(pointer("rewards", row, name), _NEEDS_SUBJECT) for name in names]
    return faults


def _faults(reward: Reward, row: int, records: Mapping[str, ExperimentRecord]) -> list[Fault]:
    """List the faults of a reward by subject, whatever decisions its subject has."""
    faults = []
    if reward.decision_id:
        faults.append(Fault(pointer("rewards", row, "subject_id"), _NOT_BOTH))
    if reward.occurred_at is None:
        faults.append(Fault(pointer("rewards", row, "occurred_at"), _NEEDS_TIME))
    if not records:
        faults.append(Fault(pointer("rewards", row, "subject_id"), _NONE_FOUND_SO))
    elif reward.experiment is not None and reward.experiment not in records:
        faults.append(Fault(pointer("rewards", row, "experiment"), _NOT_FOUND_SO))
    else:
        keys = records if reward.experiment is None else [reward.experiment]
        rules = [records[key].configuration.experiment.reward for key in keys]
        if not any(reward.metric in rule.event_names for rule in rules):
            detail = refuse_value(rules[0], reward.metric, reward.value) or ""
            faults.append(Fault(pointer("rewards", row, "metric"), detail))
    return faults
