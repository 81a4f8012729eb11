"""Count the functions of ours that three paths run through: choose, reward and fold.

Each path is run for real on SQLite, by one thread, with warm caches, while `sys.setprofile` looks
on. A call is one ``call`` event of a frame whose code is in the five packages: functions, methods,
lambdas, comprehensions, and each time that a generator goes on; Python 3.12 and later count fewer,
since they run comprehensions in place. A group commit is done by the thread that asks, so no call
happens elsewhere. The files are those that the calls are in.

``--trace`` prints the calls of each path as a tree; words after it narrow it to paths whose title
holds one of them.
"""

import io
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from werkzeug.test import create_environ, run_wsgi_app

# All that this file knows of the code: a rename changes these lines and `Server` alone.
from bandits.engine import Engine
from bandits.rewards import RewardRule
from storage import open_store, upgrade
from webapp.app import create_app
from webapp.services import Services
from webapp.settings import Settings

MEASURE = RewardRule.measure.__code__  # of (self, rows, metrics, values, n)

ROOT = Path(__file__).parents[2]
PACKAGES = ("bandits", "policies", "simulations", "storage", "webapp")
OURS = tuple(f"{ROOT / package}/" for package in PACKAGES)

NOW = 1_800_000_000.0
DAY = 86_400.0
SPRING = {  # as in README.md
    "key": "spring",
    "slots": [
        {
            "key": "subject_line",
            "kind": "subject_line",
            "variants": [
                {"key": "a", "payload": {"text": "Spring is here"}},
                {"key": "b", "payload": {"text": "Everything blue, 20 % off"}},
            ],
        }
    ],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 7 * DAY, "maturity_seconds": DAY},
}
ARMS = 12
TWELVE = {"slots": [{"key": "subject_line", "variants": [{"key": f"v{i}"} for i in range(ARMS)]}]}
BATCHES = 20
IN_A_BATCH = 10
REWARDED = 5  # every so many decisions
ATTEMPTS = 5  # the fewest calls count: a cache may run out by the clock

Rows = tuple[bytes, bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function of ours, below `depth` others of ours."""

    file: str
    name: str
    depth: int


@dataclass(frozen=True, slots=True)
class Recording:
    """The calls of one run of a path, and the rows that rewards were measured of."""

    title: str
    calls: list[Call] = field(default_factory=list, repr=False)
    measured: list[Rows] = field(default_factory=list, repr=False)

    @property
    def files(self) -> set[str]:
        """Files that the calls are in."""
        return {call.file for call in self.calls}

    @property
    def measured_rows(self) -> list[Rows]:
        """Rows of the measurements that were of a decision at all."""
        return [rows for rows in self.measured if rows[-1]]

    @property
    def measured_again(self) -> int:
        """Number of measurements of rows that were measured before."""
        return len(self.measured_rows) - len(set(self.measured_rows))

    def observe(self, frame: FrameType, event: str, _argument: object) -> None:
        """Take in an event, as `sys.setprofile` gives it."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS):
            file = Path(code.co_filename).relative_to(ROOT).as_posix()
            self.calls.append(Call(file, code.co_qualname, depth(frame)))
            if code is MEASURE:
                rows, metrics, values, n = (frame.f_locals[v] for v in code.co_varnames[1:5])
                self.measured.append((rows.tobytes(), metrics.tobytes(), values.tobytes(), n))


def depth(frame: FrameType) -> int:
    """Count the frames of ours that a frame runs below."""
    count = 0
    while (above := frame.f_back) is not None:
        count += above.f_code.co_filename.startswith(OURS)
        frame = above
    return count


@contextmanager
def recording(title: str) -> Iterator[Recording]:
    """Record the calls of this thread."""
    record = Recording(title)
    before = sys.getprofile()
    sys.setprofile(record.observe)
    try:
        yield record
    finally:
        sys.setprofile(before)


class Server:
    """The application on a new database, as a WSGI server in front of it sees it."""

    def __init__(self, folder: Path) -> None:
        """Make the database in a folder; the clock stands still, and salts are always the same."""
        url = f"sqlite:///{folder}/paths.db"
        upgrade(url)
        self.now = NOW
        self.store = open_store(url)
        self.engine = Engine(self.store, lambda: self.now, bytes)
        services = Services(
            self.engine,
            self.store.accounts,
            self.store.drafts,
            self.store.connections,
            self.store.tracked_links,
            self.store.spool,
            self.store.outgoing,
        )
        self._app = create_app(services, Settings(secret_key="made up for a test, long enough"))
        keys = self.store.accounts.keys
        key = keys.create("paths", ("choose", "reward", "manage"), at=NOW, by="paths")
        self._headers = {
            "Authorization": f"Bearer {key.token}",
            "Content-Type": "application/json",
        }

    def learn(self, key: str) -> None:
        """Fold what is due of an experiment."""
        self.engine.learn(key)

    def environ(self, path: str, body: object = None) -> dict[str, Any]:
        """Write a request."""
        data = io.BytesIO(b"" if body is None else msgspec.json.encode(body))
        return create_environ(
            f"/api/v1{path}", method="POST", headers=self._headers, input_stream=data
        ) | {"CONTENT_LENGTH": str(len(data.getvalue()))}

    def post(self, path: str, body: object = None) -> Any:
        """Send a request; return the answer's body."""
        return self.answer(self.environ(path, body))

    def answer(self, environ: dict[str, Any]) -> Any:
        """Answer a request.

        Raises:
            RuntimeError: it failed.
        """
        content, status, _ = run_wsgi_app(self._app, environ)
        body = b"".join(content)
        if not status.startswith("2"):
            raise RuntimeError(f"{status}: {body.decode()}")
        return msgspec.json.decode(body)

    def start(self, experiment: Mapping[str, Any]) -> str:
        """Create and start an experiment; return its key."""
        self.post("/experiments", experiment)
        self.post(f"/experiments/{experiment['key']}/start")
        return str(experiment["key"])

    def send(self, key: str) -> list[str]:
        """Choose in batches, and reward some decisions; return their ids."""
        ids = [f"{key}-{row}" for row in range(BATCHES * IN_A_BATCH)]
        for first in range(0, len(ids), IN_A_BATCH):
            batch = ids[first : first + IN_A_BATCH]
            requests = [{"subject_id": f"subject of {i}", "decision_id": i} for i in batch]
            self.post(f"/experiments/{key}/choose/batch", {"requests": requests})
            self.now += 1.0
        self.click(ids[::REWARDED])
        return ids

    def click(self, ids: Sequence[str]) -> None:
        """Report a click for each of these decisions."""
        events = [{"decision_id": i, "event_id": "click-1", "metric": "click"} for i in ids]
        self.post("/rewards", {"rewards": events})


def fewest(title: str, server: Server, environs: Sequence[dict[str, Any]]) -> Recording:
    """Answer requests; return the recording with the fewest calls."""
    recordings = []
    for environ in environs:
        with recording(title) as record:
            server.answer(environ)
        recordings.append(record)
    return min(recordings, key=lambda r: len(r.calls))


def singles(server: Server) -> Iterator[Recording]:
    """Record one choice and one reward by the fast path, on an experiment that has learned."""
    key = server.start(SPRING)
    choose = f"/experiments/{key}/choose"
    server.send(key)
    server.now += DAY
    server.learn(key)
    ids = [server.post(choose, {"subject_id": f"warm {i}"})["decision_id"] for i in range(9)]
    server.click(ids[:1])
    requests = [server.environ(choose, {"subject_id": f"cold {i}"}) for i in range(ATTEMPTS)]
    yield fewest("choose", server, requests)
    rewards = [
        {"rewards": [{"decision_id": i, "event_id": "click-1", "metric": "click"}]}
        for i in ids[1 : ATTEMPTS + 1]
    ]
    yield fewest("reward", server, [server.environ("/rewards", reward) for reward in rewards])


def folds(server: Server) -> Iterator[Recording]:
    """Record the folds in the life of the same decisions, from sent to closed."""
    key = server.start(SPRING | TWELVE | {"key": "twelve"})
    ids = server.send(key)
    yield folded("fold of sent", server, key)
    server.now += DAY
    yield folded("fold", server, key)
    server.click(ids[1::REWARDED])
    yield folded("fold of late rewards", server, key)
    server.now += 6 * DAY
    yield folded("fold of closed windows", server, key)
    key = server.start(SPRING | TWELVE | {"key": "unfolded"})
    server.send(key)
    server.now += DAY
    yield folded("first fold, of due", server, key)


def folded(title: str, server: Server, key: str) -> Recording:
    """Record a fold."""
    with recording(title) as record:
        server.learn(key)
    return record


def recordings() -> dict[str, Recording]:
    """Run every path; return the recordings by title."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            return {r.title: r for walk in (singles, folds) for r in walk(server)}
        finally:
            server.store.close()


def table(recorded: Mapping[str, Recording]) -> str:
    """Write the figures: calls, files, and measurements of rewards and of how many sets of rows."""
    lines = [f"{'path':24} {'calls':>6} {'files':>6} {'measured':>9} {'not empty':>10} {'sets':>5}"]
    for title, record in recorded.items():
        rows = record.measured_rows
        lines.append(
            f"{title:24} {len(record.calls):6,} {len(record.files):6,} "
            f"{len(record.measured):9,} {len(rows):10,} {len(set(rows)):5,}"
        )
    return "\n".join(lines) + "\n"


def trace(record: Recording) -> str:
    """Write the calls as a tree; neighbours alike, with all below them, are written once."""
    head = f"{record.title}: {len(record.calls):,} calls in {len(record.files)} files\n"
    return head + "\n".join(branches(record.calls, 0)) + "\n"


def branches(calls: Sequence[Call], level: int) -> list[str]:
    """Write the calls at a level, each above those below it."""
    starts = [i for i, call in enumerate(calls) if call.depth == level]
    blocks = []
    for start, end in pairwise([*starts, len(calls)]):
        call = calls[start]
        line = f"{'  ' * level}{call.name}  {call.file}"
        blocks.append([line, *branches(calls[start + 1 : end], level + 1)])
    return [line for run, times in runs(blocks) for block in run for line in counted(block, times)]


def counted(block: Sequence[str], times: int) -> list[str]:
    """Write how often a call came, if more than once."""
    return [f"{block[0]}  × {times}" if times > 1 else block[0], *block[1:]]


def runs(blocks: Sequence[list[str]]) -> Iterator[tuple[Sequence[list[str]], int]]:
    """Go through neighbours that come again and again, alone or up to three in turn."""
    start = 0
    while start < len(blocks):
        run, times = blocks[start : start + 1], 1
        for period in (1, 2, 3):
            turn, again = blocks[start : start + period], 1
            while blocks[start + again * period :][:period] == turn:
                again += 1
            if again > 1 and period * again > len(run) * times:
                run, times = turn, again
        yield run, times
        start += len(run) * times


def main(words: Sequence[str]) -> str:
    """Run what the command line asks for."""
    recorded = recordings()
    if "--trace" not in words:
        return table(recorded)
    titles = [word for word in words if word != "--trace"] or list(recorded)
    shown = [r for title, r in recorded.items() if any(word in title for word in titles)]
    return "\n".join(map(trace, shown))


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
