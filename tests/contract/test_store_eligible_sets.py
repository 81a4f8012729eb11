"""An experiment keeps results for so many sets of variants, whichever process is asked."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest
from msgspec import convert
from sqlalchemy import func, select

from bandits.engine import Engine
from bandits.engine.choose import MOST_SETS, eligible_set_limit
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Request
from bandits.versions import Configuration
from storage.schema import decisions, eligible_sets

VARIANTS = "abcdefghi"
SETS = [list(s) for size in range(1, 10) for s in combinations(VARIANTS, size)]
SLOTS = [{"key": "s", "variants": [{"key": v} for v in VARIANTS]}]


def asking(number):
    return Request(f"u-{number}", eligible={"s": SETS[number]})


def count(store, table):
    with store.database.reading() as transaction:
        return transaction.execute(select(func.count()).select_from(table)).scalar_one()


def test_eligible_set_limit_refuses_one_more_by_name_and_stores_nothing(store, sender):
    sender.start(slots=SLOTS)
    here, there = Engine(store), Engine(store)
    here.choose("spring", [asking(i) for i in range(MOST_SETS)])
    for engine in (here, there):
        with pytest.raises(InvalidInput) as caught:
            engine.choose("spring", [asking(0), Request("u"), asking(MOST_SETS), asking(300)])
        places = [f.pointer for f in caught.value.faults]
        assert places == ["/requests/2/eligible", "/requests/3/eligible"]
        assert "256" in caught.value.faults[0].detail
        with pytest.raises(InvalidInput):
            engine.choose("spring", [asking(300)])
    assert count(store, decisions) == MOST_SETS
    again = [Request("v", eligible={"s": [*reversed(SETS[100]), SETS[100][0]]}), Request("w")]
    assert len(there.choose("spring", again)) == 2
    assert count(store, eligible_sets) == MOST_SETS


def test_eligible_set_limit_refuses_a_batch_as_a_whole(store, sender):
    sender.start(slots=SLOTS)
    engine = Engine(store)
    with pytest.raises(InvalidInput) as caught:
        engine.choose("spring", [asking(i) for i in range(MOST_SETS + 3)])
    assert [f.pointer for f in caught.value.faults] == [
        f"/requests/{MOST_SETS + i}/eligible" for i in range(3)
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
        return store.log.admit(record, [b"%d" % number], most=7)

    with ThreadPoolExecutor(8) as pool:
        refused = [r for found in pool.map(ask, range(20)) for r in found]
    assert len(refused) == 13
    assert count(store, eligible_sets) == 7
    assert store.log.admit(store.experiments.record("autumn"), [b"0"], most=1) == []


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
    assert most(70) == MOST_SETS
