"""Folds that are small, or only close windows, beside reading the same rows and nothing else.

Most of a large fold is the time to read its rows. Of a small one it is what a fold does however
little is due: its statements, its sums, and the claims that it looks for. That grows unseen, so it
is measured by computing time, beside what SQLite takes to hand the same decisions and events to
Python.
"""

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from measuring import Row, compare
from msgspec import Struct, convert

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward, Tracking
from storage import open_store, upgrade

AT_ONCE = 5  # campaigns whose folds are timed together
VERSIONS = 5
CLICKED = 0.1
DAY = 86_400.0
START = 20_000 * DAY
BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
DECISIONS = """SELECT serial, arm, holdout, context, propensity, eligible_set, batches.id
    FROM batches JOIN decisions ON serial BETWEEN batches.id << 20 AND (batches.id + 1 << 20) - 1
    WHERE experiment_id = :campaign AND kind = 'choose'
    AND created_at IN (SELECT value FROM json_each(:times))"""
EVENTS = f"SELECT events.* FROM ({DECISIONS}) JOIN events ON decision = serial"  # noqa: S608 - ours


class World(Struct, frozen=True):
    """Campaigns of one kind, each of which is sent on some days and folded on every day.

    Attributes:
        what: what the fold of the last day does, which is measured.
        emails: how many are sent on a day.
        sends: on how many days they are.
        last_day: the day that is measured, counted from 0.
        window_days: of rewards; they are learned from after one day.
        read: the days whose emails that fold reads.
        rules: version of the rules against machines; None where every click counts.
        least_ratio: of reading to folding; five sixths of what it was before claims, events by
            name and shares were kept, so that such folds cost at most 1.2 times as much.
    """

    what: str
    emails: int
    sends: int
    last_day: int
    window_days: int
    read: tuple[int, ...]
    least_ratio: float
    rules: int | None = None


DAILY = World(
    "folds of 200 emails sent, 200 learned and 200 closed", 200, 6, 5, 3, (2, 4, 5), 0.033
)
JUDGED = World(
    "such folds, where the clicks of machines are left out", 200, 6, 5, 3, (2, 4, 5), 0.02, 1
)
CLOSING = World("folds that only close 2,000 emails", 2_000, 1, 2, 2, (0,), 0.13)


class Campaigns:
    """Campaigns of one world in a database; the fold of the last day is left to be done."""

    def __init__(self, world: World, path: Path, number: int) -> None:
        """Send, click and fold in so many campaigns."""
        self._world = world
        self._now = START
        self._rng = np.random.default_rng(1)
        upgrade(f"sqlite:///{path}")
        self._store = open_store(f"sqlite:///{path}")
        self._engine = Engine(self._store, lambda: self._now)
        self._connection = sqlite3.connect(path)
        keys = [f"campaign-{i}" for i in range(number)]
        self._unfolded = iter(keys)
        for key in keys:
            self._engine.create(_experiment(key, world), by="bench")
            self._engine.start(key, by="bench")
        for day in range(world.last_day + 1):
            self._now = START + day * DAY
            for key in keys:
                if day < world.sends:
                    self._send(key)
                if day < world.last_day:
                    self._engine.learn(key)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
        self._store.close()

    def fold(self) -> None:
        """Fold the next campaigns."""
        for _ in range(AT_ONCE):
            if self._engine.learn(next(self._unfolded)) is None:
                raise RuntimeError("nothing was due")

    def read(self) -> None:
        """Read what such a fold reads, of as many campaigns."""
        times = msgspec.json.encode([START + day * DAY for day in self._world.read]).decode()
        for campaign in range(1, AT_ONCE + 1):
            for statement in (DECISIONS, EVENTS):
                values = {"campaign": campaign, "times": times}
                if not self._connection.execute(statement, values).fetchall():
                    raise RuntimeError("nothing was read")

    def _send(self, key: str) -> None:
        made = self._engine.choose(key, [Request(f"u-{i}") for i in range(self._world.emails)])
        clicked = [str(d.decision_id) for d in made if self._rng.random() < CLICKED]
        rewards = [
            Reward(decision, "e", "click", tracking=_tracking(self._rng)) for decision in clicked
        ]
        self._engine.reward(rewards)


def _tracking(rng: np.random.Generator) -> Tracking:
    """Describe a click from one of a thousand networks."""
    third, fourth = divmod(int(rng.integers(1000)), 250)
    link = f"https://shop.example/{rng.integers(8)}"
    return Tracking(ip=f"198.51.{third}.{fourth}", user_agent=BROWSER, url=link)


def _experiment(key: str, world: World) -> Experiment:
    window = {"window_seconds": world.window_days * DAY, "maturity_seconds": DAY}
    declared = {
        "key": key,
        "slots": [{"key": "subject", "variants": [{"key": f"v{i}"} for i in range(VERSIONS)]}],
        "policy": {"name": "thompson"},
        "reward": {"metrics": {"click": {}}, **window},
        "machine_rules": world.rules,
    }
    return convert(declared, Experiment)


def run(rounds: int) -> list[Row]:
    """Measure each kind of folds."""
    return list(_rows(rounds))


def _rows(rounds: int) -> Iterator[Row]:
    for world in (DAILY, JUDGED, CLOSING):
        number = (rounds + 1) * AT_ONCE
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Campaigns(world, Path(folder) / "folds.db", number)) as campaigns,
        ):
            yield compare(
                world.what,
                campaigns.fold,
                campaigns.read,
                n=AT_ONCE,
                unit="folds",
                beside="reading the same rows",
                rounds=rounds,
                least_ratio=world.least_ratio,
                clock=time.process_time,
            )
