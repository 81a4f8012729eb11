"""Index of decisions by subject: sorted runs of pages, made beside choosing rather than in it.

Subjects are hashes in no order: an index over them makes every row of a batch dirty a page of its
own, and choosing four times as slow. So a batch is only marked as pending. The match worker takes
pending batches together, sorts their subjects and writes them as a run of pages, each of an equal
part of all hashes; eight runs of about one size become one. A subject is looked for in one page of
each run, and in the rows of the batches that are pending still.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from sqlalchemy import bindparam, delete, func, insert, select, update

from bandits.array_types import AnyArray, IntArray
from storage.databases import Transaction
from storage.schema import (
    INDEX_PENDING,
    PLACES,
    batch_of,
    batches,
    decisions,
    of_batch,
    subject_pages,
    subject_runs,
)

MATCH_KEY = func.coalesce(decisions.c.match_key, decisions.c.subject)

_PAGES = 1 << 16  # that a run may have
_PAGE_ENTRIES = 180  # on average at most: then a page of ours fits one of SQLite's
_MERGED_RUNS = 8  # runs of about one size become one,
_LARGEST_MERGED = 1 << 17  # unless they have so many entries: a merge holds up other writers
_ROWS_AT_ONCE = 200_000
_BATCHES_AT_ONCE = 5_000
_PAGES_AT_ONCE = 2_000
_SUBJECTS_AT_ONCE = 10_000
_KEY_BYTES = 8
_KEY_BITS = 64
_ENTRY = np.dtype([("key", ">u8"), ("serial", ">u8")])

_PENDING = (
    select(batches.c.id, batches.c.size)
    .where(batches.c.experiment_id == bindparam("of_experiment"), INDEX_PENDING)
    .order_by(batches.c.id)
    .limit(_BATCHES_AT_ONCE)
    # A fold that marks one of them is not waited for: the next turn takes it.
    .with_for_update(skip_locked=True)
)
_RUNS = select(subject_runs.c.id, subject_runs.c.bits)
_ENTRIES = select(subject_pages.c.entries)
_PENDING_ROWS = select(func.coalesce(func.sum(batches.c.size), 0)).where(
    batches.c.experiment_id == bindparam("of_experiment"), INDEX_PENDING
)


class _Entries(Struct, frozen=True, eq=False):
    """Entries of the index: (n,) the beginnings of hashes, (n,) serials of decisions."""

    keys: AnyArray
    serials: IntArray

    @classmethod
    def unpack(cls, pages: Sequence[bytes]) -> "_Entries":
        """Read the entries of pages."""
        packed = np.frombuffer(b"".join(pages), dtype=_ENTRY)
        return cls(packed["key"].astype(np.uint64), packed["serial"].astype(np.int64))

    def pack(self) -> bytes:
        """Write the entries, 16 bytes each."""
        packed = np.empty(len(self.keys), _ENTRY)
        packed["key"], packed["serial"] = self.keys, self.serials
        return packed.tobytes()


def count_pending_rows(transaction: Transaction, experiment_id: int) -> int:
    """Count the decisions of an experiment that are not in its index yet."""
    count: int = transaction.execute(_PENDING_ROWS, {"of_experiment": experiment_id}).scalar_one()
    return count


def index_pending(transaction: Transaction, experiment_id: int) -> bool:
    """Index some of an experiment's pending batches; return True where more may be left."""
    _lock(transaction, experiment_id)
    numbers: list[int] = []
    size = 0
    rows = transaction.execute(_PENDING, {"of_experiment": experiment_id}).all()
    for row in rows:
        if numbers and size + row.size > _ROWS_AT_ONCE:
            break
        numbers.append(row.id)
        size += row.size
    if not numbers:
        return False
    columns = (decisions.c.serial, decisions.c.subject, decisions.c.match_key)
    joined = transaction.join_each(batches, [], select(*columns).where(of_batch(batches.c.id)))
    chosen = transaction.fetch_plain(joined.where(transaction.is_any(batches.c.id, numbers)))
    if chosen:
        keys = _beginnings([key or subject for _, subject, key in chosen])
        serials = np.array([row[0] for row in chosen], np.int64)
        _insert_run(transaction, experiment_id, _Entries(keys, serials))
    marks = update(batches).where(transaction.is_any(batches.c.id, numbers))
    transaction.execute(marks.values(index_pending=None))
    _merge_runs(transaction, experiment_id)
    return len(numbers) < len(rows) or len(rows) == _BATCHES_AT_ONCE


def find_subjects(
    transaction: Transaction, experiment_ids: Sequence[int], keys: Sequence[bytes]
) -> list[int]:
    """Find the decisions of subjects in indexed experiments, by the hashes that they match by.

    The transaction must be consistent: a batch is either pending or in a run.

    Args:
        transaction: one that sees one moment.
        experiment_ids: experiments that are indexed.
        keys: hashes; a serial may be of another whose first eight bytes are the same.
    """
    distinct_keys = np.unique(_beginnings(keys))
    pages: list[int] = []
    runs = transaction.execute_any(_RUNS, subject_runs.c.experiment_id, experiment_ids)
    for run, bits in runs.all():
        pages += _page_ids(run, bits, distinct_keys)
    serials: list[int] = []
    for start in range(0, len(pages), _PAGES_AT_ONCE):
        query = transaction.where_any(_ENTRIES, subject_pages.c.id)
        packed_ids = transaction.pack(pages[start : start + _PAGES_AT_ONCE])
        packed = transaction.fetch_plain(query, {"values": packed_ids})
        entries = _Entries.unpack([row[0] for row in packed])
        serials += entries.serials[np.isin(entries.keys, distinct_keys)].tolist()
    return serials + _find_pending(transaction, experiment_ids, keys)


def _find_pending(
    transaction: Transaction, experiment_ids: Sequence[int], keys: Sequence[bytes]
) -> list[int]:
    serials: list[int] = []
    for start in range(0, len(keys), _SUBJECTS_AT_ONCE):
        portion = keys[start : start + _SUBJECTS_AT_ONCE]
        rows = select(decisions.c.serial).where(of_batch(batches.c.id), MATCH_KEY.in_(portion))
        joined = transaction.join_each(batches, [], rows)
        pending = joined.where(
            transaction.is_any(batches.c.experiment_id, experiment_ids), INDEX_PENDING
        )
        serials += transaction.execute(pending).scalars()
    return serials


def forget_decisions(transaction: Transaction, serials: Sequence[int]) -> None:
    """Take decisions out of the indexes that they are in, before their rows are deleted."""
    columns = (decisions.c.serial, MATCH_KEY, batches.c.experiment_id)
    query = (
        select(*columns)
        .select_from(decisions)
        .join(batches, batches.c.id == batch_of)
        .where(
            transaction.is_any(decisions.c.serial, serials),
            batches.c.experiment_id.in_(select(subject_runs.c.experiment_id)),
        )
    )
    numbers = {number // PLACES for number in serials}
    experiments_of = select(batches.c.experiment_id).where(
        transaction.is_any(batches.c.id, sorted(numbers))
    )
    for experiment_id in sorted(set(transaction.execute(experiments_of).scalars())):
        _lock(transaction, experiment_id)
    by_experiment = defaultdict(list)
    for serial, key, experiment_id in transaction.fetch_plain(query):
        by_experiment[experiment_id].append((serial, key))
    for experiment_id, rows in sorted(by_experiment.items()):
        _remove(transaction, experiment_id, rows)


def _remove(
    transaction: Transaction, experiment_id: int, rows: Sequence[tuple[int, bytes]]
) -> None:
    """Remove decisions, by their serials and the hashes that they match by, from every run."""
    keys = np.unique(_beginnings([key for _, key in rows]))
    gone = np.array([serial for serial, _ in rows], np.int64)
    for run, bits, size in _runs(transaction, experiment_id):
        left = size
        page_ids = _page_ids(run, bits, keys)
        for start in range(0, len(page_ids), _PAGES_AT_ONCE):
            portion = page_ids[start : start + _PAGES_AT_ONCE]
            condition = transaction.is_any(subject_pages.c.id, portion)
            columns = (subject_pages.c.id, subject_pages.c.entries)
            for page, packed in transaction.fetch_plain(select(*columns).where(condition)):
                entries = _Entries.unpack([packed])
                kept = ~np.isin(entries.serials, gone)
                if kept.all():
                    continue
                left -= int(np.count_nonzero(~kept))
                rest = _Entries(entries.keys[kept], entries.serials[kept]).pack()
                page_row = subject_pages.c.id == page
                if rest:
                    transaction.execute(update(subject_pages).where(page_row).values(entries=rest))
                else:
                    transaction.execute(delete(subject_pages).where(page_row))
        if left == 0:
            transaction.execute(delete(subject_runs).where(subject_runs.c.id == run))
        elif left < size:
            transaction.execute(
                update(subject_runs).where(subject_runs.c.id == run).values(size=left)
            )


def _merge_runs(transaction: Transaction, experiment_id: int) -> None:
    """Merge runs of about one size where there are enough of them, up to a size."""
    while True:
        by_size = defaultdict(list)
        for run, _, size in _runs(transaction, experiment_id):
            if size < _LARGEST_MERGED:
                by_size[size.bit_length() // 3].append(run)  # sizes of one magnitude, by eights
        merged = next((runs for runs in by_size.values() if len(runs) >= _MERGED_RUNS), None)
        if merged is None:
            return
        pages: list[bytes] = []
        for run in merged:
            of_run = subject_pages.c.id.between(run * _PAGES, (run + 1) * _PAGES - 1)
            query = select(subject_pages.c.entries).where(of_run)
            pages += [row[0] for row in transaction.fetch_plain(query)]
            transaction.execute(delete(subject_pages).where(of_run))
        transaction.execute(
            delete(subject_runs).where(transaction.is_any(subject_runs.c.id, merged))
        )
        _insert_run(transaction, experiment_id, _Entries.unpack(pages))


def _insert_run(transaction: Transaction, experiment_id: int, entries: _Entries) -> None:
    size = len(entries.keys)
    order = np.lexsort((entries.serials, entries.keys))
    ordered = _Entries(entries.keys[order], entries.serials[order])
    bits = min(((size - 1) // _PAGE_ENTRIES).bit_length(), _PAGES.bit_length() - 1)
    row = {"experiment_id": experiment_id, "bits": bits, "size": size}
    run = transaction.execute(insert(subject_runs).returning(subject_runs.c.id), row).scalar_one()
    pages = _pages(ordered.keys, bits)
    bounds = [*np.searchsorted(pages, np.arange(1 << bits)).tolist(), size]
    packed = ordered.pack()
    width = _ENTRY.itemsize
    rows = [
        (run * _PAGES + page, packed[width * first : width * end])
        for page, (first, end) in enumerate(pairwise(bounds))
        if first < end
    ]
    transaction.insert(subject_pages, ("id", "entries"), rows)


def _runs(transaction: Transaction, experiment_id: int) -> list[tuple[int, int, int]]:
    """Read number, bits and size of an experiment's runs."""
    query = select(subject_runs.c.id, subject_runs.c.bits, subject_runs.c.size).where(
        subject_runs.c.experiment_id == experiment_id
    )
    return [(row.id, row.bits, row.size) for row in transaction.execute(query.order_by("id"))]


def _page_ids(run: int, bits: int, keys: AnyArray) -> list[int]:
    """Return the numbers of a run's pages that sorted keys are in."""
    first = run * _PAGES
    return [first + page for page in np.unique(_pages(keys, bits)).tolist()]


def _pages(keys: AnyArray, bits: int) -> IntArray:
    """Return the page of each key: its first bits."""
    if bits == 0:
        return np.zeros(len(keys), np.int64)
    return (keys >> np.uint64(_KEY_BITS - bits)).astype(np.int64)


def _beginnings(keys: Sequence[bytes]) -> AnyArray:
    """Return the first eight bytes of hashes as numbers (n,)."""
    joined = b"".join([key[:_KEY_BYTES] for key in keys])
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64)


def _lock(transaction: Transaction, experiment_id: int) -> None:
    """Keep others from changing the index of an experiment until the transaction ends."""
    transaction.lock(f"subject index {experiment_id}")
