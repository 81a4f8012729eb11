"""Void rows give way to what comes: ids of decisions and events, activations, cancellations."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest
from sqlalchemy import func, select

from bandits.actors import actor_of
from bandits.errors import IdReused, InvalidInput
from bandits.schemas import Request, Reward
from bandits.store.values import Deeds
from storage.schema import former_ids, repeats
from storage.snapshots.verify import compare
from tests.conftest import SOAK

OWNER, THIEF, OTHER = (actor_of("key", number) for number in (1, 2, 3))
SQUATTED = [f"d-{i}" for i in range(4)]


def void(engine, now, *, since=0.0, experiment="spring"):
    """Void what the thief did until now, and let time pass; return the void's number."""
    now[0] += 1.0
    receipt = engine.void(Deeds(THIEF, since, now[0]), by="anna", experiment=experiment)
    now[0] += 1.0
    return receipt.experiments[0].void


def learn(engine, now, key="spring"):
    """Learn all that is there once it has matured; return the decisions that count."""
    now[0] += 20.0
    while engine.learn(key):
        pass
    with engine.store.snapshots.audit(key) as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
    return sum(arm.sent for arm in engine.results(key).arms)


def own(number, **given):
    return Request(f"u-{number}", decision_id=f"d-{number}", **given)


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
@pytest.mark.parametrize(
    "squats", [("spring", False), ("spring", True), ("other", False)], ids=["id", "body", "other"]
)
def test_id_of_a_void_decision_goes_to_who_asks_for_it(engine, sender, now, assignment, squats):
    """Where the thief knew the very body, it was answered before the owner was."""
    squatted_in, alike = squats
    sender.start(assignment=assignment)
    sender.start("other", assignment=assignment)
    first = [own(i) if alike else Request(f"x-{i}", decision_id=f"d-{i}") for i in range(4)]
    drawn = engine.choose(squatted_in, first, actor=THIEF)
    assert learn(engine, now, squatted_in) == 4
    requests = [own(i) for i in range(6)]
    if not alike:
        with pytest.raises(IdReused):
            engine.choose("spring", requests, actor=OWNER)
    number = void(engine, now, experiment=squatted_in)
    (single,) = engine.choose("spring", requests[:1], actor=OWNER)
    batch = engine.choose("spring", requests, actor=OWNER)
    assert [d.decision_id for d in batch] == [f"d-{i}" for i in range(6)]
    assert [d.repeat for d in (single, *batch)] == [False, True, *[False] * 5]
    assert single.slots == batch[0].slots
    engine.reward([Reward("d-1", "e", "click")], actor=OWNER)
    assert learn(engine, now) == 6
    again = engine.choose("spring", requests, actor=OWNER)
    assert [(d.repeat, d.slots) for d in again] == [(True, d.slots) for d in batch]
    receipts = [engine.receipt(i) for i in SQUATTED]
    assert [r.void for r in receipts] == [None] * 4
    assert [r.actor for r in receipts] == [OWNER] * 4
    assert [len(r.events) for r in receipts] == [0, 1, 0, 0]
    latest = engine.store.log.latest_decisions(squatted_in, limit=50)
    squatted = [d for d in latest if d.void is not None]
    assert sorted(d.former_id for d in squatted) == SQUATTED
    assert len({d.id for d in squatted} - set(SQUATTED)) == 4
    former = {r.former_id: r for r in (engine.receipt(d.id) for d in squatted)}
    assert [former[d.decision_id].slots for d in drawn] == [d.slots for d in drawn]
    for receipt in former.values():  # it is drawn from the id that it had
        assert receipt.derived
        assert (receipt.actor, receipt.void.id, receipt.void.by) == (THIEF, number, "anna")
    entry = engine.restore(number, by="anna")
    assert entry.given_on == 4
    twice = 4 if squatted_in == "spring" else 0
    once = assignment == "per_subject" and alike
    assert learn(engine, now) == 6 + (0 if once else twice)
    assert [engine.receipt(i).actor for i in SQUATTED] == [OWNER] * 4
    assert [engine.receipt(d.id).void for d in squatted] == [None] * 4


def test_id_of_a_void_decision_goes_to_one_of_those_who_ask_at_once(engine, sender, now):
    sender.start()
    engine.choose("spring", [Request("x", decision_id="d-0")], actor=THIEF)
    void(engine, now)

    def ask(_):
        return engine.choose("spring", [own(0)], actor=OWNER)[0]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert sorted(d.repeat for d in answers) == [False] + [True] * 7
    assert len({d.slots["subject"]["variant"] for d in answers}) == 1
    assert learn(engine, now) == 1


def test_id_that_went_on_twice_is_the_last_ones(engine, store, sender, now):
    sender.start()
    for name in ("x", "y"):
        since = now[0]
        engine.choose("spring", [Request(name, decision_id="d-0")], actor=THIEF)
        void(engine, now, since=since)
    engine.choose("spring", [own(0)], actor=OWNER)
    assert learn(engine, now) == 1
    stored = store.log.latest_decisions("spring", limit=9)
    assert [(d.actor, d.former_id) for d in stored] == [
        (OWNER, None),
        (THIEF, "d-0"),
        (THIEF, "d-0"),
    ]


def test_id_of_a_void_decision_is_given_in_a_partial_call(engine, sender, now):
    sender.start()
    engine.choose("spring", [Request("x", decision_id="d-0")], actor=THIEF)
    engine.choose("spring", [Request("y", decision_id="d-1")], actor=OTHER)
    void(engine, now)
    answer = engine.choose_partial("spring", [own(0), own(1), own(2)], actor=OWNER)
    assert [d and d.decision_id for d in answer.decisions] == ["d-0", None, "d-2"]
    assert [r.reason for r in answer.refused] == ["id_reused"]


def test_decision_committed_after_its_void_holds_no_id_and_no_subject(engine, store, sender, now):
    record = sender.start(assignment="per_subject")
    engine.choose("spring", [Request("first")], actor=THIEF)
    now[0] = 5.0
    void(engine, now)
    late = sender.chosen(2, ids=["d-0", "d-1"], subjects=["u-0", "u-1"])
    store.log.append_decisions(record, late, actor=THIEF, at=4.0)  # its transaction had begun then
    answers = engine.choose("spring", [own(0), Request("u-1"), Request("u-1")], actor=OWNER)
    assert [d.repeat for d in answers] == [False, False, True]
    assert learn(engine, now) == 2


def test_erasing_who_had_a_void_decision_leaves_no_former_id(engine, store, sender, now):
    sender.start()
    engine.choose("spring", [Request("u-0", decision_id="ann-0")], actor=THIEF)
    void(engine, now)
    engine.choose("spring", [Request("u-1", decision_id="ann-0")], actor=OWNER)
    exported = engine.subject("u-0").decisions
    assert [(d.former_id, d.void is None) for d in exported] == [("ann-0", False)]
    engine.erase("u-0", by="anna")
    with store.database.reading() as transaction:
        assert transaction.execute(select(func.count()).select_from(former_ids)).scalar_one() == 0
    assert learn(engine, now) == 1


def test_event_takes_the_place_of_a_void_one(engine, sender, now):
    sender.start()
    (decision,) = engine.choose("spring", [Request("u")], actor=OWNER)
    i = decision.decision_id
    false = [Reward(i, "order-1", "order", 99.0), Reward(i, "click-1", "click")]
    engine.reward(false, actor=THIEF)
    true = [Reward(i, "order-1", "order", 5.0), Reward(i, "click-2", "click")]
    with pytest.raises(IdReused):
        engine.reward(true, actor=OWNER)
    learn(engine, now)
    number = void(engine, now)
    receipt = engine.receipt(i)
    assert (receipt.reward, [e["void"] for e in receipt.events]) == (0.0, [True, True])
    assert engine.reward(true, actor=OWNER).accepted == 2
    assert engine.reward(true, actor=OWNER).repeated == 2
    learn(engine, now)
    receipt = engine.receipt(i)
    assert receipt.reward == 6.0
    assert {e["event_id"]: e["void"] for e in receipt.events} == {
        "order-1": False,
        "click-1": True,
        "click-2": False,
    }
    engine.restore(number, by="anna")
    learn(engine, now)
    assert [e["value"] for e in engine.receipt(i).events if e["event_id"] == "order-1"] == [5.0]
    assert sum(arm.reward for arm in engine.results("spring").arms) == 6.0


def test_mark_takes_the_place_of_a_void_one(engine, sender, now):
    sender.start(await_activation=True)
    ids = [d.decision_id for d in engine.choose("spring", [Request("a"), Request("b")])]
    engine.activate(ids[:1], actor=THIEF)
    engine.cancel(ids[1:], actor=THIEF)
    assert learn(engine, now) == 1
    number = void(engine, now)
    receipts = [engine.receipt(i) for i in ids]
    assert [(r.started_at, r.cancelled_at) for r in receipts] == [(None, None)] * 2
    assert learn(engine, now) == 0
    at = now[0]
    assert engine.activate(ids, actor=OWNER).accepted == 2
    assert engine.activate(ids, actor=OWNER).repeated == 2
    assert learn(engine, now) == 2
    assert [engine.receipt(i).started_at.timestamp() for i in ids] == [at, at]
    assert engine.cancel(ids[1:], actor=OWNER).accepted == 1
    assert learn(engine, now) == 1
    engine.restore(number, by="anna")
    assert learn(engine, now) == 1
    assert engine.receipt(ids[1]).cancelled_at is not None


ONLY_A, NOT_A = {"subject": ["a"]}, {"subject": ["b", "c"]}
SETS = [None, ONLY_A, NOT_A]


@pytest.mark.parametrize("partial", [False, True])
def test_subject_gets_a_stand_in_where_its_decision_is_ruled_out(engine, sender, now, partial):
    """Who chose first for known subjects owned their answer, within variants of its choice."""
    sender.start(assignment="per_subject", control={"subject": "b"})
    engine.choose("spring", [Request(f"u-{i}", eligible=ONLY_A) for i in range(3)], actor=THIEF)
    requests = [
        own(0, eligible=NOT_A),
        Request("u-1", eligible={"subject": ["c"]}),
        Request("u-2", eligible={"subject": ["c", "a"]}),
        Request("u-3", eligible=ONLY_A),
        Request("u-3", eligible=NOT_A),
        Request("u-1"),
    ]
    if partial:
        answer = engine.choose_partial("spring", requests, actor=OWNER)
        assert answer.refused == []
        decisions = answer.decisions
    else:
        decisions = engine.choose("spring", requests, actor=OWNER)
    variants = [d.slots["subject"]["variant"] for d in decisions]
    assert variants == ["b", "c", "a", "a", "b", "a"]
    assert [d.fallback for d in decisions] == [True, True, False, False, True, False]
    assert [d.repeat for d in decisions] == [False, False, True, False, False, True]
    assert [d.propensity for d in decisions if d.fallback] == [1.0] * 3
    (again,) = engine.choose("spring", requests[:1], actor=OWNER)
    assert (again.repeat, again.fallback, again.slots) == (True, True, decisions[0].slots)
    assert learn(engine, now) == 4  # each subject is one observation
    void(engine, now)
    fresh = engine.choose(
        "spring", [Request(f"u-{i}", eligible=NOT_A) for i in range(3)], actor=OWNER
    )
    assert [(d.fallback, d.repeat, d.propensity) for d in fresh] == [(False, False, 0.5)] * 3
    assert learn(engine, now) == 4


def test_subject_gets_stand_ins_from_concurrent_single_calls(engine, sender, now):
    sender.start(assignment="per_subject")
    engine.choose("spring", [Request(f"u-{i}", eligible=ONLY_A) for i in range(9)], actor=THIEF)

    def ask(i):
        return engine.choose("spring", [Request(f"u-{i}", eligible=NOT_A)], actor=OWNER)[0]

    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(ask, range(12)))
    assert [d.fallback for d in answers] == [True] * 9 + [False] * 3
    assert all(d.slots["subject"]["variant"] in {"b", "c"} for d in answers)
    assert learn(engine, now) == 12


def test_key_answered_with_a_waiting_decision_activates_it(engine, store, sender, now):
    sender.start(assignment="per_subject", await_activation=True)
    first = engine.choose("spring", [Request(f"u-{i}") for i in range(4)], actor=THIEF)
    ids = [d.decision_id for d in first]
    assert engine.activate(ids, actor=OWNER, own_only=True).accepted == 0
    answers = engine.choose("spring", [Request("u-0"), Request("u-1")], actor=OWNER)
    assert [d.decision_id for d in answers] == ids[:2]
    cancelled = engine.cancel(ids, actor=OWNER, own_only=True)
    assert (cancelled.accepted, len(cancelled.refused)) == (0, 4)
    marks = engine.activate(ids, actor=OWNER, own_only=True)
    assert (marks.accepted, [r.id for r in marks.refused]) == (2, ids[2:])
    assert {r.reason for r in marks.refused} == {"another_key"}
    assert learn(engine, now) == 2
    engine.choose("spring", [Request("u-0")], actor=OTHER)  # it runs: there is nothing to activate
    with store.database.reading() as transaction:
        actors = transaction.execute(select(repeats.c.actor)).scalars().all()
    assert actors == [OWNER, OWNER]
    engine.erase("u-0", by="anna")
    with store.database.reading() as transaction:
        assert len(transaction.execute(select(repeats)).all()) == 1


def test_key_answered_for_the_same_body_activates_its_decision(engine, sender):
    sender.start(await_activation=True)
    engine.choose("spring", [own(0), own(1)], actor=THIEF)
    answer = engine.choose_partial("spring", [own(0), Request("x", decision_id="d-1")], actor=OWNER)
    assert [r.id for r in answer.refused] == ["d-1"]
    marks = engine.activate(["d-0", "d-1"], actor=OWNER, own_only=True)
    assert (marks.accepted, [r.id for r in marks.refused]) == (1, ["d-1"])


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"await_activation": True, "assignment": "per_subject"},
        {"policy": {"name": "thompson_gaussian"}, "holdout": 0.2},
    ],
    ids=["plain", "waiting", "holdout"],
)
@pytest.mark.parametrize("seed", range(20 if SOAK else 1))
def test_sums_equal_the_log_whatever_gave_way(engine, sender, now, declared, seed):
    sender.start(send_within_seconds=300.0, **declared)
    rng = Random(seed)
    voids = []
    for _ in range(50):
        now[0] += rng.choice([0.5, 1.0, 8.0])
        actor = rng.choice([OWNER, THIEF])
        ids = rng.sample([f"d-{i}" for i in range(12)], 4)
        match rng.choice(["choose", "choose", "reward", "reward", "mark", "learn", "void"]):
            case "choose":
                requests = [
                    Request(f"u-{rng.randrange(8)}", decision_id=i, eligible=rng.choice(SETS))
                    for i in ids
                ]
                engine.choose_partial("spring", requests, actor=actor)
            case "reward":
                events = [Reward(i, f"e-{rng.randrange(2)}", "click") for i in ids]
                engine.reward(events, actor=actor, partial=True)
            case "mark":
                rng.choice([engine.activate, engine.activate, engine.cancel])(ids, actor=actor)
            case "learn":
                learn(engine, now)
            case "void" if voids and rng.randrange(2):
                engine.restore(voids.pop(), by="anna")
                learn(engine, now)
            case _:
                since = now[0] - rng.choice([10.0, 40.0])
                with suppress(InvalidInput):  # nothing was done then
                    voids.append(void(engine, now, since=since))
    while voids:
        engine.restore(voids.pop(), by="anna")
        learn(engine, now)
