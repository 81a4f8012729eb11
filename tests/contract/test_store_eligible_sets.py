"""An experiment keeps results for so many sets of variants, whichever process is asked."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, islice

import pytest
from msgspec import convert
from sqlalchemy import delete, func, insert, select

from bandits.actors import PROGRAM, actor_of
from bandits.engine import Engine
from bandits.engine.choose import MOST_SETS, eligible_set_limit
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Request
from bandits.store.values import Deeds
from bandits.versions import Configuration
from storage.schema import decisions, eligible_set_uses, eligible_sets

VARIANTS = "abcdefghi"
SETS = [list(s) for size in range(1, 10) for s in combinations(VARIANTS, size)]
SLOTS = [{"key": "s", "variants": [{"key": v} for v in VARIANTS]}]
OWN_SETS = 256  # that one actor may introduce, where it is the only one


def asking(number):
    return Request(f"u-{number}", eligible={"s": SETS[number]})


def count(store, table):
    with store.database.reading() as transaction:
        return transaction.execute(select(func.count()).select_from(table)).scalar_one()


def test_eligible_set_limit_refuses_one_more_by_name_and_stores_nothing(store, sender):
    sender.start(slots=SLOTS)
    here, there = Engine(store), Engine(store)
    here.choose("spring", [asking(i) for i in range(OWN_SETS)])
    for engine in (here, there):
        with pytest.raises(InvalidInput) as caught:
            engine.choose("spring", [asking(0), Request("u"), asking(OWN_SETS), asking(300)])
        places = [f.pointer for f in caught.value.faults]
        assert places == ["/requests/2/eligible", "/requests/3/eligible"]
        assert f"{MOST_SETS}" in caught.value.faults[0].detail
        with pytest.raises(InvalidInput):
            engine.choose("spring", [asking(300)])
    assert count(store, decisions) == OWN_SETS
    again = [Request("v", eligible={"s": [*reversed(SETS[100]), SETS[100][0]]}), Request("w")]
    assert len(there.choose("spring", again)) == 2
    assert count(store, eligible_sets) == OWN_SETS


def test_eligible_set_limit_refuses_a_batch_as_a_whole(store, sender):
    sender.start(slots=SLOTS)
    engine = Engine(store)
    with pytest.raises(InvalidInput) as caught:
        engine.choose("spring", [asking(i) for i in range(OWN_SETS + 3)])
    assert [f.pointer for f in caught.value.faults] == [
        f"/requests/{OWN_SETS + i}/eligible" for i in range(3)
    ]
    assert count(store, eligible_sets) == count(store, decisions) == 0


def test_eligible_sets_of_dry_runs_and_shipped_arms_are_not_counted(store, sender):
    sender.start(slots=SLOTS)
    engine = Engine(store)
    engine.choose("spring", [asking(i) for i in range(300)], dry_run=True)
    assert count(store, eligible_sets) == 0
    engine.stop("spring", by="test", ship={"s": "a"})
    engine.choose("spring", [asking(i) for i in range(300)])
    assert count(store, eligible_sets) == 0


def test_eligible_set_limit_holds_for_concurrent_calls(store, sender):
    record = sender.start()
    sender.start("autumn")

    def ask(number):
        return store.log.admit(record, [b"%d" % number], at=1.0, most=7)

    with ThreadPoolExecutor(8) as pool:
        refused = [r for found in pool.map(ask, range(20)) for r in found]
    assert len(refused) == 15
    assert count(store, eligible_sets) == 5
    assert store.log.admit(store.experiments.record("autumn"), [b"0"], at=1.0, most=2) == []


def test_eligible_sets_of_one_key_leave_room_for_others_however_many(store, sender):
    record = sender.start()
    numbers = iter(range(10**6))

    def refused(k, n):
        """Let a key introduce n sets; return how many are too many."""
        sets = [b"%d" % number for number in islice(numbers, n)]
        key = actor_of("key", k)
        return len(store.log.admit(record, sets, actor=key, at=1.0, most=MOST_SETS))

    for key, most in enumerate([256, 64, 16, 4]):
        assert (refused(key, most + 1), refused(key, most), refused(key, 1)) == (1, 0, 1)
    assert (refused(0, 1), refused(9, 1)) == (1, 0)
    assert count(store, eligible_sets) == 341


def test_eligible_sets_are_counted_by_who_introduced_them(store, sender):
    record = sender.start(slots=SLOTS)
    engine, key = Engine(store), actor_of("key", 3)
    engine.choose("spring", [asking(i) for i in range(3)], actor=key)
    engine.choose("spring", [asking(i) for i in range(5)], actor=PROGRAM)
    with store.database.writing() as transaction:
        transaction.execute(insert(eligible_sets).values(experiment_id=record.id, digest=b"before"))
    counts = engine.results("spring").health.eligible_sets
    assert {(c.actor, c.sets) for c in counts} == {(None, 1), (key, 3), (PROGRAM, 2)}
    assert sum(c.share for c in counts) == pytest.approx(6 / MOST_SETS)


def test_eligible_sets_that_only_void_requests_had_take_no_room(store, sender, now, monkeypatch):
    """Before: what a thief took was taken for good, also once all that it did was void."""
    monkeypatch.setattr("bandits.engine.choose.MOST_SETS", 16)
    sender.start(slots=SLOTS)
    here, there = (Engine(store, lambda: now[0]) for _ in range(2))
    thief, owner = actor_of("key", 3), actor_of("key", 4)

    def introduce(engine, actor, numbers):
        now[0] += 1.0
        return len(engine.choose("spring", [asking(i) for i in numbers], actor=actor))

    def counts():
        here.learn("spring")
        return {c.actor: c.sets for c in here.results("spring").health.eligible_sets}

    assert introduce(here, thief, range(12)) == 12
    assert introduce(there, owner, [4, 5]) == 2  # of those that the thief introduced
    with pytest.raises(InvalidInput):
        introduce(there, owner, range(12, 16))
    assert counts() == {thief: 12}
    number = here.void(Deeds(thief, 0.0, now[0]), by="anna").experiments[0].void
    assert counts() == {owner: 2}
    assert introduce(there, owner, range(12, 22)) == 10
    with pytest.raises(InvalidInput):
        introduce(there, owner, [22])
    assert introduce(here, thief, range(3)) == 3  # its key was rotated, and goes on
    assert counts() == {thief: 3, owner: 12}
    here.restore(number, by="anna")
    assert counts() == {thief: 12, owner: 10}
    with pytest.raises(InvalidInput):  # nobody has room until fewer are used
        introduce(there, owner, [22])
    assert introduce(there, owner, [0, 6]) == 2  # those that came before are anybody's


def test_eligible_sets_from_before_uses_were_noted_count(store, sender, now):
    record = sender.start(slots=SLOTS)
    engine, key = Engine(store, lambda: now[0]), actor_of("key", 3)
    engine.choose("spring", [asking(i) for i in range(3)], actor=key)
    with store.database.writing() as transaction:
        transaction.execute(delete(eligible_set_uses))
    now[0] = 2.0
    assert count_eligible(store, record) == {key: 3}
    engine.void(Deeds(key, 1.0, 2.0), by="anna")
    assert count_eligible(store, record) == {key: 3}  # it may have asked for them before
    with pytest.raises(InvalidInput, match="did nothing"):
        engine.void(Deeds(key, 0.0, 2.0), by="anna")
    assert len(engine.choose("spring", [asking(0)], actor=key)) == 1
    engine.restore(engine.voids("spring")[0].id, by="anna")
    engine.learn("spring")
    engine.void(Deeds(key, 0.0, 2.0), by="anna")
    assert count_eligible(store, record) == {}
    now[0] = 3.0
    engine.choose("spring", [asking(0)], actor=key)
    assert count_eligible(store, record) == {key: 1}


def count_eligible(store, record):
    return dict(store.snapshots.state(record.key, 1).eligible_sets)


def test_eligible_set_limit_is_lower_with_many_arms_and_segments():
    def most(n_variants, **declared):
        slot = {"key": "s", "variants": [{"key": f"v{i}"} for i in range(n_variants)]}
        policy, reward = {"name": "uniform"}, {"metrics": {"click": {}}}
        declared |= {"key": "k", "slots": [slot], "policy": policy, "reward": reward}
        return eligible_set_limit(Configuration.first(convert(declared, Experiment)))

    channels = {"kind": "category", "name": "c", "values": [str(i) for i in range(38)]}
    assert most(10) == MOST_SETS
    assert most(100, context=[channels]) == 45
    assert most(100) == 181
    assert most(50) == MOST_SETS
