"""What every store's folds take in, and that it is exactly what the log says."""

import threading

import numpy as np
import pytest
from sqlalchemy import event

from bandits.engine.active_policy import load_statistic
from bandits.engine.arm_counts import ArmCounts
from bandits.engine.fold import fold, rebuild
from bandits.statistics import Moments, dump
from bandits.store.values import FoldBacklog
from storage.snapshots import backlog
from storage.snapshots.verify import compare
from tests.patience import join


def learn(store, now, key="spring"):
    return fold(store, key, now=now)


def agreed(store, key="spring"):
    """See that the log says the same as the newest snapshot."""
    with store.snapshots.audit(key) as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []


def moments(store, key="spring"):
    """Read the newest statistic and tally, after seeing that the log says the same."""
    record = store.experiments.record(key)
    statistic, tally = load_statistic(
        record.configuration, store.snapshots.snapshot(key, record.learned_version)
    )
    agreed(store, key)
    assert isinstance(statistic, Moments)
    assert isinstance(tally, ArmCounts)
    return statistic, tally


def counts(statistic):
    """Tell (pending, learned, reward) over all arms."""
    return statistic.pending.sum(), statistic.count.sum(), statistic.total.sum()


def test_a_decision_is_pending_until_it_matures(store, sender):
    record = sender.start()
    sender.choose(record, 3, at=1.0)
    assert learn(store, 5.0).version == 1
    assert counts(moments(store)[0]) == (3, 0, 0)
    assert learn(store, 10.9) is None
    assert learn(store, 11.0).version == 2
    assert counts(moments(store)[0]) == (0, 3, 0)
    assert learn(store, 50.0) is None
    assert store.experiments.record("spring").learned_version == 2


def test_a_fold_tells_what_entered_and_what_matured(store, sender):
    record = sender.start()
    sender.choose(record, 2, at=1.0)
    with store.snapshots.fold("spring", now=20.0) as folding:
        assert folding.record == record
        assert folding.previous is None
        due = folding.due
        assert (len(due.entered), len(due.entered_due), len(due.matured)) == (0, 2, 0)
        assert due.entered_due.started_at.tolist() == [1.0, 1.0]
    sender.choose(record, 1, at=20.0, arms=np.array([2]), holdout=np.array([True]))
    learn(store, 20.0)
    with store.snapshots.fold("spring", now=30.0) as folding:
        assert folding.previous.version == 1
        matured = folding.due.matured
        assert (matured.arms.tolist(), matured.holdout.tolist()) == ([2], [True])
        assert matured.contexts.tolist() == [[1.0]]


def test_backlog_counts_due_batches_and_their_age(store, sender):
    first, other = sender.start(), sender.start("autumn")
    assert store.snapshots.backlog(1.0) == {}
    ids = sender.choose(first, 2, at=1.0)
    sender.choose(first, at=2.0)
    sender.choose(other, at=3.0)
    assert store.snapshots.backlog(4.0) == {
        first.id: FoldBacklog(2, 1.0),
        other.id: FoldBacklog(1, 3.0),
    }
    learn(store, 4.0)
    assert store.snapshots.backlog(4.0) == {other.id: FoldBacklog(1, 3.0)}
    learn(store, 4.0, "autumn")
    assert store.snapshots.backlog(10.9) == {}
    sender.click(ids, at=11.5)
    assert store.snapshots.backlog(12.5) == {first.id: FoldBacklog(3, 11.0)}
    learn(store, 13.0)
    assert store.snapshots.backlog(12.5) == {}
    assert store.snapshots.backlog(13.0) == {other.id: FoldBacklog(1, 13.0)}


def test_a_fold_left_unsaved_changes_nothing(store, sender):
    sender.choose(sender.start(), 3, at=1.0)
    for _ in range(2):
        with store.snapshots.fold("spring", now=20.0) as folding:
            assert len(folding.due.entered_due) == 3
    with pytest.raises(ZeroDivisionError), store.snapshots.fold("spring", now=20.0):
        raise ZeroDivisionError
    assert store.experiments.record("spring").learned_version == 0
    learn(store, 20.0)
    assert counts(moments(store)[0]) == (0, 3, 0)


def test_a_snapshot_of_another_version_is_refused(store, sender):
    sender.choose(sender.start(), at=1.0)
    snapshot = learn(store, 2.0)
    with (
        pytest.raises(ValueError, match="version 2, not 1"),
        store.snapshots.fold("spring", now=20.0) as f,
    ):
        f.save(snapshot)
    assert learn(store, 20.0).version == 2


def test_a_reward_before_maturity_waits_for_it(store, sender):
    record = sender.start()
    ids = sender.choose(record, 3, at=1.0)
    learn(store, 2.0)
    known = moments(store)
    sender.click(ids[:2], at=3.0)
    learn(store, 4.0)  # the clicks are counted by name, and nothing is learned of them
    assert dump(moments(store)[0]) == dump(known[0])
    assert moments(store)[1].dump() == known[1].dump()
    learn(store, 11.0)
    assert counts(moments(store)[0]) == (0, 3, 2)


def test_a_reward_in_the_same_fold_as_its_decision_counts(store, sender):
    ids = sender.choose(sender.start(), 3, at=1.0)
    sender.click(ids[:1], at=3.0)
    learn(store, 20.0)
    assert counts(moments(store)[0]) == (0, 3, 1)


def test_a_reward_after_maturity_corrects(store, sender):
    ids = sender.choose(sender.start(), 3, at=1.0)
    sender.click(ids[:1], at=3.0)
    learn(store, 20.0)
    sender.click(ids[:1], at=21.0, event_id="again")  # `once` takes the largest: no more reward
    sender.click(ids[1:2], at=21.0)
    sender.click(ids[1:2], at=21.0, metric="order", value=30.0, event_id="f")
    with store.snapshots.fold("spring", now=21.0) as folding:
        before, after = folding.due.before, folding.due.after
        assert (len(before), len(after)) == (2, 2)
        assert (len(before.event_values), sorted(after.event_values)) == (1, [1.0, 1.0, 1.0, 30.0])
    learn(store, 21.0)
    statistic, tally = moments(store)
    assert counts(statistic) == (0, 3, 32)
    assert tally.metrics.sum(axis=1).tolist() == [2.0, 30.0]


def test_a_late_event_never_counts(store, sender):
    ids = sender.choose(sender.start(), 2, at=1.0)
    sender.click(ids, at=5.0, late=True)
    learn(store, 20.0)
    assert counts(moments(store)[0]) == (0, 2, 0)
    sender.click(ids, at=25.0, late=True, event_id="f")
    assert learn(store, 25.0) is None
    assert counts(moments(store)[0]) == (0, 2, 0)


def test_fallback_is_excluded_from_every_sum(store, sender):
    record = sender.start()
    ids = sender.choose(record, 2, at=1.0, fallback=np.array([True, True]))
    assert learn(store, 2.0) is None
    sender.click(ids, at=3.0)
    store.log.cancel(ids[:1], at=3.0)
    assert learn(store, 20.0) is None
    sender.choose(record, 1, at=20.0)
    learn(store, 40.0)
    statistic, tally = moments(store)
    assert counts(statistic) == (0, 1, 0)
    assert tally.sent.sum() == 1


def test_held_out_decisions_are_tallied_and_not_learned(store, sender):
    ids = sender.choose(sender.start(), 2, at=1.0, holdout=np.array([True, False]))
    sender.click(ids, at=2.0)
    learn(store, 20.0)
    statistic, tally = moments(store)
    assert counts(statistic) == (0, 1, 1)
    assert (tally.sent[-1], tally.complete[-1], tally.reward[-1]) == (1, 1, 1)


class TestCancelled:
    def test_cancellation_before_the_first_fold_never_counts(self, store, sender):
        record = sender.start()
        ids = sender.choose(record, 2, at=1.0)
        store.log.cancel(ids, at=2.0)
        assert learn(store, 3.0) is None
        assert learn(store, 20.0) is None
        ids = sender.choose(record, 2, at=21.0)
        store.log.cancel(ids[:1], at=22.0)
        learn(store, 22.0)
        assert counts(moments(store)[0]) == (1, 0, 0)

    def test_cancellation_while_pending_withdraws_the_decision(self, store, sender):
        ids = sender.choose(sender.start(), 3, at=1.0)
        learn(store, 2.0)
        store.log.cancel(ids[:1], at=3.0)
        with store.snapshots.fold("spring", now=3.0) as folding:
            assert len(folding.due.withdrawn) == 1
        learn(store, 3.0)
        assert counts(moments(store)[0]) == (2, 0, 0)
        learn(store, 20.0)
        assert counts(moments(store)[0]) == (0, 2, 0)

    def test_cancellation_before_maturity_withdraws_and_learns_nothing(self, store, sender):
        ids = sender.choose(sender.start(), 3, at=1.0)
        learn(store, 2.0)
        store.log.cancel(ids[:1], at=3.0)
        with store.snapshots.fold("spring", now=20.0) as folding:
            assert (len(folding.due.withdrawn), len(folding.due.matured)) == (1, 2)
        learn(store, 20.0)
        assert counts(moments(store)[0]) == (0, 2, 0)

    def test_cancellation_after_maturity_removes_the_decision_with_its_rewards(self, store, sender):
        ids = sender.choose(sender.start(), 3, at=1.0)
        sender.click(ids[:2], at=2.0)
        learn(store, 20.0)
        store.log.cancel(ids[:1], at=21.0)
        learn(store, 21.0)
        statistic, tally = moments(store)
        assert counts(statistic) == (0, 2, 1)
        assert (tally.sent.sum(), tally.reward.sum()) == (2, 1)

    def test_cancellation_beside_a_reward_removes_what_was_learned(self, store, sender):
        ids = sender.choose(sender.start(), 3, at=1.0)
        learn(store, 20.0)
        sender.click(ids, at=21.0)
        store.log.cancel(ids[:1], at=21.0)
        with store.snapshots.fold("spring", now=21.0) as folding:
            due = folding.due
            assert (len(due.removed), len(due.removed.event_values)) == (1, 0)
            assert (len(due.before), len(due.before.event_values)) == (2, 0)
            assert (len(due.after), len(due.after.event_values)) == (2, 2)
        learn(store, 21.0)
        assert counts(moments(store)[0]) == (0, 2, 2)

    def test_rewards_after_cancellation_change_nothing(self, store, sender):
        ids = sender.choose(sender.start(), 1, at=1.0)
        learn(store, 20.0)
        store.log.cancel(ids, at=21.0)
        learn(store, 21.0)
        sender.click(ids, at=22.0)
        assert learn(store, 22.0) is None
        assert counts(moments(store)[0]) == (0, 0, 0)


class TestActivated:
    def test_activation_starts_the_clocks(self, store, sender):
        record = sender.start(await_activation=True)
        ids = sender.choose(record, 3, at=1.0)
        assert learn(store, 20.0) is None
        store.log.activate(ids[:2], at=25.0)
        learn(store, 30.0)
        assert counts(moments(store)[0]) == (2, 0, 0)
        learn(store, 35.0)
        assert counts(moments(store)[0]) == (0, 2, 0)
        with store.snapshots.audit("spring") as audit:
            assert [d.started_at.tolist() for d in audit.learned] == [[25.0, 25.0]]

    def test_cancellation_before_activation_never_counts(self, store, sender):
        ids = sender.choose(sender.start(await_activation=True), 2, at=1.0)
        store.log.cancel(ids[:1], at=2.0)
        assert learn(store, 3.0) is None
        store.log.activate(ids, at=4.0)
        learn(store, 20.0)
        assert counts(moments(store)[0]) == (0, 1, 0)

    def test_cancellation_after_activation_removes_the_decision(self, store, sender):
        ids = sender.choose(sender.start(await_activation=True), 3, at=1.0)
        store.log.activate(ids, at=2.0)
        learn(store, 3.0)
        store.log.cancel(ids[:1], at=4.0)
        learn(store, 4.0)
        assert counts(moments(store)[0]) == (2, 0, 0)
        learn(store, 20.0)
        store.log.cancel(ids[1:2], at=21.0)
        learn(store, 21.0)
        assert counts(moments(store)[0]) == (0, 1, 0)


class TestWindow:
    def test_forgetting_window_expires_decisions_with_what_they_were_learned_with(
        self, store, sender
    ):
        record = sender.start(forgetting={"window_seconds": 50.0})
        old = sender.choose(record, 3, at=1.0)
        sender.click(old[:1], at=2.0)
        learn(store, 20.0)
        sender.choose(record, 2, at=30.0)
        learn(store, 45.0)
        assert counts(moments(store)[0]) == (0, 5, 1)
        sender.click(old[:2], at=51.0, event_id="f")
        with store.snapshots.fold("spring", now=52.0) as folding:
            due = folding.due
            assert due.expired.started_at.tolist() == [1.0] * 3
            assert due.expired.event_values.tolist() == [1.0]
            assert len(due.before) == 2
        learn(store, 52.0)
        statistic, tally = moments(store)
        assert counts(statistic) == (0, 2, 0)
        assert (tally.complete.sum(), tally.reward.sum()) == (5, 2)  # pages never forget

    def test_forgetting_window_makes_a_fold_due_by_itself(self, store, sender):
        sender.choose(sender.start(forgetting={"window_seconds": 50.0}), 3, at=1.0)
        learn(store, 20.0)
        assert learn(store, 51.0) is None
        assert len(learn(store, 51.5).statistic) > 0
        assert counts(moments(store)[0]) == (0, 0, 0)
        assert learn(store, 500.0) is None

    def test_cancelled_decision_does_not_expire(self, store, sender):
        ids = sender.choose(sender.start(forgetting={"window_seconds": 50.0}), 3, at=1.0)
        learn(store, 20.0)
        store.log.cancel(ids[:1], at=21.0)
        learn(store, 21.0)
        store.log.cancel(ids[1:2], at=60.0)
        with store.snapshots.fold("spring", now=60.0) as folding:
            assert (len(folding.due.expired), len(folding.due.removed)) == (2, 1)
        learn(store, 60.0)
        assert counts(moments(store)[0]) == (0, 0, 0)


def test_clock_stepped_back_changes_no_fold(store, sender):
    record = sender.start()
    sender.choose(record, 2, at=100.0)
    learn(store, 105.0)
    sender.choose(record, 1, at=50.0)  # its clock says it matured at 60
    snapshot = learn(store, 40.0)
    assert snapshot.at == 105.0
    assert counts(moments(store)[0]) == (2, 1, 0)
    learn(store, 110.0)
    assert counts(moments(store)[0]) == (0, 3, 0)


def test_experiments_are_folded_each_for_itself(store, sender):
    one, two = sender.start("one"), sender.start("two")
    ids = [*sender.choose(one, 2, at=1.0), *sender.choose(two, 3, at=1.0)]
    sender.click(ids, at=2.0)
    learn(store, 20.0, "one")
    assert counts(moments(store, "one")[0]) == (0, 2, 2)
    assert store.experiments.record("two").learned_version == 0
    store.log.cancel([ids[0], ids[-1]], at=21.0)
    learn(store, 21.0, "two")
    assert counts(moments(store, "two")[0]) == (0, 2, 2)
    learn(store, 21.0, "one")
    assert counts(moments(store, "one")[0]) == (0, 1, 1)


def test_long_backlog_is_taken_in_several_folds(store, sender, monkeypatch):
    monkeypatch.setattr(backlog, "MOST_ROWS", 5)
    record = sender.start()
    ids = [i for at in range(6) for i in sender.choose(record, 2, at=at / 10)]
    for i in ids:
        sender.click([i], at=1.0)
    between = []  # every one of them agrees with the log
    fold(store, "spring", now=30.0, between=lambda: between.append(moments(store)))
    assert len(between) > 1
    assert learn(store, 30.0) is None
    assert counts(moments(store)[0]) == (0, 12, 12)


@pytest.mark.parametrize(("policy", "n_folds"), [("linucb", 4), ("thompson_gaussian", 1)])
def test_fold_takes_fewer_decisions_where_probabilities_are_derived_for_each(
    store, sender, monkeypatch, policy, n_folds
):
    monkeypatch.setattr(backlog, "MOST_CELLS", 3 * 2 * 4)  # arms, features, rows
    features = [{"kind": "number", "name": "age", "low": 0, "high": 1}]
    record = sender.start(policy={"name": policy}, context=features)
    ids = [i for at in range(7) for i in sender.choose(record, 2, at=at, contexts=np.ones((2, 2)))]
    pauses = []
    fold(store, "spring", now=30.0, between=lambda: pauses.append(agreed(store)))
    assert len(pauses) == n_folds - 1
    sender.click(ids, at=31.0)
    learn(store, 31.0)
    agreed(store)


@pytest.mark.parametrize("mark", ["activate", "cancel"])
def test_a_fold_prepares_few_policies_of_long_ago(store, sender, monkeypatch, mark):
    monkeypatch.setattr(backlog, "MOST_ORIGINS", 2)
    record = sender.start(await_activation=mark == "activate")
    early = [sender.choose(record, 3, at=0.0, policy_version=v) for v in (0, 0)]
    learn(store, 1.0)
    for at in range(2, 6):
        other = sender.choose(record, 1, at=float(at))
        store.log.activate(other, at=float(at))
        version = learn(store, float(at)).version
        early.append(sender.choose(record, 1, at=float(at), policy_version=version))
    learn(store, 6.0)
    for ids in early:  # of five versions: 0 twice, then four more
        getattr(store.log, mark)(ids, at=7.0)
    pauses = []
    fold(store, "spring", now=30.0, between=lambda: pauses.append(agreed(store)))
    assert len(pauses) == 2
    agreed(store)
    assert learn(store, 30.0) is None


def test_log_is_read_in_portions(store, sender, monkeypatch):
    monkeypatch.setattr("storage.snapshots.observations.PORTION", 10)
    monkeypatch.setattr("storage.snapshots.observations._BATCHES_AT_ONCE", 2)
    record = sender.start(context=[{"kind": "number", "name": "age", "low": 0, "high": 1}])
    seen = []
    for at in range(7):
        contexts = np.array([[1.0, at], [1.0, at + 0.25], [1.0, at + 0.5]])
        seen += contexts.tolist()
        ids = sender.choose(record, 3, at=float(at), contexts=contexts)
        sender.click(ids[:1], at=float(at))
    with store.snapshots.fold("spring", now=50.0) as folding:
        portions = list(folding.learned())
    assert [len(p) for p in portions] == [9, 9, 3]
    assert np.concatenate([p.contexts for p in portions]).tolist() == seen
    for portion in portions:
        assert (portion.contexts[portion.event_rows, 1] % 1 == 0).all()
        assert len(portion.event_rows) == len(portion) / 3


def test_an_audit_sees_one_moment_while_others_write(store, sender):
    record = sender.start()
    ids = sender.choose(record, 4, at=1.0)
    learn(store, 20.0)
    with store.snapshots.audit("spring") as audit:
        sender.choose(record, 5, at=21.0)
        sender.click(ids, at=21.0)
        store.log.cancel(ids[:2], at=22.0)
        learn(store, 40.0)
        statistic = rebuild(audit).statistic
        assert audit.snapshot.version == 1
        assert counts(statistic) == (0, 4, 0)
    assert counts(moments(store)[0]) == (0, 7, 2)


def test_two_fold_workers_take_every_batch_once(store, sender):
    record = sender.start()
    errors = []
    stop = threading.Event()

    def folder():
        try:
            while not stop.is_set():
                learn(store, 1e6)
        except Exception as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=folder) for _ in range(2)]
    for thread in threads:
        thread.start()
    for at in range(20):
        ids = sender.choose(record, 3, at=float(at))
        sender.click(ids[:2], at=float(at))
        store.log.cancel(ids[1:2], at=float(at))
    stop.set()
    join(*threads)
    assert errors == []
    learn(store, 1e6)
    assert counts(moments(store)[0]) == (0, 40, 20)


def test_fold_builds_no_statement_anew(store, sender):
    """One that is kept costs a tenth, and a small fold is mostly its statements."""
    statements = []

    def keep(_connection, statement, *_):
        if not isinstance(statement, str):  # of the driver's own
            statements.append(statement)

    event.listen(store.database.writer, "before_execute", keep)
    record = sender.start(forgetting={"window_seconds": 40.0}, await_activation=True)
    waiting, built = [], []
    for at in range(0, 60, 5):
        waiting += sender.choose(record, 3, at=float(at))
        store.log.activate(waiting[-4:-1], at=float(at))
        store.log.cancel(waiting[:1], at=float(at))
        sender.click(waiting[-9:-6] or waiting, at=float(at), event_id=f"e-{at}")
        before = len(statements)
        assert learn(store, float(at)) is not None
        built = [s for s in statements[before:] if all(s is not t for t in statements[:before])]
    assert len(statements) - before > 20
    assert built == []


def test_fold_concludes_on_the_sums_that_it_stores(store, sender):
    record = sender.start()
    sender.click(sender.choose(record, 3, at=1.0)[:2], at=2.0)
    concluded = []
    fold(store, "spring", now=2000.0, conclude=lambda *given: concluded.append(given))
    ((as_of, snapshot, inference),) = concluded
    assert as_of == store.experiments.record("spring")
    assert snapshot.version == as_of.learned_version
    assert inference.arms.sends.sum() == 3
    assert inference.dump() == store.snapshots.snapshot("spring", 1).inference_state
