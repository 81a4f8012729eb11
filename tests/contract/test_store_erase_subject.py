"""An erased subject leaves no row, and what is known is as if they had never been."""

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import LargeBinary, Text, cast, delete, select

from bandits.engine.active_policy import ActivePolicyCache, load_statistic
from bandits.engine.fold import fold, rebuild
from bandits.errors import NotDerivable, Unavailable
from bandits.schemas import Request, Reward
from storage.schema import batches, metadata, receipt_allocations, snapshots, subjects
from storage.snapshots.verify import compare
from storage.store_context import subject_hasher
from tests.patience import LIMIT_SECONDS, join

CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
FORGETTING = {
    "never": None,
    "half-life": {"half_life_seconds": 30.0},
    "window": {"window_seconds": 25.0},
}
ROUNDING = {"rel": 1e-9, "abs": 1e-9}


def learned(store, key="spring"):
    """Read what is known by now, after seeing that the log says the same."""
    record = store.experiments.record(key)
    version = record.learned_version
    stored = load_statistic(
        record.configuration, store.snapshots.snapshot(key, version) if version else None
    )
    with store.snapshots.audit(key) as audit:
        logged = rebuild(audit)
    same(stored, (logged.statistic, logged.counts))
    with store.snapshots.audit(key) as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    return stored


def same(these, those):
    for one, other in zip(these, those, strict=True):
        for f in fields(one):
            assert getattr(one, f.name) == pytest.approx(getattr(other, f.name), **ROUNDING)


def erase(engine, subject="u-0"):
    return engine.erase(subject, by="test")


class Twins:
    """Two experiments that send the same, but one knows nothing of subject ``u-0``."""

    def __init__(self, engine, sender, **declared):
        self.engine, self.sender, self.now = engine, sender, engine.clock
        declared = {"reward": _rule(declared)} | declared
        self.records = [sender.start(key, **declared) for key in ("spring", "twin")]

    def each(self, act):
        for record in self.records:
            act(record)

    def choose(self, numbers, *, at, holdout=(), fallback=()):
        """Decide for each of these subjects, the same in both experiments."""
        for record in self.records:
            kept = [n for n in numbers if record.key == "spring" or n != 0]
            if not kept:
                continue
            d = record.configuration.experiment.encoder().n_features
            self.sender.choose(
                record,
                len(kept),
                at=at,
                ids=[f"{record.key}-{at}-{n}" for n in kept],
                subjects=[f"u-{n}" for n in kept],
                arms=np.array(kept) % 3,
                contexts=np.stack([np.ones(len(kept)), *[np.array(kept) / 10] * (d - 1)], axis=1),
                holdout=np.isin(kept, holdout),
                fallback=np.isin(kept, fallback),
            )

    def on(self, numbers, act, *, at):
        """Act on the decisions that were made `at` for these subjects."""
        for record in self.records:
            kept = [n for n in numbers if record.key == "spring" or n != 0]
            act([f"{record.key}-{at}-{n}" for n in kept])

    def learn(self, at):
        for record in self.records:
            fold(self.sender.store, record.key, now=at)

    def agree(self):
        store = self.sender.store
        same(learned(store, "spring"), learned(store, "twin"))


def _rule(declared):
    metrics = {"click": {}}
    if declared["policy"]["name"] != "logistic_thompson":
        metrics["order"] = {"count": "sum", "high": 100.0}
    return {"metrics": metrics, "window_seconds": 1000.0, "maturity_seconds": 10.0}


@pytest.mark.parametrize(
    ("policy", "forgetting"),
    [
        ("thompson_gaussian", "never"),
        ("thompson_gaussian", "half-life"),
        ("lints", "half-life"),
        ("lints", "window"),
        ("logistic_thompson", "never"),
    ],
)
def test_erase_leaves_the_statistic_as_if_the_subject_had_never_been(
    engine, sender, now, policy, forgetting
):
    twins = Twins(
        engine,
        sender,
        policy={"name": policy},
        context=CONTEXT if policy != "thompson_gaussian" else [],
        forgetting=FORGETTING[forgetting],
    )
    store, everybody = sender.store, range(6)
    twins.choose(everybody, at=1.0)
    twins.choose(everybody, at=2.0, holdout=[0, 1], fallback=[2])
    twins.on([0, 1, 2], lambda ids: sender.click(ids, at=3.0), at=1.0)
    twins.learn(5.0)
    twins.learn(15.0)  # what was sent first is learned
    twins.on([0, 3], lambda ids: sender.click(ids, at=16.0), at=1.0)
    twins.learn(16.0)  # and corrected
    twins.choose(everybody, at=20.0)
    twins.learn(21.0)  # some are pending
    twins.choose(everybody, at=22.0)  # some are unseen
    twins.on([0, 1], lambda ids: sender.click(ids, at=23.0, event_id="f"), at=1.0)  # this too
    twins.on([0, 1], lambda ids: store.log.cancel(ids, at=23.0), at=20.0)
    now[0] = 24.0
    assert erase(engine).decisions == 4
    learned(store)
    twins.learn(24.5)
    twins.agree()
    twins.choose(everybody, at=25.0)
    twins.on([1, 2], lambda ids: sender.click(ids, at=26.0), at=22.0)
    for at in (27.0, 33.0, 40.0, 60.0):  # through maturity, and out of the window
        twins.learn(at)
        learned(store)
    now[0] = 61.0
    assert erase(engine).decisions == 1
    twins.choose([1, 2], at=62.0)
    twins.learn(62.0)  # so that both are as of one moment
    twins.agree()


def test_erase_takes_decisions_that_await_activation(engine, store, sender, now):
    record = sender.start(await_activation=True)
    subjects_of = [f"u-{n}" for n in (0, 0, 1, 2)]
    ids = sender.choose(record, 4, at=1.0, subjects=subjects_of)
    store.log.activate(ids[1:3], at=2.0)
    fold(store, "spring", now=3.0)
    now[0] = 4.0
    assert erase(engine).decisions == 2
    _, tally = learned(store)
    assert tally.sent.sum() == 1
    fold(store, "spring", now=20.0)
    _, tally = learned(store)
    assert tally.complete.sum() == 1


def test_erase_leaves_no_row_that_names_the_subject(engine, store, sender, now):
    record = sender.start(assignment="per_subject", await_activation=True)
    ids = sender.choose(record, 3, at=1.0, subjects=["u-0", "u-1", "u-2"])
    assert sender.chosen(1, ids=["mine"], digests=[b"x"]).ids == ["mine"]
    store.log.activate(ids, at=1.0)
    sender.click(ids, at=2.0, event_id="about u-0")
    fold(store, "spring", now=20.0)
    store.log.cancel(ids[:1], at=21.0)
    (hashed,) = subject_hasher(store.secret("subjects"))(["u-0"])
    assert _places(store, hashed, ids[0])
    now[0] = 22.0
    erase(engine)
    assert _places(store, hashed, ids[0]) == []
    assert len(store.log.decisions(ids)) == 2
    with store.database.reading() as transaction:
        assert sorted(transaction.execute(select(subjects.c.decision_id)).scalars()) == ids[1:]
    (change,) = [c for c in store.accounts.changes() if c.action == "erase"]
    assert (change.subject, change.by) == ("experiment:spring", "test")
    assert change.after == {"decisions": 1}


def _places(store, hashed, decision_id):
    """Tell in which columns of any table a hash or an id stands."""
    found = []
    with store.database.reading() as transaction:
        for table in metadata.tables.values():
            for column in table.columns:
                if isinstance(column.type, LargeBinary):
                    wanted = column == hashed
                else:
                    wanted = cast(column, Text).contains(decision_id)
                if transaction.execute(select(1).where(wanted).limit(1)).first():
                    found.append(str(column))
    return found


def test_erase_removes_emptied_batches(engine, store, sender, now):
    record = sender.start()
    sender.click(sender.choose(record, 1, at=1.0, subjects=["u-0"]), at=2.0)
    fold(store, "spring", now=20.0)
    now[0] = 21.0
    erase(engine)
    with store.database.reading() as transaction:
        assert transaction.execute(select(batches)).all() == []
    assert learned(store)[1].sent.sum() == 0


@pytest.mark.parametrize("policy", ["thompson_gaussian", "lints"])
def test_receipts_that_rested_on_an_erased_subject_need_stored_allocations(
    engine, store, sender, now, policy
):
    source = "shares" if policy == "thompson_gaussian" else "kept"  # else each has its own
    sender.start(policy={"name": policy})
    ids = []
    for n, at in enumerate((1.0, 2.0, 20.0, 40.0)):
        now[0] = at
        subject = "u-0" if n == 1 else "u-1"
        ids += [d.decision_id for d in engine.choose("spring", [Request(subject)])]
        engine.learn("spring")  # version n + 1
    now[0] = 60.0
    engine.learn("spring")
    ids += [d.decision_id for d in engine.choose("spring", [Request("u-1")])]
    assert all(engine.receipt(i).derived for i in ids)
    points = [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)]
    now[0] = 61.0
    erase(engine)
    ids += [d.decision_id for d in engine.choose("spring", [Request("u-1")])]
    told = [engine.receipt(ids[n]) for n in (0, 2, 3, 4, 5)]
    assert [r.policy_version for r in told] == [0, 2, 3, 5, 6]
    assert [r.derived for r in told] == [True] * 5
    assert [r.derived_from for r in told] == ["snapshot", source, source, source, "snapshot"]
    with store.database.writing() as transaction:
        transaction.execute(delete(receipt_allocations))
    stored = True if source == "shares" else None
    told = [engine.receipt(ids[n]) for n in (0, 2, 3, 4, 5)]
    assert [r.derived for r in told] == [True, stored, stored, stored, True]
    assert stored or "have been erased" in told[1].not_derivable
    assert told[0].not_derivable is None
    with pytest.raises(NotDerivable, match="spring had learned at version 3"):
        store.snapshots.snapshot("spring", 3)
    store.snapshots.snapshot("spring", 1)  # before they came
    assert [(p.version, p.arm_counts) for p in store.snapshots.history("spring", 100)][
        :-1
    ] == points
    with store.database.reading() as transaction:
        kept = select(snapshots.c.version).where(snapshots.c.statistic != b"")
        assert transaction.execute(kept.order_by(snapshots.c.version)).scalars().all() == [1, 6]


def test_erase_of_cancelled_decisions_leaves_the_statistic_as_it_is(engine, store, sender, now):
    sender.start()
    first = engine.choose("spring", [Request("u-0"), Request("u-1")])[0]
    now[0] = 20.0
    engine.learn("spring")
    engine.cancel([first.decision_id])
    engine.learn("spring")  # version 2 knows nothing of them any more
    before = learned(store)
    assert erase(engine).decisions == 1
    same(learned(store), before)
    (after,) = engine.choose("spring", [Request("u-2")])
    assert engine.receipt(after.decision_id).derived
    with pytest.raises(NotDerivable):
        store.snapshots.snapshot("spring", 1)
    engine.learn("spring")


def test_erased_subject_may_be_decided_for_anew(engine, store, sender, now):
    sender.start(assignment="per_subject")
    (first,) = engine.choose("spring", [Request("u-0")])
    assert engine.choose("spring", [Request("u-0")])[0].repeat
    erase(engine)
    (second,) = engine.choose("spring", [Request("u-0")])
    assert not second.repeat
    assert second.decision_id != first.decision_id
    assert [d.decision_id for d in engine.subject("u-0").decisions] == [second.decision_id]


def test_erase_twice_or_of_an_unknown_subject_is_a_no_op(engine, store, sender, now):
    sender.choose(sender.start(), 3, at=1.0)
    fold(store, "spring", now=20.0)
    assert erase(engine, "nobody").decisions == 0
    assert erase(engine, "subject of d000000000").experiments == ["spring"]
    assert erase(engine, "subject of d000000000").decisions == 0
    assert store.experiments.record("spring").learned_version == 2
    assert learned(store)[1].sent.sum() == 2


def test_erase_interrupted_changes_nothing(store, sender):
    ids = sender.choose(sender.start(), 3, at=1.0)
    fold(store, "spring", now=20.0)
    with store.subjects.erase("spring", ids[:1], now=21.0, by="test") as folding:
        assert folding.due is not None  # and never saved
    with (
        pytest.raises(ZeroDivisionError),
        store.subjects.erase("spring", ids[:1], now=21.0, by="test") as folding,
    ):
        raise ZeroDivisionError
    assert len(store.log.decisions(ids)) == 3
    assert store.log.decisions(ids)[ids[0]].cancelled_at is None
    assert learned(store)[1].sent.sum() == 3


def test_rewards_reported_during_an_erase_are_unknown(engine, store, sender, now, monkeypatch):
    ids = sender.choose(sender.start(), 2, at=1.0)
    told = []
    looked_up = threading.Event()
    append = store.log.append_events

    def append_events(*given, **at):
        looked_up.set()
        return append(*given, **at)

    monkeypatch.setattr(store.log, "append_events", append_events)

    def report():
        told.append(engine.reward([Reward(i, "e", "click") for i in ids]))
        told.append(engine.cancel(ids))

    with store.subjects.erase("spring", ids[:1], now=2.0, by="test"):
        thread = threading.Thread(target=report)
        thread.start()
        assert looked_up.wait(LIMIT_SECONDS)  # from here on it waits for us
    join(thread)
    rewards, cancelled = told
    assert (rewards.accepted, rewards.unknown) == (1, ids[:1])
    assert (cancelled.accepted, cancelled.unknown) == (1, (ids[0],))


def test_rewards_met_by_an_erase_at_every_attempt_are_unavailable(
    engine, store, sender, monkeypatch
):
    ids = sender.choose(sender.start(), 8, at=1.0)
    erased = iter(ids)
    look_up = store.log.targets

    def targets(asked):
        found = look_up(asked)
        with store.subjects.erase("spring", [next(erased)], now=2.0, by="test"):
            return found

    monkeypatch.setattr(store.log, "targets", targets)
    with pytest.raises(Unavailable, match="being erased"):
        engine.reward([Reward(i, "e", "click") for i in ids])
    monkeypatch.undo()
    assert engine.reward([Reward(i, "e", "click") for i in ids]).unknown == ids[:5]


def test_active_policy_cache_reads_the_snapshot_after_an_erase(engine, store, sender, now):
    sender.start(policy={"name": "thompson_gaussian"})
    engine.choose("spring", [Request("u-0"), Request("u-1")])
    now[0] = 20.0
    engine.learn("spring")
    before = store.experiments.record("spring")
    erase(engine)
    assert (
        ActivePolicyCache(store, rebuild).newest(before).version == 2
    )  # as it is between two reads


def test_subject_history_is_read_page_by_page(engine, store, sender):
    spring, autumn = sender.start(), sender.start("autumn")
    mine = [sender.choose(r, 1, at=1.0, subjects=["u-0"])[0] for r in [spring, autumn] * 3]
    sender.choose(spring, 5, at=1.0)
    sender.click(mine[:1], at=2.0)
    told, after = [], 0
    while after is not None:
        page = engine.subject("u-0", after=after, limit=4)
        told += page.decisions
        after = page.next
    assert [d.decision_id for d in told] == mine
    assert [d.experiment for d in told] == ["spring", "autumn"] * 3
    assert [e["event_id"] for e in told[0].events] == ["e"]
    assert engine.subject("nobody").decisions == []


def test_erased_subject_is_in_no_file_of_the_database(store, engine, sender):
    """Before: the id stayed in the write-ahead log, until another write or the server's end."""
    path = store.database.engine.url.database
    if store.database.engine.dialect.name != "sqlite":
        return
    name = b"zoe.victim+77"
    sender.start()
    engine.choose("spring", [Request("zoe", decision_id=f"{name.decode()}-{i}") for i in range(50)])

    def files_with_name():
        return [
            p.name for p in Path(path).parent.iterdir() if p.is_file() and name in p.read_bytes()
        ]

    assert files_with_name() != []
    with store.database.reading() as reader:  # an older state, which is let go at once
        reader.execute(select(batches.c.id)).all()
    assert erase(engine, "zoe").decisions == 50
    assert files_with_name() == []


def test_erasing_beside_a_long_read_warns_and_is_done(store, engine, sender, monkeypatch, caplog):
    if store.database.engine.dialect.name != "sqlite":
        return
    monkeypatch.setattr("storage.databases.sqlite._PURGE_SECONDS", 0.0)
    sender.start()
    engine.choose("spring", [Request("zoe")])
    with store.database.reading() as reader:
        reader.execute(select(batches.c.id)).all()
        assert erase(engine, "zoe").decisions == 1
    assert "a little later" in caplog.text
    caplog.clear()
    assert erase(engine, "zoe").decisions == 0
    assert caplog.text == ""


def test_deleted_rows_are_overwritten_whatever_sqlite_was_made_with(store):
    if store.database.engine.dialect.name != "sqlite":
        return
    for engine in (store.database.engine, store.database.writer):
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
