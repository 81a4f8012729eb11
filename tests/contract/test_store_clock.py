"""Clocks that step back, or disagree, harm nothing: each thing counts once, and in time."""

from datetime import UTC, datetime

from bandits.engine import Engine
from bandits.schemas import Request, Reward
from storage.snapshots.verify import compare

HOUR = 3600.0
WINDOW, MATURITY = 24 * HOUR, HOUR
DECLARED = {
    "policy": {"name": "thompson"},
    "reward": {
        "metrics": {"click": {}},
        "window_seconds": WINDOW,
        "maturity_seconds": MATURITY,
    },
}
START = 1_800_000_000.0
STEPS = ("choose", "activate", "reward", "learn", "cancel", "learn again", "verify")


def agrees(store):
    with store.snapshots.audit("spring") as audit:
        assert [d for c in compare(audit, int) for d in c.differences()] == []


def learned_all(engine, store):
    """Learn to the end, where nothing is left over; return sent, complete, closed, reward."""
    while engine.learn("spring"):
        pass
    agrees(store)
    assert store.snapshots.backlog(engine.clock()) == {}
    arms = engine.results("spring").arms
    return [sum(getattr(a, n) for a in arms) for n in ("sent", "complete", "closed", "reward")]


def live(engine, store, now, back):
    """Go through every step once, the clock stepped back before one; return the decisions."""
    ids = []
    for step in STEPS:
        now[0] += 60.0 - (HOUR if step == back else 0.0)
        version, at = store.experiments.record("spring").learned_version, 0.0
        if version:
            at = store.snapshots.snapshot("spring", version).at
        match step:
            case "choose":
                people = [Request(f"{back} {i}") for i in range(4)]
                ids = [d.decision_id for d in engine.choose("spring", people)]
            case "activate":
                assert engine.activate(ids).accepted == 4
            case "reward":
                receipt = engine.reward([Reward(i, "e", "click") for i in ids[:2]])
                assert (receipt.accepted, receipt.early, receipt.skewed) == (2, [], 0)
            case "cancel":
                assert engine.cancel(ids[3:]).accepted == 1
            case "verify":
                agrees(store)
            case _:
                snapshot = engine.learn("spring")
                assert snapshot is not None
                assert snapshot.version == version + 1
                assert snapshot.at >= at
    return ids


def test_a_clock_that_steps_back_an_hour_before_any_step_harms_nothing(store, sender):
    now = [START]
    engine = Engine(store, lambda: now[0])
    sender.start(await_activation=True, **DECLARED)
    ids = [i for back in ("never", *STEPS) for i in live(engine, store, now, back)]
    receipts = [engine.receipt(i) for i in ids]
    versions = [r.policy_version for r in receipts]
    assert versions == sorted(versions)
    assert len(set(versions)) > 2
    assert all(r.derived for r in receipts)
    now[0] = START + len(STEPS) * HOUR + WINDOW + MATURITY
    lives = 1 + len(STEPS)
    assert learned_all(engine, store) == [3 * lives, 3 * lives, 3 * lives, 2 * lives]


def test_servers_whose_clocks_are_an_hour_apart_count_everything_once(store, sender):
    now = [START]
    ahead, behind = Engine(store, lambda: now[0] + HOUR), Engine(store, lambda: now[0])
    sender.start(**DECLARED)
    rewarded = 0
    for turn in range(6):
        now[0] += 600.0
        chooses, learns = (ahead, behind) if turn % 2 else (behind, ahead)
        made = chooses.choose("spring", [Request(f"{turn} {i}") for i in range(3)])
        learns.learn("spring")
        receipt = learns.reward([Reward(d.decision_id, "e", "click") for d in made[:2]])
        rewarded += receipt.accepted
        assert receipt.early == []
        chooses.learn("spring")
        agrees(store)
    now[0] += WINDOW + MATURITY
    assert learned_all(ahead, store) == [18, 18, 18, rewarded]
    assert rewarded == 12


def test_event_time_of_the_sender_counts_though_our_clock_was_stepped_back(store, sender):
    now = [START]
    engine = Engine(store, lambda: now[0])
    sender.start(**DECLARED)
    (made,) = engine.choose("spring", [Request("u-1")])
    rightly = datetime.fromtimestamp(START + 120.0, UTC)
    wrongly = datetime.fromtimestamp(START - HOUR, UTC)
    now[0] -= HOUR
    events = [
        Reward(made.decision_id, "right", "click", 1.0, rightly),
        Reward(made.decision_id, "wrong", "click", 1.0, wrongly),
    ]
    receipt = engine.reward(events)
    assert (receipt.accepted, receipt.early, receipt.skewed) == (1, [made.decision_id], 1)
    (event,) = engine.receipt(made.decision_id).events
    assert event["occurred_at"].timestamp() == START
