"""With `partial`, a row is refused by itself, and all others are taken."""

from itertools import combinations

import pytest

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.errors import IdReused, InvalidInput, WrongState
from bandits.schemas import RefusedRow, Request, Reward

VARIANTS = "abcde"
SETS = [list(s) for size in range(1, 6) for s in combinations(VARIANTS, size)]
HONEST, STRANGER = actor_of("key", 1), actor_of("key", 2)


@pytest.fixture
def engine(store, now):
    return Engine(store, lambda: now[0])


def request(number, **given):
    return Request(f"u-{number}", decision_id=f"d-{number}", **given)


def reasons(rows: list[RefusedRow]) -> list[tuple[int, str | None, str]]:
    return [(r.row, r.id, r.reason) for r in rows]


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_choose_partial_refuses_taken_ids_alone(engine, store, sender, assignment) -> None:
    sender.start(assignment=assignment)
    sender.start("other")
    squats = [Request("x", decision_id=f"d-{i}") for i in (1, 4)]
    engine.choose("spring", squats[:1], actor=STRANGER)
    engine.choose("other", squats[1:], actor=STRANGER)
    (before,) = engine.choose("spring", [request(2)], actor=HONEST)
    requests = [request(i) for i in range(6)]
    with pytest.raises(IdReused):
        engine.choose("spring", requests, actor=HONEST)
    assert not store.log.decisions(["d-0", "d-3", "d-5"])
    answer = engine.choose_partial("spring", requests, actor=HONEST)
    assert reasons(answer.refused) == [(1, "d-1", "id_reused"), (4, "d-4", "id_reused")]
    assert all("another key" in r.detail for r in answer.refused)
    assert [d and (d.decision_id, d.repeat) for d in answer.decisions] == [
        ("d-0", False),
        None,
        ("d-2", True),
        ("d-3", False),
        None,
        ("d-5", False),
    ]
    assert answer.decisions[2].slots == before.slots
    assert set(store.log.decisions([f"d-{i}" for i in range(6)])) == {f"d-{i}" for i in range(6)}
    again = engine.choose_partial("spring", requests, actor=HONEST)
    assert again.refused == answer.refused
    assert [d and d.slots for d in again.decisions] == [d and d.slots for d in answer.decisions]


def test_choose_partial_refuses_an_id_that_comes_with_another_body_in_the_call(
    engine, sender
) -> None:
    sender.start()
    requests = [request(0), request(0), request(0, eligible={"subject": ["a"]}), request(1)]
    answer = engine.choose_partial("spring", requests, actor=HONEST)
    assert reasons(answer.refused) == [(2, "d-0", "id_reused")]
    assert "another key" not in answer.refused[0].detail
    assert [d and d.decision_id for d in answer.decisions] == ["d-0", "d-0", None, "d-1"]


def test_choose_partial_refuses_restrictions_beyond_the_limit_alone(
    engine, sender, monkeypatch
) -> None:
    monkeypatch.setattr("bandits.engine.choose.MOST_SETS", 16)
    sender.start(slots=[{"key": "s", "variants": [{"key": v} for v in VARIANTS]}])
    requests = [Request(f"u-{i}", eligible={"s": SETS[i]}) for i in range(14)]
    with pytest.raises(InvalidInput):
        engine.choose("spring", requests, actor=HONEST)
    answer = engine.choose_partial("spring", requests, actor=HONEST)
    assert reasons(answer.refused) == [(12, None, "eligible_sets"), (13, None, "eligible_sets")]
    assert "three quarters" in answer.refused[0].detail
    assert [d is None for d in answer.decisions] == [False] * 12 + [True] * 2
    assert engine.choose_partial("spring", requests, actor=HONEST).refused == answer.refused


def test_choose_partial_refuses_the_whole_for_faults_of_its_own(engine, store, sender) -> None:
    sender.start()
    engine.choose("spring", [request(0, eligible={"subject": ["a"]})], actor=STRANGER)
    wrong = [request(0), request(1), request(2, eligible={"subject": ["z"]})]
    with pytest.raises(InvalidInput) as caught:
        engine.choose_partial("spring", wrong, actor=HONEST)
    assert [f.pointer for f in caught.value.faults] == ["/requests/2/eligible/subject"]
    again = [request(3, eligible={"subject": ["b"]}), request(3), *wrong]
    with pytest.raises(InvalidInput) as caught:  # its row in the call, not among those left
        engine.choose_partial("spring", again, actor=HONEST)
    assert [f.pointer for f in caught.value.faults] == ["/requests/4/eligible/subject"]
    assert list(store.log.decisions(["d-0", "d-1", "d-2", "d-3"])) == ["d-0"]


def test_choose_partial_of_no_row_checks_the_state(engine, sender) -> None:
    sender.start()
    assert engine.choose_partial("spring", []).decisions == []
    engine.pause("spring", by="test")
    with pytest.raises(WrongState):
        engine.choose_partial("spring", [])


def test_reward_partial_refuses_rows_that_do_not_fit(engine, store, sender, now) -> None:
    record, other = sender.start(), sender.start("other")
    ids = [*sender.choose(record, 3, at=1.0), *sender.choose(other, 1, at=1.0)]
    now[0] = 2.0
    engine.reward([Reward(ids[0], "e", "click"), Reward(ids[3], "e", "click")], actor=STRANGER)
    rewards = [
        Reward(ids[0], "e", "click", 0.5),  # another value than before
        Reward(ids[0], "e2", "click"),
        Reward(ids[1], "e", "opne"),
        Reward(ids[1], "e f", "click"),
        Reward(ids[2], "o", "order", 5.0),
        Reward(ids[2], "o", "order", 6.0),  # another value than in this call
        Reward(ids[3], "e", "order", 1.0),  # another metric, in another experiment
        Reward("nobody's", "e", "click"),
        Reward(ids[2], "p", "order", 1e9),
    ]
    with pytest.raises(InvalidInput):
        engine.reward(rewards, actor=HONEST)
    receipt = engine.reward(rewards, actor=HONEST, partial=True)
    assert reasons(receipt.refused) == [
        (0, ids[0], "id_reused"),
        (2, ids[1], "invalid"),
        (3, ids[1], "invalid"),
        (5, ids[2], "id_reused"),
        (6, ids[3], "id_reused"),
        (8, ids[2], "invalid"),
    ]
    assert (receipt.accepted, receipt.repeated, receipt.unknown) == (2, 0, ["nobody's"])
    again = engine.reward(rewards, actor=HONEST, partial=True)
    assert again.refused == receipt.refused
    assert (again.accepted, again.repeated) == (0, 2)
    assert [e.value for e in store.log.events(ids[2])] == [5.0]


def test_reward_partial_names_every_fault_however_many(engine, sender, now) -> None:
    (decision_id,) = sender.choose(sender.start(), 1, at=1.0)
    now[0] = 2.0
    rewards = [Reward(decision_id, f"e-{i}", "opne" if i % 2 else "click") for i in range(500)]
    receipt = engine.reward(rewards, partial=True)
    assert [r.row for r in receipt.refused] == list(range(1, 500, 2))
    assert receipt.accepted == 250
    assert engine.reward(rewards[1::2], partial=True).accepted == 0
    assert engine.reward([], partial=True).refused == []
