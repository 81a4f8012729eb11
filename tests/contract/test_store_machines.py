"""Machines' opens and clicks are left out, in every database, and sums agree with the log."""

from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import select

from bandits.actors import PROGRAM
from bandits.engine import Engine
from bandits.engine.rescore import rescore
from bandits.engine.sums import load_sums
from bandits.schemas import Request, Reward, Tracking, Withdrawal
from bandits.store.values import Deeds
from storage import open_store
from storage.schema import batches, metadata, network_counts
from storage.snapshots.verify import compare
from tests.conftest import Sender

HOUR = 3600.0
NOW = 1_800_000_000.0  # at the beginning of a minute
RULE = {
    "metrics": {"click": {}, "order": {"count": "sum", "high": 100.0}},
    "window_seconds": 100 * HOUR,
    "maturity_seconds": HOUR,
}
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
HOME, OFFICE, FLEET = "198.51.100.7", "203.0.113.9", "192.0.2.30"


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture
def mail(engine, sender, now):
    return Mail(engine, sender, now)


class Mail:
    """A campaign whose recipients and scanners follow links."""

    def __init__(self, engine: Engine, sender, now: list[float]) -> None:
        self.engine, self.sender, self.now = engine, sender, now
        self.store = engine.store
        self._count = iter(range(10**6))

    def start(self, key: str = "spring", rules: int | None = 1, **declared) -> None:
        self.sender.start(key, **({"reward": RULE, "machine_rules": rules} | declared))

    def send(self, n: int, key: str = "spring", prefix: str = "u") -> list[str]:
        """Choose for n recipients, all in this moment."""
        made = self.engine.choose(key, [Request(f"{prefix}-{i}") for i in range(n)])
        return [d.decision_id for d in made]

    def report(self, decision_id: str, link: int = 1, ip: str = HOME, **more) -> Reward:
        """Describe a click of a link that happens now; of link 0, an open."""
        at = more.pop("at", self.now[0])
        metric = more.pop("metric", "click" if link else "open")
        url = f"https://shop.example/{link}" if link else None
        tracking = Tracking(ip=ip, user_agent=CHROME, url=url, recipient="ann@gmail.com")
        happened = datetime.fromtimestamp(at, UTC)
        event_id = f"e-{next(self._count)}"
        return Reward(decision_id, event_id, metric, 1.0, happened, replace(tracking, **more))

    def click(self, *rewards: Reward) -> None:
        receipt = self.engine.reward(rewards)
        assert receipt.accepted == len(rewards), receipt

    def sweep(self, decision_id: str, ip: str = FLEET, links: int = 6) -> None:
        """Have a scanner follow all links at once."""
        self.click(*(self.report(decision_id, link, ip) for link in range(1, links + 1)))

    def learn(self, after: float = 121.0, key: str = "spring") -> None:
        self.now[0] += after
        self.engine.learn(key)

    def sums(self, key: str = "spring"):
        """Read every sum, after seeing that the log says the same."""
        with self.store.snapshots.audit(key) as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        record = self.store.experiments.record(key)
        version = record.learned_version
        snapshot = self.store.snapshots.snapshot(key, version) if version else None
        return load_sums(record.configuration, snapshot)

    def clicked(self, key: str = "spring") -> float:
        """Count the emails that count as clicked so far."""
        events = self.sums(key).inference.events
        return float(events.counts(["click"])[0][0, 0].sum())

    def reasons(self, key: str = "spring") -> dict[str, int]:
        result = self.engine.set_aside(key)
        return {row.reason: row.total for row in result.reasons}

    def edit(self, rules: int | None, key: str = "spring") -> None:
        configuration = self.store.experiments.record(key).configuration
        changed = replace(configuration.experiment, machine_rules=rules)
        self.engine.edit(key, changed, version=configuration.version, by="test")


def agree(one, other):
    """Compare two experiments' sums, each part of them."""
    for name in ("statistic", "counts"):
        a, b = getattr(one, name), getattr(other, name)
        for f in fields(a):
            assert getattr(a, f.name) == pytest.approx(getattr(b, f.name)), f.name
    both = one.inference + other.inference
    parts = other.inference.parts(like=both)
    for name, array in one.inference.parts(like=both).items():
        assert array == pytest.approx(parts[name]), name
    assert one.verdicts.keys == other.verdicts.keys
    assert one.verdicts.counts == pytest.approx(other.verdicts.counts)


def test_clicks_of_a_scan_are_set_aside_and_a_persons_counts(mail):
    mail.start()
    person, scanned = mail.send(2)
    mail.now[0] += 600.0
    mail.click(mail.report(person))
    mail.sweep(scanned)
    mail.learn()
    assert mail.clicked() == 1
    assert mail.reasons() == {"sweep": 6}
    (click,) = mail.engine.set_aside("spring").events
    assert (click.name, click.persons, click.set_aside, click.not_judged) == ("click", 1, 6, 0)
    mail.learn(2 * HOUR)
    assert mail.sums().counts.reward.sum() == 1


def test_without_rules_every_click_counts_at_once(mail):
    mail.start(rules=None)
    person, scanned = mail.send(2)
    mail.now[0] += 600.0
    mail.click(mail.report(person))
    mail.sweep(scanned)
    mail.learn(1.0)
    assert mail.clicked() == 2
    assert mail.engine.set_aside("spring").events == []


def test_click_without_its_request_counts_at_once_under_rules_too(mail):
    mail.start()
    (first, second) = mail.send(2)
    mail.engine.reward([Reward(first, "e", "click")])  # at the very moment it was chosen
    mail.now[0] += 600.0
    mail.click(mail.report(second))
    mail.learn(1.0)
    assert mail.clicked() == 1
    assert mail.store.snapshots.backlog(mail.now[0]) == {}  # nothing that a fold would take
    mail.learn()
    assert mail.clicked() == 2
    (click,) = mail.engine.set_aside("spring").events
    assert (click.persons, click.not_judged) == (1, 1)


def test_clicks_wait_until_their_networks_are_counted(mail):
    mail.start()
    mail.send(5)
    (decision,) = mail.send(1, prefix="v")
    mail.learn(600.0)
    mail.click(mail.report(decision))
    mail.learn(119.0)
    assert mail.clicked() == 0
    mail.learn(1.0)
    assert mail.clicked() == 1


def test_later_sweep_takes_back_a_click_that_counted(mail):
    mail.start()
    (decision,) = mail.send(1)
    mail.now[0] += 600.0
    at = mail.now[0]
    mail.click(mail.report(decision, 1, FLEET, at=at))
    mail.learn(2 * HOUR)  # learned
    assert mail.clicked() == 1
    assert mail.sums().counts.reward.sum() == 1
    mail.click(*(mail.report(decision, link, FLEET, at=at + 1) for link in range(2, 7)))
    mail.learn()
    assert mail.clicked() == 0
    assert mail.sums().counts.reward.sum() == 0
    assert mail.reasons() == {"sweep": 6}


def test_later_delivery_changes_what_was_too_soon(mail):
    mail.start()
    (decision,) = mail.send(1)
    at = mail.now[0] + HOUR
    mail.now[0] = at + 5.0
    mail.click(mail.report(decision, at=at + 5.0))
    mail.learn(2 * HOUR)
    assert mail.clicked() == 1
    delivered = datetime.fromtimestamp(at, UTC)
    mail.engine.reward([Reward(decision, "d", "delivered", occurred_at=delivered)])
    mail.learn(1.0)
    assert mail.clicked() == 0
    assert mail.reasons() == {"instant": 1}


def test_network_that_swept_others_is_known_to_every_campaign(mail):
    mail.start()
    mail.start("autumn")
    scanned = mail.send(3)
    mail.now[0] += 60.0
    for decision in scanned:
        mail.sweep(decision)
    mail.learn()
    (other,) = mail.send(1, "autumn")
    mail.now[0] += 60.0
    mail.click(mail.report(other, 1, FLEET))
    mail.learn(key="autumn")
    assert mail.clicked("autumn") == 0
    assert mail.reasons("autumn") == {"scanner": 1}


def test_frozen_counts_stay_whatever_comes_later(mail):
    mail.start()
    decisions = mail.send(8)
    mail.now[0] += 20.0  # five emails of a network within half a minute make it busy
    at = mail.now[0]
    mail.click(mail.report(decisions[0], at=at))
    mail.learn()
    assert mail.clicked() == 1
    before = rows(mail.store)
    mail.click(*(mail.report(d, at=at) for d in decisions[1:]))
    mail.learn()
    assert rows(mail.store) == before
    assert mail.clicked() == 8  # they are in no row, so the network was not busy


def test_busy_network_is_known_before_any_of_its_clicks_counts(mail):
    mail.start()
    decisions = mail.send(8)
    mail.now[0] += 20.0
    mail.click(*(mail.report(d) for d in decisions))
    mail.learn()
    assert mail.clicked() == 0
    assert mail.reasons() == {"early": 8}


def test_decisions_of_one_recipient_in_a_minute_are_one_email_of_a_network(mail):
    mail.start()
    mail.start("autumn")
    for key in ("spring", "autumn"):
        decisions = mail.send(3, key)
        mail.click(*(mail.report(d, at=NOW) for d in decisions))
    mail.learn()
    ((_, _, emails, *_),) = rows(mail.store)
    assert emails == 3


def test_open_from_a_network_without_clicks_is_settled_too(mail):
    mail.start()
    (decision, *others) = mail.send(3)
    mail.now[0] += 60.0
    at = mail.now[0]
    mail.click(mail.report(decision, 0, FLEET, at=at))
    mail.learn()
    for other in others:  # reported later, of the same minute: it would speak against the open
        mail.click(*(mail.report(other, link, FLEET, at=at) for link in range(1, 7)))
    mail.learn()
    events = mail.sums().inference.events
    assert events.counts(["open"])[0][0, 0].sum() == 1


def rows(store):
    with store.database.reading() as transaction:
        query = select(network_counts).order_by(network_counts.c.network, network_counts.c.minute)
        return [tuple(row) for row in transaction.execute(query)]


def test_address_program_and_link_are_stored_nowhere(mail):
    mail.start()
    (decision,) = mail.send(1)
    mail.click(mail.report(decision, 5, OFFICE, recipient="ann@gmail.com"))
    mail.learn()
    with mail.store.database.reading() as transaction:
        cells = {
            str(value)
            for table in metadata.tables.values()
            for row in transaction.execute(select(table))
            for value in row
        }
    words = (OFFICE, "shop.example", "Chrome", "gmail.com")
    assert [cell for cell in cells if any(word in cell for word in words)] == []


@pytest.mark.parametrize("n", [3, 600])
def test_events_with_their_request_and_without_are_appended_in_turn(mail, n):
    mail.start()
    ids = mail.send(n)
    mail.now[0] += 600.0
    for turn in range(2):
        mail.engine.reward([Reward(i, f"plain-{turn}", "open") for i in ids])
        mail.click(*(mail.report(i, turn, HOME) for i in ids))
    events = mail.store.log.events(ids[0])
    assert sorted((e.metric, e.trace is None) for e in events) == [
        *[("click", False), ("open", False)],
        *[("open", True), ("open", True)],
    ]
    mail.learn()
    assert mail.clicked() == n


def test_hash_of_a_network_is_of_its_installation_alone(mail, store, makers):
    from storage import open_store  # noqa: PLC0415 - beside the store of the test

    other = open_store(makers.upgraded())
    assert store.log.trace_key() == store.log.trace_key()
    assert store.log.trace_key() != other.log.trace_key()
    other.close()


# Another version of the rules


def played(mail, key, rules):
    """Play a campaign whose machines and people do the same, whatever the rules."""
    mail.start(key, rules)
    rng = np.random.default_rng(5)
    for day in range(3):
        ids = mail.send(12, key, f"{key}-{day}")
        mail.now[0] += 300.0
        for i, decision in enumerate(ids):
            if i % 3 == 0:
                mail.click(mail.report(decision, int(rng.integers(1, 4))))
            if i % 4 == 0:
                mail.sweep(decision)
        mail.learn(600.0, key)
        mail.learn(HOUR, key)
        mail.now[0] = NOW + (day + 1) * 24 * HOUR


@pytest.mark.parametrize("policy", ["thompson_gaussian", "logistic_thompson"])
def test_change_of_the_rules_gives_what_they_would_have_given_from_the_start(mail, policy):
    declared = {"policy": {"name": policy}, "reward": RULE | {"metrics": {"click": {}}}}
    mail.start("autumn", None, **declared)
    mail.start("spring", 1, **declared)
    for key in ("autumn", "spring"):
        mail.now[0] = NOW
        ids = mail.send(20, key, key)
        mail.now[0] += 300.0
        for i, decision in enumerate(ids):
            if i % 3 == 0:
                mail.click(mail.report(decision, 1 + i % 2))
            if i % 4 == 0:
                mail.sweep(decision)
    mail.now[0] += 2 * HOUR
    for key in ("autumn", "spring"):
        mail.learn(1.0, key)
    assert mail.clicked("autumn") > mail.clicked("spring")
    mail.edit(1, "autumn")
    assert mail.engine.set_aside("autumn").rescored == 0.0
    mail.learn(1.0, "autumn")
    assert mail.engine.rescore("autumn")
    one, other = (mail.sums(key) for key in ("autumn", "spring"))
    assert one.verdicts.counts.sum() == other.verdicts.counts.sum() > 0
    assert mail.clicked("autumn") == mail.clicked("spring")
    assert mail.engine.set_aside("autumn").rescored is None


def test_rescoring_in_portions_agrees_with_the_log_at_every_place(mail):
    played(mail, "spring", None)
    before = mail.sums()
    mail.edit(1)
    mail.learn(1.0)
    portions = 0
    while not rescore(
        mail.store, "spring", now=mail.now[0], between=lambda: None, most=5, portions=1
    ):
        portions += 1
        mail.sums()
        if portions == 1:
            assert 0 < mail.engine.set_aside("spring").rescored < 1
            late = mail.send(2, prefix="late")  # behind the place
            mail.now[0] += 300.0
            mail.sweep(late[0])
            mail.click(mail.report(late[1]))
        mail.learn(130.0)
        mail.sums()
    assert portions >= 3
    assert mail.reasons()["sweep"] == 3 * 3 * 6 + 6
    mail.edit(None)
    assert mail.engine.rescore("spring")
    assert mail.engine.set_aside("spring").events == []
    after = mail.sums()
    assert (
        after.inference.events.counts(["click"])[0].sum()
        > before.inference.events.counts(["click"])[0].sum()
    )


def test_interrupted_rescoring_changes_nothing(mail):
    played(mail, "spring", None)
    mail.edit(1)
    mail.learn(1.0)
    before = mail.sums()
    with mail.store.snapshots.rescore("spring", now=mail.now[0], most=5) as portion:
        assert portion.due is not None
    agree(mail.sums(), before)
    assert mail.engine.rescore("spring")
    assert mail.reasons()["sweep"] == 54


def test_rules_wait_for_networks_of_clicks_that_counted_at_once(mail):
    mail.start(rules=None)
    decisions = mail.send(8)
    mail.now[0] += 20.0
    mail.click(*(mail.report(d) for d in decisions))
    mail.learn(1.0)
    assert mail.clicked() == 8
    mail.edit(1)
    mail.learn(1.0)
    assert mail.engine.rescore("spring")  # nothing can be done yet
    assert mail.clicked() == 8
    mail.learn()
    assert mail.engine.rescore("spring")
    assert mail.clicked() == 0
    assert mail.reasons() == {"early": 8}


def test_rescoring_leaves_what_was_removed_and_says_so(mail):
    played(mail, "spring", None)
    record = mail.store.experiments.record("spring")
    before = mail.clicked()
    mail.now[0] += 101 * HOUR
    mail.learn(1.0)
    changed = replace(record.configuration.experiment, retention_days=5)
    mail.engine.edit("spring", changed, version=record.configuration.version, by="test")
    assert mail.engine.retain("spring") > 0
    removed = mail.engine.retain("spring")
    assert removed == 0
    mail.edit(1)
    mail.learn(1.0)
    mail.engine.rescore("spring")
    left = mail.engine.set_aside("spring").left
    assert 0 < left <= 36
    assert 0 < mail.clicked() <= before


def test_rescoring_leaves_a_final_result(mail):
    played(mail, "spring", None)
    mail.edit(1)
    mail.engine.stop("spring", by="test")
    mail.now[0] += 101 * HOUR
    mail.learn(1.0)
    before = mail.clicked()
    assert mail.engine.rescore("spring")
    assert mail.clicked() == before
    result = mail.engine.set_aside("spring")
    assert (result.final, result.rules, result.in_force, result.rescored) == (True, 1, None, None)


def test_earlier_versions_are_rebuilt_as_they_were_judged(mail):
    played(mail, "spring", None)
    first = mail.store.experiments.record("spring").learned_version
    stored = mail.store.snapshots.snapshot("spring", first)
    mail.edit(1)
    mail.learn(1.0)
    assert mail.engine.rescore("spring")
    with mail.store.snapshots.audit("spring", first) as audit:
        compared = {c.name: c for c in compare(audit, lambda _: None)}
    assert compared["arm_counts.reward"].differences() == []
    assert stored.version == first


# Beside everything else that takes decisions out


@pytest.mark.parametrize("seed", range(2))
def test_withdrawn_clicks_and_hits_leave_what_a_log_without_them_has(  # noqa: PLR0913, PLR0917 - fixtures
    mail, engine, now, makers, tmp_path, seed
):
    """A person's click, a hit of a scan, and so many hits that what is left is no scan."""
    draws = np.random.default_rng(seed)
    url = makers.upgraded()
    other = open_store(url, spool_folder=tmp_path / "other")
    try:
        plain = Mail(Engine(other, engine.clock), Sender(other), now)
        mail.start()
        plain.start()
        ids = [f"d-{i}" for i in range(12)]
        requests = [Request(f"u-{i}", decision_id=i) for i in ids]
        for log in (mail, plain):
            log.engine.choose("spring", requests)
        now[0] += 600.0
        withdrawn: list[tuple[str, str]] = []
        for place, decision_id in enumerate(ids):
            ip = f"198.51.{place}.7"  # a network each, since counts of networks keep what they saw
            links = 1 if place % 3 == 0 else 6
            hits = [mail.report(decision_id, link, ip) for link in range(1, links + 1)]
            taken_back = {0: draws.integers(0, 2), 1: 1, 2: 5}[place % 3]
            withdrawn += [(decision_id, hit.event_id) for hit in hits[:taken_back]]
            mail.click(*hits)
            plain.click(*hits[taken_back:])
        for place in draws.permutation(len(withdrawn)).tolist():
            row = Withdrawal(*withdrawn[place])
            mail.engine.withdraw([row], actor=PROGRAM, own_only=False, partial=False)
            if draws.random() < 0.3:
                mail.learn()
        for after in (HOUR, 101 * HOUR):
            for log in (mail, plain):
                log.learn(after / 2)
            now[0] += after
        for log in (mail, plain):
            log.learn()
        agree(mail.sums(), plain.sums())
        assert mail.reasons() == plain.reasons() == {"sweep": 20}
        assert mail.clicked() == 8 - sum(1 for i, _ in withdrawn if int(i[2:]) % 3 == 0)
    finally:
        other.close()
        makers.give_back(url)


def test_erasure_and_voids_take_out_what_was_judged(mail):
    mail.start()
    ids = mail.send(6)
    mail.now[0] += 300.0
    for decision in ids:
        mail.sweep(decision)
    mail.click(*(mail.report(d, 1, HOME, at=mail.now[0] + 60) for d in ids))
    mail.now[0] += 60.0
    mail.learn(2 * HOUR)
    assert mail.reasons() == {"sweep": 36}
    mail.engine.erase("u-0", by="test")
    assert mail.reasons() == {"sweep": 30}
    mail.engine.cancel([ids[1]])
    mail.learn(1.0)
    assert mail.reasons() == {"sweep": 24}
    mail.sums()
    mail.engine.void(Deeds(PROGRAM, NOW + 1, mail.now[0]), by="test", experiment="spring")
    assert mail.reasons() == {}
    mail.sums()


def test_retention_keeps_counts_of_what_was_set_aside(mail):
    mail.start(retention_days=5)
    ids = mail.send(4)
    mail.now[0] += 300.0
    for decision in ids:
        mail.sweep(decision)
    mail.learn(2 * HOUR)
    mail.now[0] += 200 * HOUR
    mail.learn(1.0)
    assert mail.engine.retain("spring") == 4
    assert mail.reasons() == {"sweep": 24}
    mail.sums()
    assert rows(mail.store) != []
    mail.now[0] += 30 * 24 * HOUR
    mail.engine.prune_networks()
    assert rows(mail.store) == []


def test_counts_of_networks_stay_while_the_log_has_such_emails(mail):
    mail.start()
    (decision,) = mail.send(1)
    mail.now[0] += 300.0
    mail.sweep(decision)
    mail.learn()
    before = rows(mail.store)
    mail.now[0] += 400 * 24 * HOUR
    mail.engine.prune_networks()
    assert rows(mail.store) == before != []


def test_upgraded_log_without_traces_is_folded_as_before(mail):
    mail.start()
    ids = mail.send(3)
    mail.engine.reward([Reward(i, "e", "click") for i in ids])
    mail.learn(1.0)
    assert mail.clicked() == 3
    with mail.store.database.reading() as transaction:
        assert transaction.execute(select(batches.c.freezes_at).distinct()).scalars().all() == [
            None
        ]


class Course:
    """One campaign of a random course: each step does one thing, and the sums are compared."""

    def __init__(self, mail: Mail, rules: int | None) -> None:
        self.mail, self.key = mail, f"spring-{next(mail._count)}"
        mail.start(self.key, rules, reward=RULE | {"window_seconds": 3 * HOUR})
        self.ids = mail.send(4, self.key, self.key)

    def step(self, kind: str, number: int) -> None:
        rng = np.random.default_rng(number)
        self.mail.now[0] += float(rng.choice([1.0, 20.0, 70.0, 130.0, HOUR]))
        decision = self.ids[rng.integers(len(self.ids))]
        network = [HOME, FLEET, OFFICE][rng.integers(3)]
        getattr(self, kind)(rng, decision, network)
        self.mail.sums(self.key)

    def send(self, _rng, _decision, _network):
        self.ids += self.mail.send(3, self.key, f"{self.key}-{len(self.ids)}")

    def click(self, rng, decision, network):
        self.mail.engine.reward([self.mail.report(decision, int(rng.integers(0, 5)), network)])

    def scan(self, _rng, decision, network):
        self.mail.engine.reward([self.mail.report(decision, i, network) for i in range(1, 7)])

    def late(self, _rng, decision, network):
        at = self.mail.now[0] - 200.0
        self.mail.engine.reward([self.mail.report(decision, 2, network, at=at)])

    def deliver(self, rng, decision, _network):
        self.mail.engine.reward([Reward(decision, f"d-{rng.integers(9)}", "delivered")])

    def cancel(self, _rng, decision, _network):
        self.mail.engine.cancel([decision])

    def fold(self, *_):
        self.mail.engine.learn(self.key)

    def rules(self, rng, _decision, _network):
        self.mail.edit(None if rng.random() < 0.5 else 1, self.key)

    def rescore(self, *_):
        now = self.mail.now[0]
        rescore(self.mail.store, self.key, now=now, between=lambda: None, most=3, portions=1)


KINDS = ("send", "click", "scan", "late", "deliver", "cancel", "fold", "fold", "rules", "rescore")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16)), min_size=6, max_size=20)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, rules=st.sampled_from([None, 1]))
def test_folds_agree_with_the_log_whatever_happens_in_whatever_order(mail, steps, rules):
    mail.now[0] += HOUR
    course = Course(mail, rules)
    for kind, number in steps:
        course.step(kind, number)
    mail.learn(2 * HOUR, course.key)
    assert mail.engine.rescore(course.key)
    mail.sums(course.key)
    result = mail.engine.set_aside(course.key)
    assert (result.in_force, result.rescored) == (result.rules, None)
