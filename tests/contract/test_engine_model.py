"""The engine on every database, against a model of a few lines, whatever is done in whatever order.

Hypothesis makes up lives of an experiment: choices, doubled and mixed up ids, late and early
rewards, activations, cancellations, erasures, pauses, changes of policy, folds, and a clock that
steps back. The model knows only what was answered and what the documents promise.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bandits.engine import Engine
from bandits.engine.active_policy import load_statistic
from bandits.errors import IdReused, NotFound, WrongState
from bandits.experiment import Experiment, PolicyChoice, covers
from bandits.registry import make, policies
from bandits.schemas import Decision, Request, Reward
from storage import open_store
from storage.snapshots.verify import compare
from tests.conftest import SOAK

KEY = "spring"
WINDOW, MATURITY, SKEW, SEND_WITHIN = 1000.0, 100.0, 300.0, 900.0
METRICS = {"click": {}, "order": {"weight": 0.5, "count": "sum", "high": 3.0}}
BOUNDS = (0.0, 2.5)
START = 1_800_000_000.0

SUBJECTS = ["ann", "bob", "cat", "dan"]

subjects = st.sampled_from(SUBJECTS)
ids = st.sampled_from([f"{s}-{i}" for s in SUBJECTS for i in range(2)])
some_ids = st.lists(ids, min_size=1, max_size=4)
its_own = ids.map(lambda i: (i.partition("-")[0], i))  # an id is used for one subject only …
anonymous = subjects.map(lambda s: (s, None))
mixed_up = st.tuples(subjects, ids)  # … but for mistakes
rightly = st.lists(its_own | its_own | anonymous, min_size=1, max_size=5)
mistaken = st.lists(its_own | mixed_up, min_size=1, max_size=3)
events = st.tuples(
    ids,
    st.sampled_from(["e1", "e2", "e3"]),
    st.sampled_from([("click", 1.0), ("click", 1.0), ("order", 1.0), ("order", 2.5)]),
    st.sampled_from([0.0, None, 50.0, 350.0, 2000.0, -200.0, -400.0]),
)


def fellows(name: str) -> list[str]:
    """List the policies that this one may become while the experiment runs."""
    family = make(name).statistic
    able = [n for n in policies() if covers(make(n).support, BOUNDS)]
    return sorted(n for n in able if make(n).statistic is family)


@dataclass
class Kept:
    """A decision as the model remembers it."""

    subject: str
    answer: Decision
    started_at: float | None
    cancelled: bool = False
    events: dict[str, tuple[str, float, bool]] = field(default_factory=dict)

    def worth(self) -> float:
        """Its reward: the largest click, and the orders' sum up to their bound."""
        counting = [(metric, value) for metric, value, late in self.events.values() if not late]
        clicks = [value for metric, value in counting if metric == "click"]
        orders = [value for metric, value in counting if metric == "order"]
        return max(clicks, default=0.0) + 0.5 * min(sum(orders), 3.0)


class Life(RuleBasedStateMachine):
    """One experiment's life."""

    makers: Any

    def __init__(self) -> None:
        super().__init__()
        self.url = self.makers.upgraded()
        self.store = open_store(self.url)
        self.now = START
        self.latest = START
        self.engine = Engine(self.store, lambda: self.now)
        self.kept: dict[str, Kept] = {}
        self.owner: dict[str, str] = {}
        self.held: dict[str, bool] = {}

    @initialize(
        assignment=st.sampled_from(["per_decision", "per_subject"]),
        waits=st.booleans(),
        holdout=st.sampled_from([0.0, 0.4]),
        contextual=st.booleans(),
    )
    def start(self, *, assignment: str, waits: bool, holdout: float, contextual: bool) -> None:
        self.once = assignment == "per_subject"
        self.waits = waits
        self.policy = "linucb" if contextual else "thompson_gaussian"
        feature = {"kind": "number", "name": "age", "low": 0, "high": 4}
        declared = {
            "key": KEY,
            "slots": [{"key": "subject_line", "variants": [{"key": v} for v in "abc"]}],
            "policy": {"name": self.policy},
            "reward": {"metrics": METRICS, "window_seconds": WINDOW, "maturity_seconds": MATURITY},
            "context": [feature] if contextual else [],
            "assignment": assignment,
            "await_activation": waits,
            "send_within_seconds": SEND_WITHIN,
            "holdout": holdout,
        }
        self.contextual = contextual
        self.engine.create(msgspec.convert(declared, Experiment), by="test")
        self.engine.start(KEY, by="test")

    # What senders do

    @rule(rows=rightly)
    def choose_rightly(self, rows: Sequence[tuple[str, str | None]]) -> None:
        self.choose(rows)

    @rule(rows=mistaken)
    def choose_mistakenly(self, rows: Sequence[tuple[str, str | None]]) -> None:
        self.choose(rows)

    def choose(self, rows: Sequence[tuple[str, str | None]]) -> None:
        requests = [
            Request(s, {"age": float("abcde".index(s[0]))} if self.contextual else None, i)
            for s, i in rows
        ]
        first: dict[str, str] = {}
        reused = any(
            first.setdefault(i, s) != s or (i in self.kept and self.kept[i].subject != s)
            for s, i in rows
            if i is not None
        )
        if reused:
            with pytest.raises(IdReused):
                self.engine.choose(KEY, requests)
            return
        answers = self.engine.choose(KEY, requests)
        before = set(self.kept)
        for (subject, made), answer in zip(rows, answers, strict=True):
            self._check_answer(subject, made, answer, before)

    def _check_answer(
        self, subject: str, made: str | None, answer: Decision, before: set[str]
    ) -> None:
        assert not answer.fallback
        assert self.held.setdefault(subject, answer.holdout) == answer.holdout
        owner = self.owner.get(subject) if self.once else None
        expected = made if made in self.kept else owner
        told = str(answer.decision_id)
        if expected is None:
            assert made in {None, told}
            assert not answer.repeat
            self.kept[told] = Kept(subject, answer, None if self.waits else self.now)
            if self.once:
                self.owner[subject] = told
            return
        assert told == expected
        assert answer.repeat == (told in before or told != made)
        same = msgspec.structs.replace(answer, repeat=False)
        assert same == msgspec.structs.replace(self.kept[told].answer, repeat=False)

    @rule(given=st.lists(events, min_size=1, max_size=4))
    def reward(self, given: Sequence[tuple[str, str, tuple[str, float], float | None]]) -> None:
        rewards = [
            Reward(d, e, m, v, None if age is None else datetime.fromtimestamp(self.now - age, UTC))
            for d, e, (m, v), age in given
        ]
        skewed = cancelled = 0
        counts = {"accepted": 0, "repeated": 0, "late": 0}
        unknown, early = [], []
        new: dict[tuple[str, str], tuple[str, float, bool]] = {}
        reused = False
        for decision, event, (metric, value), age in given:
            kept = self.kept.get(decision)
            told_at = math.inf if age is None else self.now - age
            if kept is None:
                unknown.append(decision)
                continue
            if kept.started_at is None and kept.cancelled:
                cancelled += 1
                continue
            if kept.started_at is None or told_at < kept.started_at - SKEW:
                early.append(decision)
                continue
            occurred_at = min(told_at, max(self.now, kept.started_at))
            skewed += age is not None and age < -SKEW
            if known_event := new.get((decision, event)) or kept.events.get(event):
                reused |= known_event[:2] != (metric, value)
                counts["repeated"] += 1
            else:
                late = occurred_at > kept.started_at + WINDOW
                new[decision, event] = (metric, value, late)
                counts["late" if late else "accepted"] += 1
        if reused:
            with pytest.raises(IdReused):
                self.engine.reward(rewards)
            return
        receipt = self.engine.reward(rewards)
        told = {name: getattr(receipt, name) for name in counts}
        assert (told, receipt.unknown, receipt.early) == (counts, unknown, early)
        assert (receipt.skewed, receipt.cancelled) == (skewed, cancelled)
        for (decision, event), what in new.items():
            self.kept[decision].events[event] = what

    @rule(some=some_ids)
    def activate(self, some: Sequence[str]) -> None:
        there = {i: self.kept[i] for i in some if i in self.kept}
        new = [k for k in there.values() if k.started_at is None and not k.cancelled]
        self._check_marked(self.engine.activate(some), some, len(new))
        for kept in new:
            kept.started_at = self.now

    @rule(some=some_ids)
    def cancel(self, some: Sequence[str]) -> None:
        left = [i for i in set(some) if i in self.kept and not self.kept[i].cancelled]
        late = {i for i in left if self._is_sent(self.kept[i])}
        new = [i for i in left if i not in late]
        self._check_marked(self.engine.cancel(some), some, len(new), late)
        for i in new:
            self.kept[i].cancelled = True
            self._free(i)

    def _is_sent(self, kept: Kept) -> bool:
        """Return True where the time to send is over."""
        return kept.started_at is not None and self.now > kept.started_at + SEND_WITHIN

    def _check_marked(
        self, marked: Any, some: Sequence[str], accepted: int, late: Collection[str] = ()
    ) -> None:
        there = {i for i in some if i in self.kept}
        assert marked.accepted == accepted
        assert {(some[r.row], r.reason) for r in marked.refused} == {(i, "too_late") for i in late}
        assert marked.repeated == len(there) - accepted - len(late)
        assert set(marked.unknown) == set(some) - there

    def _free(self, decision: str) -> None:
        self.owner = {s: i for s, i in self.owner.items() if i != decision}

    @rule(subject=subjects)
    def erase(self, subject: str) -> None:
        mine = [i for i, kept in self.kept.items() if kept.subject == subject]
        assert self.engine.erase(subject, by="test").decisions == len(mine)
        for i in mine:
            del self.kept[i]
            self._free(i)

    # What the campaign manager and the clock do

    @rule()
    def pause_and_resume(self) -> None:
        self.engine.pause(KEY, by="test")
        with pytest.raises(WrongState):
            self.engine.choose(KEY, [Request("ann")])
        self.engine.learn(KEY)
        self.engine.start(KEY, by="test")

    @rule(data=st.data())
    def change_policy(self, data: Any) -> None:
        self.policy = data.draw(st.sampled_from(fellows(self.policy)))
        record = self.store.experiments.record(KEY)
        changed = msgspec.structs.replace(
            record.configuration.experiment, policy=PolicyChoice(self.policy)
        )
        self.engine.edit(KEY, changed, version=record.configuration.version, by="test")

    @rule(seconds=st.sampled_from([1.0, 60.0, 400.0, 1500.0, -1.0, -90.0, -5000.0]))
    def step_the_clock(self, seconds: float) -> None:
        self.now += seconds
        self.latest = max(self.latest, self.now)

    @rule()
    def learn(self) -> None:
        while self.engine.learn(KEY):
            pass
        self._verify()

    # What must hold

    def _verify(self) -> None:
        with self.store.snapshots.audit(KEY) as audit:
            assert [c.name for c in compare(audit, int) if c.wrong.any()] == []

    @invariant()
    def a_receipt_tells_what_happened(self) -> None:
        for i in list(self.kept)[-1:]:
            receipt, kept = self.engine.receipt(i), self.kept[i]
            assert receipt.slots == kept.answer.slots
            assert receipt.propensity == kept.answer.propensity
            assert (receipt.cancelled_at is not None) == kept.cancelled
            assert (receipt.started_at is None) == (kept.started_at is None)
            assert len(receipt.events) == len(kept.events)
            assert receipt.reward == pytest.approx(kept.worth())

    def teardown(self) -> None:
        try:
            if hasattr(self, "once"):
                self._check_the_end()
        finally:
            self.store.close()
            self.makers.give_back(self.url)

    def _check_the_end(self) -> None:
        """Learn everything there is, and compare with the sum over the model."""
        self.now = self.latest + WINDOW + MATURITY
        self.learn()
        record = self.store.experiments.record(KEY)
        if not record.learned_version:
            assert not any(k.started_at for k in self.kept.values() if not k.cancelled)
            return
        snapshot = self.store.snapshots.snapshot(KEY, record.learned_version)
        _, tally = load_statistic(record.configuration, snapshot)
        sent, reward = [0] * 4, [0.0] * 4
        for kept in self.kept.values():
            if kept.started_at is not None and not kept.cancelled:
                variant = kept.answer.slots["subject_line"]["variant"]
                group = 3 if kept.answer.holdout else "abc".index(variant)
                sent[group] += 1
                reward[group] += kept.worth()
        assert tally.sent.tolist() == tally.complete.tolist() == sent
        assert tally.reward.tolist() == pytest.approx(reward)
        for i in self.kept:
            with_id = self.engine.receipt(i)
            assert with_id.decision_id == i
        with pytest.raises(NotFound):
            self.engine.receipt("nobody's")


class Forgetful(Life):
    """A model that forgets cancellations: what the engine does must look wrong to it."""

    def teardown(self) -> None:
        for kept in self.kept.values():
            kept.cancelled = False
        super().teardown()


def live(life: type[Life], makers: Any, **how: Any) -> None:
    """Live some lives on a kind of database."""
    here = type(f"{life.__name__}Here", (life,), {"makers": makers})
    steps = settings(stateful_step_count=60 if SOAK else 30, **how)
    run_state_machine_as_test(here, settings=steps)


def test_the_engine_does_what_the_model_says(makers) -> None:
    live(Life, makers, max_examples=400 if SOAK else 20)


def test_a_model_that_forgets_cancellations_is_found_out(makers) -> None:
    with pytest.raises(AssertionError):
        live(
            Forgetful, makers, max_examples=20, phases=[Phase.generate], report_multiple_bugs=False
        )
