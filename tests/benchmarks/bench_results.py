"""Results of 60 arms on SQLite, with ten million decisions in the log beside ten thousand.

Ten thousand decisions are chosen, clicked and folded through the engine. To make ten million of
them, the log's rows are copied a thousand times inside the database, in waves of their own that are
marked as folded and closed, and the sums of the newest snapshot are multiplied to match: what is
measured reads sums, and must not read the log, however long it is.
"""

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from measuring import Row, compare
from msgspec import convert
from msgspec.structs import replace
from sqlalchemy import text

from bandits.engine import Engine
from bandits.engine.sums import load_sums
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward
from storage import SqlStore, open_store, upgrade
from storage.snapshots.snapshots import insert_snapshot

DECISIONS = 10_000
WAVES = 1_000
WINDOW = 600.0
SPRING = {
    "key": "spring",
    "slots": [
        {"key": "subject_line", "variants": [{"key": f"s{i}"} for i in range(5)]},
        {"key": "content", "variants": [{"key": f"c{i}"} for i in range(4)]},
        {"key": "discount", "variants": [{"key": f"d{i}"} for i in range(3)]},
    ],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": WINDOW, "maturity_seconds": WINDOW},
    "context": [
        {"kind": "number", "name": "recency", "low": 0, "high": 24},
        {"kind": "category", "name": "channel", "values": ["Web", "Phone", "Shop"]},
    ],
    "holdout": 0.05,
}
COPIED = """INSERT INTO batches (id, experiment_id, kind, size, created_at, due_at, counted_version,
    folded_version, closed_version, configuration_version, policy_version)
    WITH RECURSIVE wave (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM wave WHERE n < :waves)
    SELECT :first + n, experiment_id, kind, size, created_at + n, due_at + n, counted_version,
    folded_version, closed_version, configuration_version, policy_version
    FROM batches, wave WHERE id = :of"""
ROWS = """INSERT INTO decisions (serial, id, arm, propensity, context, holdout, fallback, subject)
    WITH RECURSIVE wave (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM wave WHERE n < :waves)
    SELECT serial + (:first + n - :of) * 1048576, n || id, arm, propensity, context, holdout,
    fallback, subject FROM wave CROSS JOIN decisions
    WHERE serial BETWEEN :of * 1048576 AND :of * 1048576 + 1048575"""


def run(rounds: int) -> list[Row]:
    """Measure results at ten million decisions beside the same at ten thousand."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_filled(Path(folder) / f"{n}.db", n) for n in (0, WAVES - 1))
        with closing(few.store), closing(many.store):  # type: ignore[type-var]  # a port cannot close
            return [
                compare(
                    f"results of 60 arms, {DECISIONS * WAVES:,} decisions",
                    lambda: _fresh(many).results("spring"),
                    lambda: _fresh(few).results("spring"),
                    n=1,
                    unit="results",
                    beside=f"with {DECISIONS:,}",
                    rounds=rounds,
                )
            ]


def _fresh(engine: Engine) -> Engine:
    """Forget what was decided from, as after a fold: nothing is measured out of a cache."""
    return Engine(engine.store, engine.clock)


def _filled(path: Path, more_waves: int) -> Engine:
    """Fill a database with one wave, and with so many more like it."""
    url = f"sqlite:///{path}"
    upgrade(url)
    store, now = open_store(url), [1_000_000.0]
    engine = Engine(store, lambda: now[0])
    engine.create(convert(SPRING, Experiment), by="bench")
    engine.start("spring", by="bench")
    rng = np.random.default_rng(1)
    channels = rng.choice(["Web", "Phone", "Shop"], DECISIONS).tolist()
    contexts = zip(rng.integers(0, 24, DECISIONS).tolist(), channels, strict=True)
    requests = [
        Request(f"u-{i}", {"recency": recency, "channel": channel})
        for i, (recency, channel) in enumerate(contexts)
    ]
    made = engine.choose("spring", requests)
    clicked = [str(d.decision_id) for d in made if rng.random() < 0.1]
    engine.reward([Reward(d, "e", "click") for d in clicked])
    now[0] += 2 * WINDOW
    engine.learn("spring")
    if more_waves:
        _multiply(store, more_waves)
    return engine


def _multiply(store: SqlStore, more_waves: int) -> None:
    record = store.experiments.record("spring")
    snapshot = store.snapshots.snapshot("spring", record.learned_version)
    sums = load_sums(record.configuration, snapshot)
    for _ in range((more_waves + 1).bit_length() - 1):
        sums = sums + sums
    statistic, tally, grounds = sums.dump()
    newest = replace(
        snapshot,
        version=snapshot.version + 1,
        statistic=statistic,
        arm_counts=tally,
        inference_state=grounds,
    )
    with store.database.writing() as transaction:
        connection = transaction.connection
        of = connection.scalar(text("SELECT min(id) FROM batches WHERE kind = 'choose'"))
        first = connection.scalar(text("SELECT max(id) FROM batches"))
        named = {"waves": more_waves, "first": first, "of": of}
        connection.execute(text(COPIED), named)
        connection.execute(text(ROWS), named)
        insert_snapshot(transaction, record, newest)
