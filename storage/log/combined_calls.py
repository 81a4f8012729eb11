"""Combined calls: several calls in one transaction, where all of them are usual.

Each function raises where one of the calls would not be answered as new and whole; each is done
alone then, and finds out why.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

import numpy as np
from msgspec import Struct

from bandits.store.values import Events, ExperimentRecord, MarkResult, NewDecisions, StoredDecision
from storage.databases import SerializationConflict, Transaction
from storage.log.append_decisions import append_decisions
from storage.log.append_events import append_events

MOST_ROWS = 200  # a call of more is a group of its own

Marking = Callable[..., MarkResult]


class AppendDecisionsCall(Struct, frozen=True, eq=False):
    """A call's decisions."""

    record: ExperimentRecord
    chosen: NewDecisions
    hashes: Sequence[bytes]
    at: float

    @property
    def kind(self) -> tuple[object, ...]:
        """What they share with those of other calls that one batch can hold."""
        record, chosen = self.record, self.chosen
        width = chosen.contexts.shape[1]
        version = record.configuration.version
        return (
            "choose",
            record.id,
            record.state,
            version,
            chosen.policy_version,
            chosen.shipped,
            width,
        )


class AppendEventsCall(Struct, frozen=True, eq=False):
    """A call's events."""

    events: Events
    at: float


class MarkCall(Struct, frozen=True, eq=False):
    """The decisions that a call activates or cancels."""

    ids: Sequence[str]
    at: float


def append_decision_calls(
    transaction: Transaction, calls: Sequence[AppendDecisionsCall]
) -> list[Mapping[int, StoredDecision]]:
    """Append the decisions of several calls of one kind as one batch."""
    merged = _merged([c.chosen for c in calls])
    if len(set(merged.ids)) < len(merged.ids):
        raise SerializationConflict  # two ask for the same decision at once
    hashes = [h for c in calls for h in c.hashes]
    at = max(c.at for c in calls)
    earlier = append_decisions(transaction, calls[0].record, merged, hashes, at=at)
    found: list[Mapping[int, StoredDecision]] = []
    first = 0
    for call in calls:
        rows = range(first, first + len(call.chosen.ids))
        found.append({row - first: earlier[row] for row in rows if row in earlier})
        first = rows.stop
    return found


def _merged(parts: Sequence[NewDecisions]) -> NewDecisions:
    clipped, unknown, missing = (sum(n) for n in zip(*(p.mended for p in parts), strict=True))
    return NewDecisions(
        [i for p in parts for i in p.ids],
        [s for p in parts for s in p.subjects],
        [d for p in parts for d in p.digests],
        np.concatenate([p.arms for p in parts]),
        np.concatenate([p.propensities for p in parts]),
        np.concatenate([p.contexts for p in parts]),
        np.concatenate([p.holdout for p in parts]),
        np.concatenate([p.fallback for p in parts]),
        [r for p in parts for r in p.restrictions],
        parts[0].policy_version,
        (clipped, unknown, missing),
        shipped=parts[0].shipped,
    )


def append_event_calls(
    transaction: Transaction, calls: Sequence[AppendEventsCall]
) -> list[list[int]]:
    """Append the events of several calls."""
    columns = zip(*(c.events.columns for c in calls), strict=True)
    events = Events(*(list(chain.from_iterable(parts)) for parts in columns))
    repeated = append_events(transaction, events, at=max(c.at for c in calls))
    found: list[list[int]] = []
    first = 0
    for call in calls:
        rows = range(first, first + len(call.events))
        found.append([row - first for row in repeated if row in rows])
        first = rows.stop
    return found


def mark_calls(work: Marking) -> Callable[[Transaction, Sequence[MarkCall]], list[MarkResult]]:
    """Make a function that activates or cancels the decisions of several calls."""
    return partial(_mark, work)


def _mark(work: Marking, transaction: Transaction, calls: Sequence[MarkCall]) -> list[MarkResult]:
    ids = [i for c in calls for i in c.ids]
    if work(transaction, ids, at=max(c.at for c in calls)).accepted < len(ids):
        raise SerializationConflict  # whose were repeated or unknown is not known
    return [MarkResult(len(c.ids), 0, ()) for c in calls]
