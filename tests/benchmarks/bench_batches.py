"""Decisions over HTTP on SQLite, each committed before the answer."""

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from measuring import Row, compare

from bandits.draw import time_ordered_ids
from storage import open_store

BATCH = 10_000
SPRING = {
    "key": "spring",
    "slots": [{"key": "subject_line", "variants": [{"key": f"v{i}"} for i in range(10)]}],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}},
    "learn_every_seconds": 5,
}
TABLE = """CREATE TABLE decisions (serial INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    batch_id INTEGER NOT NULL, arm INTEGER NOT NULL, propensity REAL NOT NULL, context BLOB,
    holdout INTEGER NOT NULL, fallback INTEGER NOT NULL, restriction BLOB, digest BLOB,
    subject BLOB NOT NULL)"""


def run(rounds: int) -> list[Row]:
    """Measure batches of 10,000 beside the driver writing the same rows."""
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder)) as client:
        numbers = iter(range(10**9))

        def ours() -> None:
            first = next(numbers)
            requests = [{"subject_id": f"{first}-{i}"} for i in range(BATCH)]
            answer = client.post("/experiments/spring/choose/batch", json={"requests": requests})
            answer.raise_for_status()

        with closing(_plain(Path(folder))) as plain:
            return [
                compare(
                    f"choose/batch of {BATCH:,} over HTTP, committed",
                    ours,
                    lambda: _write(plain),
                    n=BATCH,
                    unit="decisions",
                    beside="the driver's executemany",
                    rounds=rounds,
                    goal=30_000,
                )
            ]


def _plain(folder: Path) -> sqlite3.Connection:
    """Open a table like the store's, with the store's durability and indexes."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    for line in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", TABLE):
        connection.execute(line)
    connection.execute("CREATE INDEX by_batch ON decisions (batch_id)")
    return connection


def _write(connection: sqlite3.Connection) -> None:
    rows = [(i, 1, 3, 0.1, None, 0, 0, None, None, os.urandom(16)) for i in time_ordered_ids(BATCH)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO decisions (id, batch_id, arm, propensity, context, holdout, fallback,"
        " restriction, digest, subject) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.execute("COMMIT")


@contextmanager
def _serving(folder: Path) -> Iterator[httpx.Client]:
    url = f"sqlite:///{folder / 'bandits.db'}"
    command = [Path(sys.executable).with_name("bandits"), "serve", "--database", url]
    log = folder / "server.log"
    with (
        log.open("wb") as said,
        subprocess.Popen([*command, "--port", "0"], stderr=said) as server,
    ):
        try:
            address = _address(log)
            with closing(open_store(url)) as store:
                scopes = ("choose", "manage")
                made = store.accounts.create_key("bench", scopes, at=time.time(), by="bench")
            headers = {"Authorization": f"Bearer {made.token}"}
            with httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=60) as client:
                client.post("/experiments", json=SPRING).raise_for_status()
                client.post("/experiments/spring/start").raise_for_status()
                yield client
        finally:
            server.terminate()


def _address(log: Path) -> str:
    """Wait until the server says where it answers."""
    for _ in range(1200):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise TimeoutError(f"the server did not start: {log.read_text()}")
