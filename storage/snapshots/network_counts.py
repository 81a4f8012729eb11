"""Network counts: how many emails were clicked from each network, minute by minute, frozen.

A row of a network and minute is written once, some time after the first event of it was received:
senders report late. What comes later still is in no row, so that a verdict that rests on a row
stays as it is. Events wait for the rows of their networks before a fold counts them: their batch
has a time from which its rows may be written, and none once they are.

Rows are of all experiments together, and of no subject. A minute without clicks, from which images
were fetched, has a row of zeros: it is settled too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Select, and_, delete, func, select, update

from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.machines import (
    NEWEST_RULES,
    RULES,
    EventSign,
    FrozenRows,
    NetworkCounts,
    TrackedEvents,
    find_swept,
)
from bandits.machines.networks import UNKNOWN_NETWORK, WEEK_SECONDS
from bandits.machines.rules import is_countable
from storage.databases import Transaction
from storage.schema import (
    CHOSEN,
    CLICKED,
    UNFROZEN,
    batch_of,
    batches,
    decisions,
    events,
    experiments,
    network_counts,
)
from storage.snapshots import backlog

FREEZE_SECONDS = RULES[NEWEST_RULES].freeze_seconds
DELIVERED = "delivered"  # the listed event
_AT_ONCE = 5_000  # values in one statement
_MOST_EVENTS = 50_000  # whose networks one fold counts
_REMOVED_AT_ONCE = 10_000
_MINUTE = 60.0
_LOCK = "network counts"

_made_in = batches.alias("made_in")
_reported_in = batches.alias("reported_in")

_DUE = (
    select(batches.c.id, batches.c.size, batches.c.freezes_at)
    .where(UNFROZEN)
    .order_by(batches.c.freezes_at, batches.c.id)
)
_EVENTS = (
    select(
        events.c.decision,
        events.c.batch_id,
        events.c.kind,
        func.coalesce(events.c.happened_at, events.c.occurred_at),
        _reported_in.c.created_at,
        events.c.link,
        events.c.network,
        events.c.agent,
        events.c.signs,
        _made_in.c.created_at,
        decisions.c.subject,
    )
    .join(_reported_in, _reported_in.c.id == events.c.batch_id)
    .join(decisions, decisions.c.serial == events.c.decision)
    .join(_made_in, _made_in.c.id == batch_of)
    .where(events.c.kind.is_not(None))
)
_DELIVERIES = (
    select(events.c.decision, func.min(events.c.occurred_at))
    .where(events.c.metric == DELIVERED)
    .group_by(events.c.decision)
)
_ROWS = select(
    network_counts.c.network,
    network_counts.c.minute,
    network_counts.c.emails,
    network_counts.c.week_emails,
    network_counts.c.week_swept,
)
_EARLIER = select(
    network_counts.c.network,
    network_counts.c.minute,
    network_counts.c.emails,
    network_counts.c.swept,
    network_counts.c.frozen_at,
).where(CLICKED)
_COLUMNS = (*("network", "minute", "emails", "swept", "week_emails", "week_swept", "frozen_at"),)
_FROZEN = update(batches).values(freezes_at=None)


_Column = Sequence[float] | AnyArray


class TraceColumns(NamedTuple):
    """Columns of n stored events with a trace, as they are read."""

    kinds: _Column
    times: _Column
    received: _Column
    links: _Column
    networks: _Column
    agents: _Column
    signs: _Column


def tracked_events(
    columns: TraceColumns, emails: IntArray, delivered_at: FloatArray
) -> TrackedEvents:
    """Make tracked events of stored columns.

    Args:
        columns: n events.
        emails: (n,) int, the number of each one's email.
        delivered_at: (n,) when that was delivered, seconds since 1970.
    """
    kinds, links, networks, agents, signs = (
        np.array(column, dtype=np.int64) for column in (columns.kinds, *columns[3:])
    )
    times = np.array(columns.times, dtype=np.float64)
    return TrackedEvents(
        emails,
        kinds,
        times,
        np.array(columns.received, dtype=np.float64),
        times - delivered_at,
        links,
        networks,
        agents,
        *((signs & sign) != 0 for sign in EventSign),
    )


def freeze_networks(transaction: Transaction, *, now: float) -> bool:
    """Write the rows of networks and minutes whose time has come; return true where more are left.

    Args:
        transaction: one that writes.
        now: seconds since 1970.
    """
    first = transaction.execute(
        _DUE.where(batches.c.freezes_at <= now).limit(backlog.MOST_BATCHES)
    ).all()
    if not first:
        return False
    transaction.lock(_LOCK)  # another learner may just have written them
    due = transaction.execute(
        _DUE.where(batches.c.freezes_at <= now).limit(backlog.MOST_BATCHES)
    ).all()
    if not due:
        return False
    sizes = np.cumsum([batch.size for batch in due])
    taken = max(1, int(np.searchsorted(sizes, _MOST_EVENTS, side="right")))
    more = taken < len(due) or len(due) == backlog.MOST_BATCHES
    due = due[:taken]
    # What was received before the last of these rows is frozen is in them.
    until = due[-1].freezes_at + FREEZE_SECONDS
    near = transaction.execute(
        _DUE.where(batches.c.freezes_at > due[-1].freezes_at, batches.c.freezes_at <= until)
    ).all()
    numbers = [batch.id for batch in due]
    log = _UnfrozenEvents(transaction, [*numbers, *(batch.id for batch in near)])
    rows = log.rows_of(set(numbers))
    if rows:
        transaction.insert(network_counts, _COLUMNS, rows)
    for start in range(0, len(numbers), _AT_ONCE):
        transaction.execute_any(_FROZEN, batches.c.id, numbers[start : start + _AT_ONCE])
    return more


class _UnfrozenEvents:
    """Events of known networks in batches whose rows are not all written yet."""

    def __init__(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        self._transaction = transaction
        parts: list[Any] = []
        for start in range(0, len(numbers), _AT_ONCE):
            statement = transaction.where_any(_EVENTS, events.c.batch_id)
            packed = {"values": transaction.pack(numbers[start : start + _AT_ONCE])}
            parts += transaction.fetch_plain(statement, packed)
        columns = list(zip(*parts, strict=True)) if parts else [()] * 11
        serials, batch_ids, kinds, *request, made_at, subjects = columns
        emails, delivered_at = self._emails(subjects, made_at), self._delivered_at(serials, made_at)
        tracked = tracked_events(TraceColumns(kinds, *request), emails, delivered_at)
        in_network = tracked.networks != UNKNOWN_NETWORK
        self._events = tracked.take(in_network)
        self._batches = np.array(batch_ids, dtype=np.int64)[in_network]

    @staticmethod
    def _emails(subjects: Sequence[bytes], made_at: Sequence[float]) -> IntArray:
        """Number emails: decisions of a subject in one minute are one."""
        numbers: dict[tuple[bytes, int], int] = {}
        keys = ((bytes(s), int(t // _MINUTE)) for s, t in zip(subjects, made_at, strict=True))
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

    def _delivered_at(self, serials: Sequence[int], made_at: Sequence[float]) -> FloatArray:
        """Return when each event's email was delivered, else when it was decided."""
        distinct = sorted(set(serials))
        delivered: dict[int, float] = {}
        for start in range(0, len(distinct), _AT_ONCE):
            portion = distinct[start : start + _AT_ONCE]
            rows = self._transaction.execute_any(_DELIVERIES, events.c.decision, portion)
            delivered.update({row[0]: row[1] for row in rows})
        pairs = zip(serials, made_at, strict=True)
        return np.array([delivered.get(serial, at) for serial, at in pairs], dtype=np.float64)

    def rows_of(self, due: set[int]) -> list[tuple[Any, ...]]:
        """Make the rows of all networks and minutes of due batches that are not there yet."""
        tracked = self._events
        if not len(tracked):
            return []
        keys = np.stack([tracked.networks, tracked.minutes], axis=1)
        distinct, places = np.unique(keys, axis=0, return_inverse=True)
        places = places.reshape(-1)
        is_due = np.zeros(len(distinct), dtype=np.bool_)
        is_due[places[np.isin(self._batches, list(due))]] = True
        written = read_network_counts(self._transaction, distinct[:, 0], distinct[:, 1])
        is_due &= ~_contains(written, distinct)
        if not is_due.any():
            return []
        first = np.full(len(distinct), np.inf)
        np.minimum.at(first, places, tracked.received)
        frozen_at = first + FREEZE_SECONDS
        counted = is_countable(tracked) & is_due[places]
        counted &= tracked.received <= frozen_at[places]
        rows = self._count(counted, frozen_at[places])
        unclicked = is_due & ~_contains(rows, distinct)
        empty, zeros = distinct[unclicked], np.zeros(int(unclicked.sum()), dtype=np.int64)
        counts = NetworkCounts.from_rows(rows, self._earlier(rows))
        columns = (
            (rows.networks, empty[:, 0]),
            (rows.minutes, empty[:, 1]),
            (rows.emails, zeros),
            (rows.swept, zeros),
            (counts.week_emails, zeros),
            (counts.week_swept, zeros),
            (rows.frozen_at, frozen_at[unclicked]),
        )
        every = [np.concatenate(pair).tolist() for pair in columns]
        return sorted(zip(*every, strict=True))

    def _count(self, counted: BoolArray, frozen_at: FloatArray) -> FrozenRows:
        clicks = self._events.take(counted)
        swept = find_swept(self._events)[counted]
        return FrozenRows.from_clicks(
            clicks.networks, clicks.minutes, clicks.emails, swept, frozen_at[counted]
        )

    def _earlier(self, rows: FrozenRows) -> FrozenRows:
        """Read the rows of the same networks from the week before."""
        distinct = np.unique(rows.networks).tolist()
        since = float(rows.frozen_at.min()) - WEEK_SECONDS if len(rows) else 0.0
        stored: list[Any] = []
        query = _EARLIER.where(network_counts.c.frozen_at > since)
        for start in range(0, len(distinct), _AT_ONCE):
            portion = distinct[start : start + _AT_ONCE]
            condition = self._transaction.is_any(network_counts.c.network, portion)
            stored += self._transaction.fetch_plain(query.where(condition))
        columns = zip(*stored, strict=True) if stored else [()] * 5
        *counts, frozen_at = columns
        whole = np.array(counts, dtype=np.int64)
        times = np.array(frozen_at, dtype=np.float64)
        return FrozenRows(whole[0], whole[1], whole[2], whole[3], times)


def _contains(rows: FrozenRows | NetworkCounts, keys: IntArray) -> BoolArray:
    """Mark the keys (n, 2), network and minute, that have a row, (n,) bool."""
    written = set(zip(rows.networks.tolist(), rows.minutes.tolist(), strict=True))
    return np.array([tuple(key) in written for key in keys.tolist()], dtype=np.bool_)


def read_network_counts(
    transaction: Transaction, networks: IntArray, minutes: IntArray
) -> NetworkCounts:
    """Read the counts of networks and minutes, (n,) each; those that have no row are left out."""
    distinct = np.unique(networks[networks != UNKNOWN_NETWORK]).tolist()
    stored: list[Any] = []
    if distinct:
        period = network_counts.c.minute.between(int(minutes.min()), int(minutes.max()))
        query: Select[Any] = _ROWS.where(period)
        for start in range(0, len(distinct), _AT_ONCE):
            condition = transaction.is_any(
                network_counts.c.network, distinct[start : start + _AT_ONCE]
            )
            stored += transaction.fetch_plain(query.where(condition))
    columns = np.array(stored, dtype=np.int64).reshape(-1, len(NetworkCounts.__struct_fields__)).T
    order = np.lexsort((columns[1], columns[0]))
    return NetworkCounts(*columns[:, order])


def remove_old_networks(transaction: Transaction, *, now: float) -> int:
    """Remove rows that no event in the log can be judged by any more; return how many.

    A row is judged by as long as a decision is in the log that is no younger: an event does not
    happen before its decision was made. The sums of a week take rows of the last week.

    Args:
        transaction: one that writes.
        now: seconds since 1970.
    """
    oldest = (
        select(batches.c.created_at)
        .where(batches.c.experiment_id == experiments.c.id, CHOSEN)
        .order_by(batches.c.created_at)
        .limit(1)
        .correlate(experiments)
        .scalar_subquery()
    )
    first = transaction.execute(select(func.min(oldest)).select_from(experiments)).scalar_one()
    before = now - WEEK_SECONDS if first is None else min(first, now - WEEK_SECONDS)
    minute = int((before - WEEK_SECONDS) // _MINUTE)
    old = (
        select(network_counts.c.network, network_counts.c.minute)
        .where(network_counts.c.minute < minute, network_counts.c.frozen_at < now - WEEK_SECONDS)
        .order_by(network_counts.c.minute)
        .limit(_REMOVED_AT_ONCE)
    )
    rows = transaction.execute(old).all()
    if not rows:
        return 0
    last = rows[-1].minute
    condition = and_(
        network_counts.c.minute <= last, network_counts.c.frozen_at < now - WEEK_SECONDS
    )
    removed = delete(network_counts).where(condition).returning(network_counts.c.minute)
    return len(transaction.execute(removed).all())
