"""A stolen ``choose`` key: what it does to a campaign is found, voided, and leaves no trace.

In full with SOAK=1: 20,000 hostile calls among honest ones, in both kinds of databases. Contract
tests void, restore and compare in both kinds in any case.
"""

from collections.abc import Callable
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from msgspec import convert
from sqlalchemy import delete, select, update

from bandits.actors import Actor, actor_of
from bandits.engine import Engine
from bandits.engine.fold import rebuild
from bandits.engine.sums import Sums, load_sums
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request, Reward
from bandits.store.values import Deeds
from storage import SqlStore
from storage.schema import (
    PLACES,
    activations,
    batches,
    cancellations,
    decisions,
    events,
    experiments,
    voids,
)
from tests.conftest import SOAK, Makers

NEWSLETTER, SHOP, STOLEN = (actor_of("key", number) for number in (1, 2, 3))
CALLS = 20_000 if SOAK else 3_000
WAVE = CALLS // 15
RATES = {"a": 0.16, "b": 0.08, "c": 0.08}
ROUNDING = {"rel": 1e-9, "abs": 1e-9}


class Campaign:
    """A campaign of three versions, of which a is the best, and its honest senders."""

    def __init__(self, engine: Engine, now: list[float], **declared: Any) -> None:
        self.engine, self.now = engine, now
        self.random = Random(8)
        self.honest: list[Decision] = []
        self._count = 0
        standard = {
            "key": "spring",
            "slots": [{"key": "subject_line", "variants": [{"key": v} for v in "abc"]}],
            "policy": {"name": "thompson"},
            "floor": 0.01,
            "reward": {
                "metrics": {"click": {}},
                "window_seconds": 10_000.0,
                "maturity_seconds": 100.0,
            },
        }
        engine.create(convert(standard | declared, Experiment), by="anna")
        engine.start("spring", by="anna")

    def choose(self, actor: Actor, n: int, **options: Any) -> list[Decision]:
        """Ask for n emails."""
        first, self._count = self._count, self._count + n
        numbers = range(first, first + n)  # ids follow, and so does every draw
        requests = [Request(f"u-{i}", decision_id=f"d-{i}", **options) for i in numbers]
        made: list[Decision] = []
        for start in range(0, n, 5_000):
            part = requests[start : start + 5_000]
            made += self.engine.choose("spring", part, actor=actor)
        return made

    def send(self, n: int) -> None:
        """Send n emails by both honest senders; recipients click as they do."""
        for actor in (NEWSLETTER, SHOP):
            made = self.choose(actor, n // 2)
            self.honest += made
            clicked = [d for d in made if self.random.random() < RATES[variant(d)]]
            self.engine.reward([Reward(d.decision_id, "e", "click") for d in clicked], actor=actor)

    def wave(self, hostile: Callable[[], object] = lambda: None) -> None:
        """Send a wave, and have it learned."""
        self.now[0] += 200.0
        self.send(WAVE)
        hostile()
        self.now[0] += 200.0
        while self.engine.learn("spring"):
            pass

    def close(self) -> None:
        """Let the windows of all emails so far close."""
        self.now[0] += 10_000.0
        while self.engine.learn("spring"):
            pass

    def share(self, version: str) -> float:
        """Return the share of a version now."""
        arms = self.engine.results("spring").arms
        (share,) = (a.share_now for a in arms if a.variants["subject_line"] == version)
        assert share is not None
        return share

    def alarms(self) -> dict[tuple[int, str], float]:
        """Return what health says of keys: key and check, and the share it is about."""
        return {(a.key, a.check): a.share for a in self.engine.results("spring").health.senders}

    def void(self, actor: Actor) -> int:
        """Void all that a key did; return how many emails left."""
        deeds = Deeds(actor, 0.0, self.now[0])
        assert self.engine.void(deeds, by="anna", dry_run=True).dry_run
        (part,) = self.engine.void(deeds, by="anna", experiment="spring").experiments
        return part.decisions


@pytest.fixture(params=["sqlite", "postgresql"] if SOAK else ["sqlite"])
def makers(request: pytest.FixtureRequest) -> Makers:
    """Kinds of databases to attack."""
    makers: Makers = request.getfixturevalue(request.param)
    return makers


@pytest.fixture
def engine(store: SqlStore, now: list[float]) -> Engine:
    """An engine whose draws are the same in every run."""
    return Engine(store, lambda: now[0], lambda n: b"s" * n)


def variant(decision: Decision) -> str:
    """Return the version of an email."""
    return str(decision.slots["subject_line"]["variant"])


def stored(store: SqlStore) -> Sums:
    """Read the sums of the newest snapshot."""
    record = store.experiments.record("spring")
    snapshot = store.snapshots.snapshot("spring", record.learned_version)
    return load_sums(record.configuration, snapshot)


def rebuilt_without(store: SqlStore, actor: Actor) -> Sums:
    """Delete every row that an actor wrote, and what voids it, and sum the log anew."""
    with store.database.writing() as transaction:
        run = transaction.execute
        numbers = list(run(select(batches.c.id).where(batches.c.actor == actor)).scalars())
        for number in numbers:
            chosen = decisions.c.serial.between(number * PLACES, number * PLACES + PLACES - 1)
            serials = list(run(select(decisions.c.serial).where(chosen)).scalars())
            for table in (events, activations, cancellations):
                if serials:
                    run(delete(table).where(transaction.is_any(table.c.decision, serials)))
                run(delete(table).where(table.c.batch_id == number))
            run(delete(decisions).where(chosen))
        run(delete(batches).where(transaction.is_any(batches.c.id, numbers)))
        run(delete(voids))
        run(update(experiments).values(voided=None))
    store.experiments.forget("spring")
    with store.snapshots.audit("spring") as audit:
        return rebuild(audit)


def agree(one: Sums, other: Sums) -> None:
    """Compare all sums, to rounding."""
    for name in ("statistic", "counts", "senders"):
        a, b = getattr(one, name), getattr(other, name)
        for f in fields(a):
            assert getattr(a, f.name) == pytest.approx(getattr(b, f.name), **ROUNDING), f.name
    both = one.inference + other.inference
    parts = other.inference.parts(like=both)
    for name, array in one.inference.parts(like=both).items():
        assert array == pytest.approx(parts[name], **ROUNDING), name


def test_calls_that_poison_the_winner_are_found_and_voided_without_a_trace(
    engine: Engine, store: SqlStore, now: list[float]
) -> None:
    campaign = Campaign(engine, now)
    for _ in range(8):
        campaign.wave()
    assert campaign.share("a") > 0.9
    assert campaign.alarms() == {}

    def poison() -> None:
        campaign.choose(STOLEN, CALLS // 2, eligible={"subject_line": ["a"]})

    campaign.wave(poison)
    campaign.wave(poison)
    assert campaign.share("a") < 0.1
    assert campaign.alarms().keys() == {(3, "restricted")}
    campaign.close()
    assert campaign.alarms().keys() == {(3, "restricted"), (3, "unanswered")}
    receipts = [engine.receipt(d.decision_id or "") for d in campaign.honest[-50:]]
    assert campaign.void(STOLEN) == CALLS
    assert campaign.share("a") > 0.9
    assert campaign.alarms() == {}
    assert engine.results("spring").health.voided == CALLS
    assert [engine.receipt(r.decision_id) for r in receipts] == receipts
    assert all(r.derived for r in receipts)
    campaign.wave()
    agree(stored(store), rebuilt_without(store, STOLEN))


def test_cancelling_what_was_drawn_is_found_and_voided(
    engine: Engine, store: SqlStore, now: list[float]
) -> None:
    campaign = Campaign(engine, now, policy={"name": "uniform"})

    def drop() -> None:
        made = campaign.choose(STOLEN, CALLS // 6)
        unwanted = [d.decision_id for d in made if variant(d) != "a" and d.decision_id]
        assert engine.cancel(unwanted, actor=STOLEN).accepted == len(unwanted)

    campaign.wave()
    assert campaign.alarms() == {}
    campaign.wave(drop)
    assert campaign.alarms() == {(3, "split"): pytest.approx(1.0)}
    verdict = engine.results("spring").verdict
    assert (verdict.action, verdict.reason) == ("check_health", "sender")
    assert verdict.sender is not None
    assert verdict.sender.key == 3
    campaign.void(STOLEN)
    assert campaign.alarms() == {}
    assert engine.results("spring").verdict.reason != "sender"
    campaign.wave()
    agree(stored(store), rebuilt_without(store, STOLEN))


def test_cancelling_what_was_answered_is_found(engine: Engine, now: list[float]) -> None:
    campaign = Campaign(engine, now)

    def hide() -> None:
        made = campaign.choose(STOLEN, CALLS // 6)
        clicked = [d.decision_id for d in made if campaign.random.random() < RATES[variant(d)]]
        ids = [i for i in clicked if i]
        engine.reward([Reward(i, "e", "click") for i in ids], actor=STOLEN)
        now[0] += 10.0
        engine.cancel(ids, actor=STOLEN)

    campaign.wave(hide)
    assert (3, "cancelled") in campaign.alarms()


def test_key_whose_emails_a_manager_reports_as_sent_is_not_alarmed_about(
    engine: Engine, now: list[float]
) -> None:
    """Before: each key alarmed whose emails another one reported as sent."""
    campaign = Campaign(engine, now, await_activation=True)
    made = campaign.choose(NEWSLETTER, 100) + campaign.choose(SHOP, 100)
    campaign.choose(STOLEN, 100)
    manager = actor_of("key", 9)
    engine.activate([d.decision_id for d in made if d.decision_id], actor=manager)
    engine.learn("spring")
    now[0] += 86_401.0
    engine.learn("spring")
    assert campaign.alarms() == {(3, "never_activated"): 0.0}


@pytest.mark.parametrize("declared", [False, True])
def test_cancelling_what_bounced_is_no_alarm_unless_a_bounce_counts(
    engine: Engine, now: list[float], declared: bool
) -> None:
    """Before: whoever tidied up after bounces seemed to cancel by results."""
    metrics = {"click": {}, **({"bounce": {"weight": -1.0}} if declared else {})}
    rule = {"metrics": metrics, "window_seconds": 10_000.0, "maturity_seconds": 100.0}
    campaign = Campaign(engine, now, reward=rule, policy={"name": "uniform"})

    def tidy() -> None:
        made = campaign.choose(SHOP, CALLS // 6)
        ids = [d.decision_id for d in made[::10] if d.decision_id]
        engine.reward(
            [Reward(i, "connection:m:b", "bounce") for i in ids], actor=actor_of("connection", "m")
        )
        now[0] += 10.0
        assert engine.cancel(ids, actor=SHOP).accepted == len(ids)

    campaign.wave(tidy)
    assert ((2, "cancelled") in campaign.alarms()) == declared
    verdict = engine.results("spring").verdict
    assert (verdict.reason == "sender") == declared


def test_key_that_never_reports_its_emails_as_sent_is_found(
    engine: Engine, now: list[float]
) -> None:
    campaign = Campaign(engine, now, await_activation=True)
    made = campaign.choose(NEWSLETTER, 100)
    campaign.choose(STOLEN, 100)
    engine.activate([d.decision_id for d in made if d.decision_id], actor=NEWSLETTER)
    engine.learn("spring")
    now[0] += 86_401.0
    engine.learn("spring")
    assert campaign.alarms() == {(3, "never_activated"): 0.0}
