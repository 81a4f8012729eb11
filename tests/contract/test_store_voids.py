"""What an actor did is void: all is as if it had never been, in every database, and comes back."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from sqlalchemy import select

from bandits.actors import PROGRAM, actor_of
from bandits.engine import Engine
from bandits.engine.fold import fold
from bandits.engine.sums import load_sums
from bandits.errors import InvalidInput, NotFound, WrongState
from bandits.schemas import Request, Reward
from bandits.store.values import Deeds, Event
from storage.schema import snapshots, subjects
from storage.snapshots import backlog
from storage.snapshots.verify import compare

HONEST, THIEF = actor_of("key", 1), actor_of("key", 2)
CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
FORGETTING = {
    "never": None,
    "half-life": {"half_life_seconds": 30.0},
    "window": {"window_seconds": 25.0},
}
ROUNDING = {"rel": 1e-9, "abs": 1e-9}
ONLY_A = b'{"subject":["a"]}'


def sums_of(store, key):
    """Read every sum of an experiment, after seeing that its log says the same."""
    with store.snapshots.audit(key) as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    record = store.experiments.record(key)
    version = record.learned_version
    snapshot = store.snapshots.snapshot(key, version) if version else None
    return load_sums(record.configuration, snapshot)


def void(engine, until, *, since=0.0, experiment="spring"):
    """Void what the thief did in one experiment."""
    receipt = engine.void(Deeds(THIEF, since, until), by="anna", experiment=experiment)
    (part,) = receipt.experiments
    return part


def agree(one, other):
    """Compare two experiments' sums, each part of them."""
    for name in ("statistic", "counts"):
        a, b = getattr(one, name), getattr(other, name)
        for f in fields(a):
            assert getattr(a, f.name) == pytest.approx(getattr(b, f.name), **ROUNDING), f.name
    both = one.inference + other.inference
    parts = other.inference.parts(like=both)
    for name, array in one.inference.parts(like=both).items():
        assert array == pytest.approx(parts[name], **ROUNDING), name
    keys = np.union1d(one.senders.keys, other.senders.keys)
    for name in ("counts", "ratio"):
        a, b = (getattr(s.senders.spread(keys), name) for s in (one, other))
        assert a == pytest.approx(b, **ROUNDING), name


class Campaigns:
    """Three experiments: the thief acts in ``spring`` and ``whole``; in ``clean`` nobody does."""

    KEYS = ("spring", "whole", "clean")

    def __init__(self, sender, **declared):
        self.sender, self.store = sender, sender.store
        rule = {"metrics": {"click": {}}, "window_seconds": 40.0, "maturity_seconds": 10.0}
        declared = {"reward": rule} | declared
        self.records = {key: sender.start(key, **declared) for key in self.KEYS}

    def choose(self, actor, name, n, *, at, **columns):
        """Decide for n subjects, of the same ids in every experiment but for its key."""
        for key, record in self._of(actor):
            d = record.configuration.experiment.encoder().n_features
            ids = [f"{key}-{name}-{i}" for i in range(n)]
            standard = {
                "ids": ids,
                "subjects": [f"{name}-{i}" for i in range(n)],
                "arms": np.arange(n) % 3,
                "contexts": np.stack([np.ones(n), *[np.arange(n) / n] * (d - 1)], axis=1),
            }
            chosen = self.sender.chosen(n, **(standard | columns))
            assert self.store.log.append_decisions(record, chosen, actor=actor, at=at) == {}

    def click(self, actor, name, numbers, *, at, event_id="e", metric="click"):  # noqa: PLR0913
        for key, _ in self._of(actor):
            ids = self._ids(key, name, numbers)
            told = self.sender.told([Event(i, event_id, metric, 1.0, at) for i in ids])
            assert self.store.log.append_events(told, actor=actor, at=at) == []

    def cancel(self, actor, name, numbers, *, at):
        for key, _ in self._of(actor):
            self.store.log.cancel(self._ids(key, name, numbers), actor=actor, at=at)

    def learn(self, *times):
        for at in times:
            for key in self.KEYS:
                while fold(self.store, key, now=at):
                    pass

    def agree(self, one, other):
        agree(sums_of(self.store, one), sums_of(self.store, other))

    def _of(self, actor):
        return [(k, r) for k, r in self.records.items() if actor == HONEST or k != "clean"]

    def _ids(self, key, name, numbers):
        return [f"{key}-{name}-{i}" for i in numbers]


def steal(campaigns):
    """Have the thief and honest senders do what they do, folds between; it is 30 then."""
    campaigns.choose(HONEST, "h", 12, at=1.0)
    campaigns.choose(THIEF, "t", 9, at=2.0, arms=np.zeros(9, int), eligible_sets=[ONLY_A] * 9)
    campaigns.click(HONEST, "h", [0, 1, 2], at=3.0)
    campaigns.learn(4.0)
    campaigns.click(THIEF, "t", [0, 1], at=5.0)
    campaigns.learn(13.0)  # all of these are learned
    campaigns.click(THIEF, "h", [3, 4, 5], at=14.0)  # false results of honest emails
    campaigns.click(THIEF, "h", [6], at=14.0, metric="open")
    campaigns.learn(15.0)
    campaigns.choose(THIEF, "u", 6, at=16.0)
    campaigns.cancel(THIEF, "u", [1, 2, 4], at=17.0)
    campaigns.choose(HONEST, "i", 6, at=18.0, holdout=np.arange(6) == 5)
    campaigns.learn(19.0)  # pending
    campaigns.choose(THIEF, "v", 3, at=20.0)  # not counted yet when they become void
    campaigns.click(THIEF, "h", [7], at=21.0)


@pytest.mark.parametrize(
    ("policy", "forgetting"),
    [
        ("thompson", "never"),
        ("thompson_gaussian", "half-life"),
        ("lints", "window"),
        ("logistic_thompson", "never"),
    ],
)
def test_void_leaves_every_sum_as_if_the_actor_had_never_been(
    engine, sender, now, policy, forgetting
):
    campaigns = Campaigns(
        sender,
        policy={"name": policy},
        context=CONTEXT if policy in {"lints", "logistic_thompson"} else [],
        forgetting=FORGETTING[forgetting],
        holdout=0.1,
    )
    steal(campaigns)
    now[0] = 30.0
    part = void(engine, 30.0)
    campaigns.learn(30.0)
    assert (part.decisions, part.events) == (15, 7)
    campaigns.agree("spring", "clean")
    campaigns.click(HONEST, "h", [3, 8], at=31.0, event_id="f")
    campaigns.choose(HONEST, "j", 5, at=31.0)
    campaigns.learn(32.0, 45.0)
    campaigns.agree("spring", "clean")
    now[0] = 46.0
    entry = engine.restore(part.void, by="anna")
    assert (entry.restored_by, entry.decisions) == ("anna", 15)
    campaigns.choose(HONEST, "k", 2, at=46.0)  # so that all are as of one moment
    campaigns.learn(46.0)
    campaigns.agree("spring", "whole")
    campaigns.learn(70.0)  # every window has closed
    campaigns.agree("spring", "whole")
    assert engine.results("spring").health.voided == 0


def test_void_of_cancellations_and_activations_undoes_them(engine, sender, now):
    campaigns = Campaigns(sender, await_activation=True)
    store = campaigns.store
    for name, n in (("h", 6), ("i", 4)):
        campaigns.choose(HONEST, name, n, at=1.0)
    for key in campaigns.KEYS:
        store.log.activate(campaigns._ids(key, "h", range(6)), actor=HONEST, at=2.0)
    campaigns.learn(3.0)
    for key in ("spring", "whole"):
        store.log.activate(campaigns._ids(key, "i", [0, 1]), actor=THIEF, at=4.0)
        store.log.cancel(campaigns._ids(key, "h", [0, 5]), actor=THIEF, at=4.0)
    campaigns.learn(20.0)
    now[0] = 21.0
    part = void(engine, 5.0, since=4.0)
    assert (part.decisions, part.activated, part.cancelled) == (0, 2, 2)
    campaigns.learn(21.0)
    campaigns.agree("spring", "clean")
    engine.restore(part.void, by="anna")
    campaigns.learn(21.0)
    campaigns.agree("spring", "whole")


@pytest.mark.parametrize("limit", [("MOST_ROWS", 10), ("MOST_BATCHES", 4)])
def test_void_is_made_in_portions_and_restored_as_one(engine, sender, now, monkeypatch, limit):
    monkeypatch.setattr(backlog, *limit)
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    for i in range(6):
        campaigns.choose(THIEF, f"t{i}", 6, at=2.0 + i)
        campaigns.click(THIEF, f"t{i}", [0], at=2.5 + i)
    campaigns.learn(9.0, 20.0)
    now[0] = 21.0
    part = void(engine, 8.0, since=3.0)
    campaigns.learn(21.0)
    assert sums_of(campaigns.store, "spring").counts.sent.sum() == 6 + 6
    (entry,) = engine.voids("spring")
    assert (entry.decisions, entry.since.timestamp(), entry.until.timestamp()) == (30, 3.0, 8.0)
    made = [c for c in campaigns.store.accounts.changes() if c.action == "void"]
    assert len(made) > 1
    assert {c.after["void"] for c in made} == {entry.id} == {part.void}
    engine.restore(entry.id, by="bert")
    campaigns.learn(21.0)
    campaigns.agree("spring", "whole")
    with pytest.raises(WrongState, match="was restored before"):
        engine.restore(entry.id, by="bert")


def test_void_of_the_same_twice_ends_once_both_are_restored(engine, sender, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    for at in (2.0, 3.0, 4.0):
        campaigns.choose(THIEF, f"t{at}", 3, at=at)
    campaigns.learn(20.0)
    now[0] = 21.0
    first = void(engine, 4.0, since=2.0)
    second = void(engine, 5.0, since=3.0)
    assert (first.decisions, second.decisions) == (6, 3)
    campaigns.learn(21.0)
    campaigns.agree("spring", "clean")
    assert campaigns.store.experiments.record("spring").voided == 9
    engine.restore(first.void, by="anna")
    assert campaigns.store.experiments.record("spring").voided == 6
    engine.restore(second.void, by="anna")
    campaigns.learn(21.0)
    campaigns.agree("spring", "whole")


def test_void_takes_in_what_is_committed_later_with_such_a_time(engine, sender, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.choose(THIEF, "t", 3, at=2.0)
    campaigns.learn(3.0)
    now[0] = 5.0
    void(engine, 5.0)
    campaigns.choose(THIEF, "u", 3, at=4.0)  # its transaction had begun then
    campaigns.learn(20.0)
    campaigns.agree("spring", "clean")


def test_void_keeps_receipts_of_others_and_earlier_snapshots(engine, sender, store, now):
    """The engine chooses here, so that shares follow from what was learned."""
    sender.start("spring", policy={"name": "thompson_gaussian"})
    for step in range(4):
        now[0] += 15.0
        honest = engine.choose(
            "spring", [Request(f"h-{step}-{i}") for i in range(20)], actor=HONEST
        )
        engine.choose("spring", [Request(f"t-{step}-{i}") for i in range(20)], actor=THIEF)
        engine.reward([Reward(d.decision_id, "e", "click") for d in honest[:5]], actor=HONEST)
        engine.learn("spring")
    ids = [d.decision_id for d in honest]
    before = [engine.receipt(i) for i in ids]
    assert all(receipt.derived for receipt in before)
    now[0] += 5.0
    void(engine, now[0])
    assert [engine.receipt(i) for i in ids] == before
    with store.database.writing() as transaction:  # as pruning does: an audit makes them again
        old = select(snapshots.c.version).order_by(snapshots.c.version)
        versions = list(transaction.execute(old).scalars())
    now[0] += 31 * 86_400.0
    engine.prune("spring")
    assert store.snapshots.snapshot("spring", versions[-2]).statistic == b""
    again = [engine.receipt(i) for i in ids]
    assert [r.propensities for r in again] == [
        pytest.approx(r.propensities, rel=1e-9) for r in before
    ]


def test_void_frees_subjects_and_restoring_keeps_who_was_decided_for_since(
    engine, sender, store, now
):
    sender.start(assignment="per_subject")
    stolen = engine.choose("spring", [Request("u-1"), Request("u-2"), Request("u-3")], actor=THIEF)
    kept = engine.choose("spring", [Request("u-4")], actor=HONEST)
    engine.learn("spring")
    now[0] = 20.0
    number = (
        engine.void(Deeds(THIEF, 0.0, 20.0), by="anna", experiment="spring").experiments[0].void
    )
    again = engine.choose("spring", [Request("u-1"), Request("u-4")], actor=HONEST)
    assert [d.repeat for d in again] == [False, True]
    assert again[1].decision_id == kept[0].decision_id
    engine.learn("spring")
    now[0] = 40.0
    engine.restore(number, by="anna")
    engine.learn("spring")
    owners = dict(_claims(store))
    assert sorted(owners) == sorted(
        [again[0].decision_id, *(d.decision_id for d in stolen[1:]), kept[0].decision_id]
    )
    assert engine.receipt(stolen[0].decision_id).cancelled_at is not None
    assert sums_of(store, "spring").counts.sent.sum() == 4  # each subject once


def _claims(store):
    with store.database.reading() as transaction:
        return [
            (row.decision_id, row.subject)
            for row in transaction.execute(select(subjects.c.decision_id, subjects.c.subject))
        ]


def test_erasing_somebody_of_whom_emails_are_void_subtracts_them_once(engine, sender, store, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.choose(THIEF, "t", 3, at=2.0)
    campaigns.click(THIEF, "h", [1], at=3.0)
    campaigns.learn(20.0)
    now[0] = 21.0
    void(engine, 21.0)
    engine.erase("t-0", by="anna")
    engine.erase("h-1", by="anna")
    campaigns.learn(22.0)
    campaigns.agree("spring", "clean")


def test_erasing_somebody_whose_cancellation_is_void_subtracts_them(engine, sender, store, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.learn(20.0)
    for key in ("spring", "whole"):
        store.log.cancel(campaigns._ids(key, "h", [0, 5]), actor=THIEF, at=21.0)
    campaigns.learn(22.0)
    now[0] = 23.0
    void(engine, 22.0, since=21.0)
    engine.erase("h-0", by="anna")
    campaigns.learn(24.0)
    campaigns.agree("spring", "clean")


def test_void_is_refused_in_words_where_nothing_can_change(engine, sender, store, now):
    sender.start(retention_days=1)
    engine.choose("spring", [Request("u-1")], actor=THIEF)
    now[0] = 3.0
    with pytest.raises(InvalidInput, match="must be later"):
        void(engine, 3.0, since=3.0)
    with pytest.raises(InvalidInput, match="in the future"):
        void(engine, 4.0)
    with pytest.raises(InvalidInput, match="did nothing in 'spring' then"):
        engine.void(Deeds(HONEST, 0.0, 3.0), by="anna", experiment="spring")
    with pytest.raises(NotFound):
        void(engine, 3.0, experiment="autumn")
    with pytest.raises(NotFound):
        engine.restore(9, by="anna")
    now[0] = 2 * 86_400.0
    while engine.learn("spring"):
        pass
    number = void(engine, 3.0).void
    engine.restore(number, by="anna")
    assert engine.retain("spring") == 1
    with pytest.raises(WrongState, match="removed after its retention_days"):
        void(engine, 3.0)
    assert engine.void(Deeds(THIEF, 0.0, 3.0), by="anna", dry_run=True).experiments[0].refused
    engine.stop("spring", by="anna")
    now[0] += 1001.0
    with pytest.raises(WrongState, match="its result is final since 1970-01-03"):
        void(engine, now[0])


def test_retention_removes_void_rows_and_keeps_them_out_of_the_sums(engine, sender, store, now):
    campaigns = Campaigns(sender, retention_days=1)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.choose(THIEF, "t", 3, at=2.0)
    campaigns.click(THIEF, "h", [1], at=3.0)
    campaigns.learn(20.0, 60.0)
    now[0] = 61.0
    void(engine, 61.0)
    now[0] = 2 * 86_400.0
    campaigns.learn(now[0])
    for key in campaigns.KEYS:
        engine.retain(key)
    assert store.log.decisions(["spring-t-0", "spring-h-0"]) == {}
    campaigns.agree("spring", "clean")
    with pytest.raises(WrongState, match="retention_days"):
        engine.restore(engine.voids("spring")[0].id, by="anna")


def test_retention_keeps_what_only_a_void_cancellation_took_out(engine, sender, store, now):
    campaigns = Campaigns(sender, retention_days=1, send_within_seconds=300.0)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.click(HONEST, "h", [0, 1], at=2.0)
    campaigns.learn(5.0)
    campaigns.cancel(THIEF, "h", [0, 3], at=6.0)  # pending,
    campaigns.learn(20.0)
    campaigns.cancel(THIEF, "h", [1, 4], at=30.0)  # learned,
    campaigns.learn(31.0, 60.0)
    campaigns.cancel(THIEF, "h", [2], at=70.0)  # and closed
    campaigns.learn(80.0)
    now[0] = 81.0
    void(engine, 81.0)
    campaigns.learn(82.0)
    campaigns.agree("spring", "clean")
    now[0] = 2 * 86_400.0
    for key in ("spring", "clean"):
        engine.retain(key)
    assert store.log.decisions([f"spring-h-{i}" for i in range(6)]) == {}
    campaigns.agree("spring", "clean")


def test_void_of_cancellations_of_removed_rows_is_refused_in_words(engine, sender, store, now):
    """They come within the time to send, which may be longer than the reward window."""
    day = 86_400.0
    campaigns = Campaigns(sender, retention_days=1, send_within_seconds=2 * day)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.learn(60.0)
    campaigns.cancel(THIEF, "h", [0], at=day)
    campaigns.choose(HONEST, "i", 6, at=2 * day)
    campaigns.cancel(THIEF, "i", [1], at=2 * day)
    campaigns.learn(2 * day + 60.0)
    now[0] = 2 * day + 61.0
    assert [engine.retain(key) for key in campaigns.KEYS] == [6, 6, 6]
    before = sums_of(store, "spring")
    for since in (0.0, day, 2 * day):
        with pytest.raises(WrongState, match="retention_days"):
            void(engine, now[0], since=since)
    agree(before, sums_of(store, "spring"))
    late = 4 * day
    campaigns.choose(HONEST, "j", 6, at=late)
    campaigns.cancel(THIEF, "j", [1, 2], at=late)
    campaigns.learn(late + 60.0)
    now[0] = late + 61.0
    void(engine, now[0], since=late)
    assert sums_of(store, "spring").counts.sent.sum() == 5 + 5 + 6
    assert sums_of(store, "clean").counts.sent.sum() == 18


def test_void_everywhere_passes_over_where_it_is_refused(engine, sender, store, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 3, at=1.0)
    campaigns.choose(THIEF, "t", 3, at=2.0)
    campaigns.learn(3.0)
    engine.clock = lambda: now[0]
    now[0] = 4.0
    engine.stop("whole", by="anna")
    now[0] = 100.0
    receipt = engine.void(Deeds(THIEF, 0.0, 100.0), by="anna")
    found = {p.experiment: p for p in receipt.experiments}
    assert sorted(found) == ["spring", "whole"]
    assert found["spring"].decisions == 3
    assert "final" in found["whole"].refused
    assert next(iter(store.accounts.changes())).action == "void"
    assert [(e.experiment, e.by) for e in engine.voids()] == [("spring", "anna")]


def test_actor_counts_leave_out_what_is_void(engine, sender, store, now):
    campaigns = Campaigns(sender)
    campaigns.choose(HONEST, "h", 6, at=1.0)
    campaigns.choose(THIEF, "t", 3, at=2.0)
    campaigns.click(THIEF, "t", [0, 1], at=3.0)
    campaigns.cancel(THIEF, "t", [0, 2], at=4.0)
    campaigns.learn(5.0)

    def thief():
        (counts,) = [c for c in engine.actors("spring") if c.actor == THIEF]
        return counts.chosen, counts.rewarded, counts.cancelled, counts.answered

    assert thief() == (3, 2, 2, 1)
    now[0] = 6.0
    number = void(engine, 6.0).void
    assert thief() == (0, 0, 0, 0)
    engine.restore(number, by="anna")
    assert thief() == (3, 2, 2, 1)
    honest = next(c for c in engine.actors("spring") if c.actor == HONEST)
    assert (honest.chosen, honest.first_at, honest.last_at) == (6, 1.0, 1.0)
    assert PROGRAM not in {c.actor for c in engine.actors("spring")}


def test_void_beside_senders_that_go_on_leaves_log_and_sums_equal(sender, store):
    sender.start("spring", reward={"metrics": {"click": {}}, "window_seconds": 1000.0})
    engine = Engine(store)

    def send(actor, first):
        for i in range(first, first + 8):
            (decision,) = engine.choose("spring", [Request(f"u-{i}")], actor=actor)
            engine.reward([Reward(decision.decision_id, "e", "click")], actor=actor)

    since = engine.clock()
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(send, a, n) for a, n in ((THIEF, 0), (HONEST, 100), (THIEF, 200))]
        while not all(call.done() for call in sent):
            engine.learn("spring")
            try:
                deeds = Deeds(THIEF, since, engine.clock())
                engine.void(deeds, by="anna", experiment="spring")
            except InvalidInput:  # nothing more by now
                continue
            engine.restore(engine.voids("spring")[0].id, by="anna")
        assert [call.exception() for call in sent] == [None] * 3
    engine.void(Deeds(THIEF, since, engine.clock()), by="anna", experiment="spring")
    while engine.learn("spring"):
        pass
    assert sums_of(store, "spring").counts.sent.sum() == 8
