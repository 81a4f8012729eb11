"""What a large log costs: choices at ten thousand decisions and at many more, and memory.

With SOAK=1 the log grows to ten million decisions; else it is shorter.
"""

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

from drivers import Place, postgresql, sqlite
from measuring import Row, compare, peak_mb, seconds
from msgspec import convert
from serving import KEY, SPRING

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Request
from storage import open_store, upgrade

SMALL = 10_000
LARGE = 10_000_000 if os.environ.get("SOAK") == "1" else 300_000
BATCH = 10_000
SINGLES = 100

_subjects = count()


def run(rounds: int) -> list[Row]:
    """Measure growth on both databases."""
    rows: list[Row] = []
    for opened in (sqlite, postgresql):
        with tempfile.TemporaryDirectory() as name, opened(Path(name)) as place:
            rows += growth(place, rounds)
    return rows


def growth(place: Place, rounds: int) -> Iterator[Row]:
    """Let a log grow, then compare choices there with choices in a short one."""
    with _engine(place.other) as few, _engine(place.url) as many:
        _choose(few, SMALL)
        yield _grow(many, place.name)
        yield compare(
            f"single choose, one client, at {LARGE:,} decisions, {place.name}",
            lambda: _choose(many, SINGLES, at_once=1),
            lambda: _choose(few, SINGLES, at_once=1),
            n=SINGLES,
            unit="decisions",
            beside=f"at {SMALL:,} decisions",
            rounds=rounds,
        )
        yield compare(
            f"batches of {BATCH:,} random ids at {LARGE:,} decisions, {place.name}",
            lambda: _choose(many, BATCH, random=True),
            lambda: _choose(many, BATCH),
            n=BATCH,
            unit="decisions",
            beside="ids in the order of time",
            rounds=rounds,
        )


def _grow(engine: Engine, name: str) -> Row:
    """Choose for many, half of them with random ids; tell whether memory grows."""
    tenth = LARGE // 10
    first = seconds(lambda: _choose(engine, tenth, random=True), time.perf_counter)
    early = _resident_mb()
    rest = seconds(
        lambda: [_choose(engine, tenth, random=k % 2 == 0) for k in range(9)], time.perf_counter
    )
    memory = f"{early:.0f} MB after a tenth, {_resident_mb():.0f} MB at the end"
    return Row(
        f"{LARGE:,} choices in one process, {name}: {memory}",
        "decisions",
        9 * tenth / rest,
        None,
        "the first tenth",
        tenth / first,
        (9 * tenth / rest) / (tenth / first),
        peak_mb(),
    )


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _choose(engine: Engine, n: int, *, at_once: int = BATCH, random: bool = False) -> None:
    for _ in range(n // at_once):
        requests = [
            Request(f"subject {next(_subjects)}", None, str(uuid4()) if random else None)
            for _ in range(at_once)
        ]
        engine.choose(KEY, requests)


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    upgrade(url)
    with closing(open_store(url)) as store:
        engine = Engine(store)
        engine.create(convert(SPRING, Experiment), by="bench")
        engine.start(KEY, by="bench")
        yield engine
