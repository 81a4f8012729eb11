"""Whatever happens in whatever order, what is learned is what a simple model says."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import fold
from bandits.engine.sums import load_inference_state
from bandits.store.values import Event
from storage.snapshots import backlog
from storage.snapshots.verify import compare

MATURITY, REWARD_WINDOW, WINDOW = 10.0, 25.0, 40.0
EVENTS = {"e0": ("click", 1.0), "e1": ("click", 1.0), "e2": ("order", 7.5)}
LATEST = {"e6": ("score", 3.0), "e7": ("score", 1.0), "e8": ("score", 2.0)}
AS_OF = {"e6": 30.0, "e7": 20.0, "e8": 30.0}  # of events with one
LISTED = {"e3": ("open", 1.0), "e4": ("refund", 2.5), "e5": ("refund", 4.0)}
KINDS = ("choose", "reward", "activate", "cancel", "fold", "wait")


@dataclass
class Sent:
    """One decision of the model."""

    id: str
    subject: str
    arm: int
    context: np.ndarray
    holdout: bool
    fallback: bool
    started_at: float | None
    cancelled: bool = False
    learned: bool = False
    closed: bool = False
    events: dict[str, tuple[str, float]] = field(default_factory=dict)  # those that count

    @property
    def metrics(self):
        clicks = [v for m, v in self.events.values() if m == "click"]
        orders = [v for m, v in self.events.values() if m == "order"]
        scores = [(AS_OF[i], i, v) for i, (m, v) in self.events.items() if m == "score"]
        score = max(scores, default=(0.0, "", 0.0))[2]
        return max(clicks, default=0.0), min(sum(orders), 100.0), score


class Model:
    """What the store should know, told decision by decision."""

    def __init__(self, store, record):
        self.store = store
        self.record = record
        self.experiment = record.configuration.experiment
        self.now = 0.0
        self.at = 0.0  # the reference time of the newest snapshot
        self.sent = []
        self.held = set()  # event ids given, that count or not
        self.count = 0

    def step(self, kind, number, size):
        getattr(self, kind)(np.random.default_rng(number), size)

    def choose(self, rng, size, sender=None):
        ids = [f"{self.record.key}-{self.count + i}" for i in range(size)]
        self.count += size
        subjects = [f"s{rng.integers(8)}" for _ in ids]
        arms, contexts = rng.integers(0, 3, size), np.ones((size, 2))
        contexts[:, 1] = rng.random(size)
        holdout, fallback = rng.random(size) < 0.2, rng.random(size) < 0.15
        chosen = self.sender.chosen(
            size,
            ids=ids,
            subjects=subjects,
            arms=arms,
            contexts=contexts,
            holdout=holdout,
            fallback=fallback,
        )
        earlier = self.store.log.append_decisions(self.record, chosen, at=self.now)
        starts = None if self.experiment.await_activation else self.now
        columns = zip(ids, subjects, arms, contexts, holdout, fallback, strict=True)
        for row, (i, subject, arm, context, held_out, failed) in enumerate(columns):
            has = self._decision_of(subject, but=ids)
            assert (row in earlier) == (has is not None or self._first(row, subjects, fallback))
            if row in earlier:
                assert has is None or earlier[row].id == has.id
                continue
            self.sent.append(Sent(i, subject, arm, context, held_out, failed, starts))

    def _decision_of(self, subject, but=()):
        if self.experiment.assignment == "per_decision":
            return None
        mine = [
            d
            for d in self.sent
            if d.subject == subject and not d.cancelled and not d.fallback and d.id not in but
        ]
        assert len(mine) <= 1
        return mine[0] if mine else None

    def _first(self, row, subjects, fallback):
        """Tell whether another row of the same group takes this row's subject."""
        if self.experiment.assignment == "per_decision":
            return False
        takers = [j for j, s in enumerate(subjects) if s == subjects[row] and not fallback[j]]
        return bool(takers) and takers[0] != row

    def reward(self, rng, size):
        if not self.sent:
            return
        events, accepted, late_ones = [], 0, 0
        for _ in range(size):
            decision = self._some(rng, 1)[0]
            event_id = f"e{rng.integers(9)}"
            metric, value = (EVENTS | LISTED | LATEST)[event_id]
            late = bool(rng.random() < 0.2)
            event = Event(decision.id, event_id, metric, value, self.now, late)
            events.append(replace(event, as_of=AS_OF.get(event_id)))
            if (decision.id, event_id) in self.held:
                continue
            self.held.add((decision.id, event_id))
            accepted += not late
            late_ones += late
            if not late:
                decision.events[event_id] = (metric, value)
        appended = self.sender.append(events, at=self.now)
        assert (appended.accepted, appended.late) == (accepted, late_ones)
        assert appended.repeated == size - accepted - late_ones

    def activate(self, rng, size):
        some = self._some(rng, size)
        fresh = [d for d in some if d.started_at is None and not d.cancelled]
        marked = self.store.log.activate([d.id for d in some], at=self.now)
        assert (marked.accepted, marked.repeated) == (len(fresh), len(some) - len(fresh))
        for decision in fresh:
            decision.started_at = self.now

    def cancel(self, rng, size):
        some = self._some(rng, size)
        fresh = [d for d in some if not d.cancelled]
        marked = self.store.log.cancel([d.id for d in some], at=self.now)
        assert (marked.accepted, marked.repeated) == (len(fresh), len(some) - len(fresh))
        for decision in fresh:
            decision.cancelled = True

    def _some(self, rng, size):
        """Pick decisions, most often of the last few, so that much happens to the same ones."""
        few = self.sent[-8:] if rng.random() < 0.7 else self.sent
        return [few[i] for i in rng.permutation(len(few))[:size]]

    def wait(self, rng, size):
        self.now += float(rng.choice([0.5, 3.0, 9.0, 25.0, -4.0])) * size

    def fold(self, rng, size):
        while fold(self.store, self.record.key, now=self.now) is not None:
            pass
        self.check()

    def check(self):
        record = self.store.experiments.record(self.record.key)
        if record.learned_version == 0:
            assert not any(d.started_at is not None for d in self._counting())
            return
        snapshot = self.store.snapshots.snapshot(record.key, record.learned_version)
        due_at = max(self.now, snapshot.at)
        for d in self._counting():
            d.learned |= d.started_at is not None and d.started_at + MATURITY <= due_at
            d.closed |= d.started_at is not None and d.started_at <= due_at - REWARD_WINDOW
        stored = load_statistic(record.configuration, snapshot)
        with self.store.snapshots.audit(record.key) as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        self.check_grounds(load_inference_state(record.configuration, snapshot))
        statistic, tally = self.expected(snapshot.at)
        for name, value in statistic.items():
            np.testing.assert_allclose(getattr(stored[0], name), value, atol=1e-9, err_msg=name)
        for name, value in tally.items():
            np.testing.assert_allclose(getattr(stored[1], name), value, atol=1e-9, err_msg=name)

    def check_grounds(self, grounds):
        """Compare what results rest on with the decisions whose reward window has closed."""
        sends, earned, conversions = np.zeros((3, 3))
        for d in self._counting():
            if d.closed and not d.holdout:
                sends[d.arm] += 1
                earned[d.arm] += sum(d.metrics)
                conversions[d.arm] += sum(d.metrics) > 0
        np.testing.assert_allclose(grounds.arms.sends, sends)
        np.testing.assert_allclose(grounds.arms.earned, earned, atol=1e-9)
        np.testing.assert_allclose(grounds.arms.earning.sum(axis=0), conversions)
        np.testing.assert_allclose(grounds.segments.sends.sum(axis=0), sends)
        np.testing.assert_allclose(grounds.periods.sums[:, 0].sum(axis=0), sends)
        np.testing.assert_allclose(grounds.lateness.earned.sum(), earned.sum(), atol=1e-9)
        self.check_events(grounds)

    def check_events(self, grounds):
        """Compare counts of each event with the decisions that were sent, and those closed."""
        sent = [d for d in self._counting() if d.started_at is not None]
        names = {m for d in sent for m, _ in d.events.values()}
        assert grounds.events.names == tuple(sorted(names))
        for e, name in enumerate(grounds.events.names):
            so_far, closed = np.zeros((4, 4)), np.zeros((4, 4))
            for d in sent:
                values = [v for m, v in d.events.values() if m == name]
                if values:
                    total = max(values) if name in ("click", "open") else min(sum(values), 100.0)
                    times = len(values)
                    if name == "score":
                        total, times = d.metrics[2], 1
                    group = 3 if d.holdout else d.arm
                    so_far[:, group] += 1, times, total, total**2
                    closed[:, group] += [c * d.closed for c in (1, times, total, total**2)]
            np.testing.assert_allclose(grounds.events.so_far[e], so_far, err_msg=name)
            np.testing.assert_allclose(grounds.events.closed[e], closed, err_msg=name)
            rates = grounds.events.rate_sums([name], grounds.arms)
            np.testing.assert_allclose(rates.earned[0], closed[0, :3])
            np.testing.assert_allclose(rates.sends[0], grounds.arms.sends)
            values = grounds.events.value_sums([name], grounds.arms)
            valued = name in ("order", "refund", "score")
            np.testing.assert_allclose(values.earned[0], closed[2, :3] * valued, atol=1e-9)

    def _counting(self):
        return [d for d in self.sent if not (d.cancelled or d.fallback)]

    def expected(self, at):
        gram, pending, moment = np.zeros((3, 2, 2)), np.zeros((3, 2, 2)), np.zeros((3, 2))
        sent, complete, reward, square = np.zeros((4, 4))
        for d in self._counting():
            if d.started_at is None:
                continue
            group = 3 if d.holdout else d.arm
            sent[group] += 1
            outer = np.outer(d.context, d.context)
            if not d.learned:
                pending[d.arm] += 0 if d.holdout else outer
                continue
            earned = sum(d.metrics)
            complete[group] += 1
            reward[group] += earned
            square[group] += earned**2
            if not d.holdout:
                weight = self.weight(at - d.started_at)
                gram[d.arm] += weight * outer
                moment[d.arm] += weight * earned * d.context
        return (
            {"gram": gram, "pending": pending, "moment": moment},
            {"sent": sent, "complete": complete, "reward": reward, "square": square},
        )

    def weight(self, age):
        forgetting = self.experiment.forgetting
        if forgetting is None:
            return 1.0
        if forgetting.window_seconds is not None:
            return float(age <= forgetting.window_seconds)
        return 2.0 ** -(max(age, 0.0) / forgetting.half_life_seconds)


STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**20), st.integers(1, 6)),
    min_size=1,
    max_size=40,
)


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"assignment": "per_subject"},
        {"await_activation": True, "forgetting": {"half_life_seconds": 30.0}},
        {"await_activation": True, "assignment": "per_subject"},
        {"forgetting": {"window_seconds": WINDOW}},
        {"await_activation": True, "forgetting": {"window_seconds": WINDOW}},
    ],
    ids=lambda d: " ".join(d) or "plain",
)
def test_operation_sequences_end_where_the_model_does(store, sender, monkeypatch, declared):
    monkeypatch.setattr(backlog, "MOST_ROWS", 15)  # long queues are taken in several folds
    keys = iter(range(10**9))

    @settings(
        max_examples=settings().max_examples // 4,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(STEPS)
    def run(steps):
        record = sender.start(
            f"k{next(keys)}",
            policy={"name": "linucb"},
            reward={
                "metrics": {
                    "click": {},
                    "order": {"count": "sum", "high": 100.0},
                    "score": {"latest": True, "high": 5.0},
                },
                "window_seconds": REWARD_WINDOW,
                "maturity_seconds": MATURITY,
            },
            context=[{"kind": "number", "name": "age", "low": 0, "high": 1}],
            **declared,
        )
        model = Model(store, record)
        model.sender = sender
        for kind, number, size in steps:
            model.step(kind, number, size)
        model.now += 2 * MATURITY
        model.fold(None, 0)

    run()
