"""What it costs that decisions are found by subject: choosing, and orders that name their customer.

Choosing is measured together with the indexing that the match worker does beside it, in one thread:
that is all of the work, where a server's processes share it. The index has three million entries;
ten with SOAK=1.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
from drivers import Place, postgresql, sqlite
from measuring import Row, compare
from msgspec import convert
from serving import KEY, SPRING

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request, Reward
from storage import open_store, upgrade
from storage.log import subject_index

DECISIONS = 10_000_000 if os.environ.get("SOAK") == "1" else 3_000_000
RUN = 1 << 17  # entries, from which on runs are not merged
BATCH = 10_000
SINGLES = 100

_subjects, _events = count(), count()
_random = Random(1)


def run(rounds: int) -> list[Row]:
    """Measure on both databases."""
    rows: list[Row] = []
    for opened in (sqlite, postgresql):
        with tempfile.TemporaryDirectory() as name, opened(Path(name)) as place:
            rows += attribution(place, rounds)
    return rows


def attribution(place: Place, rounds: int) -> Iterator[Row]:
    """Compare a log that is found by subject with one that is not."""
    with (
        _engine(place.url, attribution="last") as found,
        _engine(place.other) as plain,
    ):
        _fill_index(found)
        where = f"{DECISIONS:,} entries, {place.name}"
        yield compare(
            f"batches of {BATCH:,}, indexed by subject, {where}",
            lambda: _choose(found, BATCH),
            lambda: _choose(plain, BATCH),
            n=BATCH,
            unit="decisions",
            beside="without the index",
            rounds=rounds,
            least_ratio=0.35,
        )
        yield compare(
            f"single choose, one client, indexed by subject, {where}",
            lambda: _choose(found, SINGLES, at_once=1),
            lambda: _choose(plain, SINGLES, at_once=1),
            n=SINGLES,
            unit="decisions",
            beside="without the index",
            rounds=rounds,
            least_ratio=0.7,
        )
        ids = [d.decision_id or "" for d in _decide(plain, BATCH)]
        for n, at_once in ((SINGLES, 1), (BATCH, BATCH)):
            yield compare(
                f"events by subject, {at_once:,} a call, {where}",
                lambda n=n, at_once=at_once: _report_subjects(found, n, at_once),
                lambda n=n, at_once=at_once: _report_decisions(plain, ids[:n], at_once),
                n=n,
                unit="events",
                beside="by decision",
                rounds=rounds,
            )


def _fill_index(engine: Engine) -> None:
    """Fill the index with runs of random entries; what they refer to was removed, as it were.

    What a decision costs depends on the index alone: its own row, and its id, are in the order of
    time.
    """
    record = engine.store.experiments.record(KEY)
    rng = np.random.default_rng(1)
    for first in range(0, DECISIONS, RUN):
        keys = rng.integers(1 << 64, size=RUN, dtype=np.uint64)
        serials = np.arange(first, first + RUN) + (1 << 60)
        entries = subject_index._Entries(keys, serials)
        with engine.store.database.writing() as transaction:
            subject_index._insert_run(transaction, record.id, entries)


def _decide(engine: Engine, n: int) -> list[Decision]:
    return engine.choose(KEY, [Request(f"subject {next(_subjects)}") for _ in range(n)])


def _choose(engine: Engine, n: int, *, at_once: int = BATCH) -> None:
    """Choose for new subjects, and index them as the match worker does."""
    for _ in range(n // at_once):
        _decide(engine, at_once)
        if at_once == BATCH:
            engine.index_subjects()
    engine.index_subjects()


def _report_subjects(engine: Engine, n: int, at_once: int) -> None:
    """Report events of random subjects, of whom about half are in the other log."""
    known = next(_subjects)
    now = datetime.now(UTC)
    for _ in range(n // at_once):
        events = [
            Reward(
                event_id=f"e-{next(_events)}",
                metric="click",
                occurred_at=now,
                subject_id=f"subject {_random.randrange(known)}",
            )
            for _ in range(at_once)
        ]
        engine.reward(events)


def _report_decisions(engine: Engine, ids: list[str], at_once: int) -> None:
    for start in range(0, len(ids), at_once):
        portion = ids[start : start + at_once]
        engine.reward([Reward(i, f"e-{next(_events)}", "click") for i in portion])


@contextmanager
def _engine(url: str, **declared: str) -> Iterator[Engine]:
    upgrade(url)
    with closing(open_store(url)) as store:
        engine = Engine(store)
        engine.create(convert(SPRING | declared, Experiment), by="bench")
        engine.start(KEY, by="bench")
        yield engine
