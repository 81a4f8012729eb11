"""Voids: what one actor did, taken out of learning and results, and put back.

A stolen key, or a sender whose program was wrong, has written rows that are well formed and not
true. Nothing of the log is changed: a void stands beside it and says whose rows, from when until
when, count for nothing. The sums are as if these rows had never been there, at once; the decisions
of others keep their propensities and receipts.
"""

from collections.abc import Iterator
from typing import get_args

from msgspec.structs import replace

from bandits.actors import Actor, ActorKind, split_actor
from bandits.engine.analysis.receipts import moment
from bandits.engine.fold import take_in
from bandits.errors import InvalidInput, WrongState
from bandits.schemas import VoidedArm, VoidedExperiment, VoidEntry, VoidReceipt
from bandits.store import Store
from bandits.store.values import DeedCounts, Deeds, VoidRecord


def void(  # noqa: PLR0913 - what becomes void, by whom and when
    store: Store, deeds: Deeds, experiment: str | None, *, now: float, by: str, dry_run: bool
) -> VoidReceipt:
    """Make what an actor did void, or only count it, as `Engine.void` declares."""
    if deeds.since >= deeds.until:
        raise InvalidInput.at("/until", "must be later than `since`")
    if deeds.until > now:
        raise InvalidInput.at("/until", "must not be in the future")
    deeds = replace(deeds, since=max(deeds.since, 0.0))  # there is nothing before 1970
    if experiment is not None:
        counts = store.voids.count(experiment, deeds, now=now)
        if _is_nothing(counts):
            raise InvalidInput.at(
                "/actor", f"did nothing in {experiment!r} then, or it is void already"
            )
        number = None if dry_run else _void_one(store, experiment, deeds, now, by)
        experiments = [_describe(store, experiment, counts, number)]
    else:
        experiments = list(_void_everywhere(store, deeds, now=now, by=by, dry_run=dry_run))
        if not experiments:
            raise InvalidInput.at("/actor", "did nothing then, or it is void already")
    since, until = moment(deeds.since), moment(deeds.until)
    return VoidReceipt(deeds.actor, since, until, dry_run, experiments)


def _void_everywhere(
    store: Store, deeds: Deeds, *, now: float, by: str, dry_run: bool
) -> Iterator[VoidedExperiment]:
    """Void in every experiment, each in a transaction of its own; those refused are passed over."""
    for record in store.experiments.records():
        if not record.started:
            continue
        try:
            counts = store.voids.count(record.key, deeds, now=now)
        except WrongState as error:
            if _acted(store, record.key, deeds):
                yield VoidedExperiment(record.key, refused=error.reason)
            continue
        if not _is_nothing(counts):
            number = None if dry_run else _void_one(store, record.key, deeds, now, by)
            yield _describe(store, record.key, counts, number)


def _void_one(store: Store, key: str, deeds: Deeds, now: float, by: str) -> int:
    """Void in one experiment, in as many transactions as its rows take; return its number."""
    number: int | None = None
    rest: Deeds | None = deeds
    while rest is not None:
        with store.voids.void(key, rest, call=number, now=now, by=by) as fold:
            take_in(fold, now)
        number = fold.number
        following = fold.following
        rest = None if following is None else Deeds(deeds.actor, following, deeds.until)
    assert number is not None  # noqa: S101 - the loop is run at least once
    return number


def restore(store: Store, number: int, *, now: float, by: str) -> VoidEntry:
    """Let what is void count again, as `Engine.restore` declares."""
    more = True
    while more:
        with store.voids.restore(number, now=now, by=by) as fold:
            take_in(fold, now)
        more = fold.following is not None
    return entry_of(store.voids.record(number))


def entry_of(record: VoidRecord) -> VoidEntry:
    """Describe a void."""
    return VoidEntry(
        record.id,
        record.experiment,
        record.deeds.actor,
        moment(record.deeds.since),
        moment(record.deeds.until),
        record.decisions,
        moment(record.at),
        record.by,
        None if record.restored_at is None else moment(record.restored_at),
        record.restored_by,
        record.given_on,
    )


def _acted(store: Store, key: str, deeds: Deeds) -> bool:
    """Return true where the actor wrote rows about then, as far as folds have seen."""
    return any(
        c.actor == deeds.actor and c.first_at < deeds.until and c.last_at >= deeds.since
        for c in store.voids.actors(key)
    )


def _is_nothing(counts: DeedCounts) -> bool:
    """Return true where an actor wrote nothing that is not void.

    Rows that count for nothing, as cancelled ones, are something: they hold ids and eligible sets.
    """
    return not counts.batches and not counts.sets


def _describe(store: Store, key: str, counts: DeedCounts, number: int | None) -> VoidedExperiment:
    configuration = store.experiments.record(key).configuration
    slots = [slot.key for slot in configuration.experiment.slots]
    arms = [
        VoidedArm(
            dict(zip(slots, arm.variants, strict=True)),
            int(counts.decisions[k]),
            int(counts.events[k]),
        )
        for k, arm in enumerate(configuration.arms)
    ]
    return VoidedExperiment(
        key,
        int(counts.decisions.sum()),
        int(counts.events.sum()),
        counts.activated,
        counts.cancelled,
        counts.cancelled_before,
        int(counts.decisions[-1]),
        arms,
        number,
        withdrawn=counts.withdrawn,
    )


def parse_actor(text: str) -> Actor:
    """Read an actor as people write it.

    Raises:
        InvalidInput: at ``/actor``: it is none.
    """
    actor, kinds = Actor(text), get_args(ActorKind)
    kind, name = split_actor(actor)
    if kind not in kinds or not name:
        raise InvalidInput.at("/actor", f"must be one of {', '.join(kinds)}, `:` and a name")
    return actor
