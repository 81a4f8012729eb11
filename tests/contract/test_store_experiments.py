"""What every store does with experiments, in every database."""

import pytest
from msgspec.structs import replace

from bandits.errors import AlreadyExists, NotFound, StaleEdit, WrongState
from bandits.store.values import Snapshot


def renamed(record, name):
    experiment = replace(record.configuration.experiment, name=name)
    return record.configuration.next_version(experiment, started=True)


def test_an_experiment_reads_back_as_it_was_created(store, sender):
    record = sender.start()
    assert store.experiments.record("spring") == record
    assert record.state == "running"
    assert record.salt == b"salt" * 4
    assert record.learned_version == 0
    assert (record.created_at, record.started_at, record.stopped_at) == (0.0, 0.0, None)
    assert record.configuration.experiment.reward.names == ("click", "order")


def test_a_key_is_taken_once(store, sender):
    record = sender.start()
    with pytest.raises(AlreadyExists, match="spring"):
        store.experiments.create(record.configuration, salt=b"other", at=1.0, by="test")
    assert [r.salt for r in store.experiments.records()] == [b"salt" * 4]


def test_experiments_are_listed_newest_first(store, sender):
    assert store.experiments.records() == []
    for key in ("one", "two", "three"):
        sender.start(key)
    assert [r.key for r in store.experiments.records()] == ["three", "two", "one"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.experiments.record("none"),
        lambda s: s.experiments.configuration("none", 1),
        lambda s: s.snapshots.snapshot("none", 1),
        lambda s: s.snapshots.history("none", 10),
        lambda s: s.snapshots.fold("none", now=1.0).__enter__(),
        lambda s: s.snapshots.audit("none").__enter__(),
        lambda s: s.experiments.move("none", "running", allowed=["draft"], at=1.0, by="test"),
    ],
)
def test_unknown_experiment_is_named_by_its_key(store, ask):
    with pytest.raises(NotFound, match="'none'"):
        ask(store)


def test_earlier_version_of_an_experiment_stays_readable(store, sender):
    first = sender.start().configuration
    second = renamed(store.experiments.record("spring"), "Spring sale")
    assert (
        store.experiments.configure(
            "spring", second, allowed=["running"], at=5.0, by="test"
        ).configuration
        == second
    )
    assert store.experiments.record("spring").configuration == second
    assert store.experiments.configuration("spring", 1) == first
    assert store.experiments.configuration("spring", 2) == second
    with pytest.raises(NotFound, match="spring/3"):
        store.experiments.configuration("spring", 3)


def test_later_of_two_edits_of_one_version_is_refused(store, sender):
    record = sender.start()
    store.experiments.configure(
        "spring", renamed(record, "first"), allowed=["running"], at=5.0, by="test"
    )
    with pytest.raises(StaleEdit) as caught:
        store.experiments.configure(
            "spring", renamed(record, "second"), allowed=["running"], at=6.0, by="test"
        )
    assert (caught.value.edited, caught.value.current) == (1, 2)
    assert store.experiments.record("spring").configuration.experiment.name == "first"


def test_an_edit_of_a_draft_does_not_land_once_somebody_started_it(store, sender):
    record = sender.start()  # between the reading of the draft and the writing of its edit
    with pytest.raises(WrongState, match="is running; the edit was made for one that is draft"):
        store.experiments.configure(
            "spring", renamed(record, "x"), allowed=["draft"], at=5.0, by="test"
        )
    assert store.experiments.record("spring").configuration.version == 1
    assert [c.action for c in store.accounts.changes(subject="experiment:spring")] == [
        "move",
        "create",
    ]


def test_a_configuration_needs_its_experiment(store, sender):
    record = sender.start()
    with pytest.raises(NotFound, match="autumn"):
        store.experiments.configure(
            "autumn", renamed(record, "x"), allowed=["running"], at=5.0, by="test"
        )


def test_start_and_stop_are_dated_the_first_time(store, sender):
    sender.start()
    moves = [("paused", "running", 5.0), ("running", "paused", 6.0), ("stopped", "running", 7.0)]
    for to, allowed, at in moves:
        record = store.experiments.move("spring", to, allowed=[allowed], at=at, by="test")
    assert (record.started_at, record.stopped_at) == (0.0, 7.0)
    archived = store.experiments.move("spring", "archived", allowed=["stopped"], at=9.0, by="test")
    assert archived == store.experiments.record("spring")
    assert archived.stopped_at == 7.0


def test_a_move_from_another_state_is_refused(store, sender):
    sender.start()
    with pytest.raises(WrongState, match="only draft or paused can become running"):
        store.experiments.move("spring", "running", allowed=["draft", "paused"], at=5.0, by="test")


def test_each_change_is_in_the_audit_log_with_before_and_after(store, sender):
    record = sender.start()
    store.experiments.configure(
        "spring", renamed(record, "Spring"), allowed=["running"], at=5.0, by="ann@shop.example"
    )
    sender.start("autumn")
    changes = store.accounts.changes(subject="experiment:spring")
    assert [c.action for c in changes] == ["configure", "move", "create"]
    configure, move, create = changes
    assert (configure.by, configure.at) == ("ann@shop.example", 5.0)
    assert (configure.before["name"], configure.after["name"]) == ("", "Spring")
    assert (move.before, move.after) == ({"state": "draft"}, {"state": "running"})
    assert create.before is None
    assert create.after["key"] == "spring"


def test_a_refused_change_is_not_in_the_audit_log(store, sender):
    sender.start()
    before = store.accounts.changes()
    with pytest.raises(WrongState):
        store.experiments.move("spring", "running", allowed=["draft"], at=5.0, by="test")
    assert store.accounts.changes() == before


def snapshot(version, at):
    return Snapshot(version, 1, at, 7, 100, b"statistic", b"tally %d" % version)


def fold_at(store, sender, record, moments):
    for version, at in enumerate(moments, start=1):
        sender.choose(record, at=at)
        with store.snapshots.fold("spring", now=at) as folding:
            folding.save(snapshot(version, at))


def test_a_snapshot_reads_back_and_is_the_newest(store, sender):
    record = sender.start()
    fold_at(store, sender, record, [5.0, 6.0])
    assert store.experiments.record("spring").learned_version == 2
    read = store.snapshots.snapshot("spring", 1)
    expected = snapshot(1, 5.0)
    assert [getattr(read, f) for f in read.__struct_fields__] == [
        getattr(expected, f) for f in expected.__struct_fields__
    ]
    with pytest.raises(NotFound, match="spring/3"):
        store.snapshots.snapshot("spring", 3)


def test_snapshot_history_is_spread_over_time_with_the_newest_included(store, sender):
    record = sender.start()
    assert store.snapshots.history("spring", 10) == []
    moments = [*range(1, 31), 100, 200, 300]  # many at first, few later
    fold_at(store, sender, record, [float(m) for m in moments])
    every = store.snapshots.history("spring", 1000)
    assert [p.at for p in every] == moments
    assert every[0].arm_counts == b"tally 1"
    some = store.snapshots.history("spring", 4)  # at 1, 100.67, 200.33 and 300
    assert [p.at for p in some] == [1.0, 100.0, 200.0, 300.0]
    assert [p.version for p in store.snapshots.history("spring", 1)] == [33]
    assert [p.at for p in store.snapshots.history("spring", 2)] == [1.0, 300.0]
    assert store.snapshots.history("spring", 0) == []
