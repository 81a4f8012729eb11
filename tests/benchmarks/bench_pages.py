"""An experiment's page: as quick with ten million decisions as with ten thousand."""

import secrets
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from flask.testing import FlaskClient
from measuring import Row, compare
from msgspec import convert

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Request, Reward
from storage import SqlStore, open_store, upgrade
from webapp.app import create_app
from webapp.services import Services
from webapp.settings import Settings

FEW, MANY = 10_000, 10_000_000
FOLDS = 150  # more than a chart has points
SIXTY = {
    "slots": [
        {"key": "subject_line", "variants": [{"key": f"s{i}"} for i in range(10)]},
        {"key": "content", "variants": [{"key": f"c{i}"} for i in range(6)]},
    ],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 60, "maturity_seconds": 30},
}
# Rows that no page reads: they are there so that reading them would be noticed.
FILL = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)
    INSERT INTO decisions (serial, id, arm, propensity, holdout, fallback, subject)
    SELECT 4611686018427387904 + i, printf('many-%012d', i), i % 60, 0.016, 0, 0, x'00' FROM n"""


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def run(rounds: int) -> list[Row]:
    """Open the page of 60 versions with its numbers, over a log of each size."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(_store(Path(folder), "few")) as few,
        closing(_store(Path(folder), "many")) as many,
    ):
        pages = {name: _visitor(store) for name, store in (("few", few), ("many", many))}
        with many.database.writer.begin() as connection:
            connection.exec_driver_sql(FILL.replace(":rows", str(MANY - FEW)))

        def opened(name: str) -> None:
            answer = pages[name].get("/experiments/sixty")
            if answer.status_code != 200:
                raise ValueError(answer.text)

        return [
            compare(
                f"the page of 60 versions, {MANY:,} decisions",
                lambda: opened("many"),
                lambda: opened("few"),
                n=1,
                unit="pages",
                beside=f"{FEW:,} decisions",
                rounds=3 * rounds,
                least_ratio=1 / 1.3,
            )
        ]


def _store(folder: Path, name: str) -> SqlStore:
    url = f"sqlite:///{folder / name}.db"
    upgrade(url)
    store = open_store(url)
    clock = Clock()
    engine = Engine(store, clock)
    engine.create(convert({"key": "sixty"} | SIXTY, Experiment), by="bench")
    engine.start("sixty", by="bench")
    rng = np.random.default_rng(1)
    for wave in range(FOLDS):
        made = engine.choose("sixty", [Request(f"{wave}-{i}") for i in range(FEW // FOLDS)])
        clicked = rng.random(len(made)) < 0.2
        engine.reward(
            [
                Reward(str(d.decision_id), "c", "click")
                for d, c in zip(made, clicked, strict=True)
                if c
            ]
        )
        clock.now += 61
        engine.learn("sixty")
    return store


def _visitor(store: SqlStore) -> FlaskClient:
    """Sign somebody in."""
    engine = Engine(store)
    settings = Settings(secret_key=secrets.token_hex())
    app = create_app(
        Services(
            engine,
            store.accounts,
            store.drafts,
            store.connections,
            store.tracked_links,
            store.spool,
            store.outgoing,
        ),
        settings,
    )
    client = app.test_client()
    user = store.accounts.add_user("a@shop.example", "!", "viewer", at=engine.clock(), by="bench")
    begin = store.accounts.sessions.begin
    token = begin(user.id, agent="bench", address="127.0.0.1", at=engine.clock())
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = token, True
    return client
