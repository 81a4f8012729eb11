"""However a log comes in, folding it ends where summing the whole log anew does.

A tiny model of the log decides what is due at each fold; what is under test is the learner's
arithmetic. That a real store finds the same things due is shown where stores are tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.additive import field_values
from bandits.engine.fold import add_increment, rebuild, sum_log
from bandits.engine.sums import SumsBuilder
from bandits.experiment import Experiment
from bandits.inference.state import InferenceState
from bandits.registry import make, policies
from bandits.store.fold import LogAudit
from bandits.store.values import DecisionColumns, ExperimentRecord, FoldIncrement, Snapshot
from bandits.versions import Configuration
from tests.conftest import SOAK

MATURITY = 4.0
WINDOW = 9.0  # that rewards count in
WINDOWED = {"window_seconds": 6.0}
FORGETTING = [None, {"half_life_seconds": 5.0}, WINDOWED]
METRICS = {
    "click": {},
    "order": {"weight": 0.5, "count": "sum", "high": 3.0},
    "unsubscribe": {"weight": -2.0},
}
FAMILIES = {make(name).statistic.family: name for name in reversed(policies())}
INVERTIBLE = [f for f, name in FAMILIES.items() if make(name).statistic.invertible]
REBUILT = [f for f in FAMILIES if f not in INVERTIBLE]


def is_timed(family: str) -> bool:
    """Tell whether a family knows ages, so that no window of forgetting goes with it."""
    return make(FAMILIES[family]).statistic.timed


some = settings(max_examples=300 if SOAK else 30)


def configuration(family: str, forgetting: dict[str, float] | None) -> Configuration:
    """Declare an experiment of three arms that learns this family."""
    takes_all = np.isinf(make(FAMILIES[family]).support).all()
    metrics = METRICS if takes_all else {"click": {}}
    declared = {
        "key": "spring",
        "slots": [{"key": "subject", "variants": [{"key": v} for v in "abc"]}],
        "policy": {"name": FAMILIES[family]},
        "reward": {"metrics": metrics, "window_seconds": WINDOW, "maturity_seconds": MATURITY},
        "context": [{"kind": "number", "name": "recency", "low": 0, "high": 1}],
        "forgetting": forgetting,
        "holdout": 0.2,
    }
    return Configuration.first(msgspec.convert(declared, Experiment))


@dataclass(frozen=True)
class Event:
    """Something that a recipient did, and when it was reported."""

    reported_at: float
    metric: int
    value: float


@dataclass
class Row:
    """One decision of the model log, and how far folds have taken it in."""

    arm: int
    recency: float
    holdout: bool
    started_at: float
    cancelled_at: float
    events: list[Event]
    restriction: bytes = b""
    stage: str = "new"
    closed_at: float = np.inf
    counted_with: tuple[Event, ...] = ()

    def reported(self, now: float) -> tuple[Event, ...]:
        """Its events so far."""
        return tuple(e for e in self.events if e.reported_at <= now)


class Origin:
    """What every decision of the model rested on: the first configuration, and nothing known."""

    def __init__(self, first: Configuration) -> None:
        self.first = first

    def configuration(self, version: int) -> Configuration:
        """Give the only one there is."""
        assert version == 1
        return self.first

    def snapshot(self, version: int) -> Snapshot | None:
        """Give what was known at first."""
        assert version == 0

    def allocation(self, *key: object) -> None:
        """Return that none is stored."""


def decided(
    rows: Sequence[tuple[Row, tuple[Event, ...]]], *, closed_before: float = np.inf
) -> DecisionColumns:
    """Turn decisions, each with some of its events, into columns.

    Args:
        rows: the decisions.
        closed_before: those whose window closed before this fold are closed.
    """
    events = [
        (i, e.metric, e.value, e.reported_at) for i, (_, found) in enumerate(rows) for e in found
    ]
    n = len(rows)
    return DecisionColumns(
        np.array([r.arm for r, _ in rows], dtype=np.int64),
        np.array([(1.0, r.recency) for r, _ in rows]).reshape(len(rows), 2),
        np.array([r.holdout for r, _ in rows], dtype=np.bool_),
        np.array([r.started_at for r, _ in rows]),
        np.array([row for row, *_ in events], dtype=np.int64),
        np.array([metric for _, metric, *_ in events], dtype=np.int64),
        np.array([value for *_, value, _ in events]),
        np.array([reported_at for *_, reported_at in events]),
        np.array([0.5 if r.restriction else 1 / 3 for r, _ in rows]),
        [r.restriction for r, _ in rows],
        np.ones(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.array([r.closed_at < closed_before for r, _ in rows], dtype=np.bool_),
        np.ones(n, dtype=np.int64),
        np.array([r.started_at for r, _ in rows], dtype=np.float64).view(np.uint64),
        np.ones(n, dtype=np.bool_),
        np.array([(r.arm + r.holdout) % 3 for r, _ in rows], dtype=np.int64),
    )


class Log:
    """Decisions, and what is due at each fold."""

    def __init__(self, rows: list[Row], window: float | None, n_metrics: int) -> None:
        self.rows = rows
        self.window = window
        self.n_metrics = n_metrics  # declared ones; events behind them are listed

    def due(self, now: float, before: float | None) -> FoldIncrement:
        """Find what a fold at `now`, after one at `before`, has to take in."""
        groups: dict[str, list[tuple[Row, tuple[Event, ...]]]] = {
            f: [] for f in FoldIncrement.__struct_fields__
        }
        for row in self.rows:
            if row.started_at > now:
                continue
            self._expire(row, now, before, groups["expired"])
            self._place(row, now, groups)
        earlier = ("removed", "before", "after", "events_before", "events_after")
        return FoldIncrement(
            *(
                decided(groups[f], closed_before=now if f in earlier else np.inf)
                for f in FoldIncrement.__struct_fields__
            )
        )

    def _expire(self, row: Row, now: float, before: float | None, expired: list[Any]) -> None:
        if row.stage != "learned" or self.window is None or before is None:
            return
        if before - self.window <= row.started_at < now - self.window:
            expired.append((row, row.counted_with))

    def _place(self, row: Row, now: float, groups: dict[str, list[Any]]) -> None:
        found, cancelled = row.reported(now), row.cancelled_at <= now
        matured = row.started_at + MATURITY <= now
        if cancelled and row.stage in ("pending", "learned"):
            name = "withdrawn" if row.stage == "pending" else "removed"
            groups[name].append((row, row.counted_with))
        elif row.stage in ("pending", "learned") and found != row.counted_with:
            self._correct(row, found, groups)
        if row.stage == "pending" and matured and not cancelled:
            groups["matured"].append((row, found))
        elif row.stage == "new" and not cancelled:
            groups["entered_due" if matured else "entered"].append((row, found))
        over = not cancelled and row.started_at + WINDOW <= now and row.closed_at == np.inf
        if over and row.stage == "learned":
            groups["closing"].append((row, found))
        if over and row.stage != "gone":
            row.closed_at = now
        if cancelled:
            row.stage = "gone"
        elif row.stage != "gone":
            row.stage = "learned" if matured else "pending"
            row.counted_with = found

    def _correct(self, row: Row, found: tuple[Event, ...], groups: dict[str, list[Any]]) -> None:
        further = [e for e in found if e not in row.counted_with]
        corrects = row.stage == "learned" and any(e.metric < self.n_metrics for e in further)
        prefix = "" if corrects else "events_"
        groups[f"{prefix}before"].append((row, row.counted_with))
        groups[f"{prefix}after"].append((row, found))

    def audit(self, configuration: Configuration, at: float) -> LogAudit:
        """The whole log, one decision a portion."""
        portions: dict[str, list[DecisionColumns]] = {"learned": [], "pending": []}
        for row in self.rows:
            if row.stage in portions:
                portions[row.stage].append(decided([(row, row.counted_with)]))
        record = ExperimentRecord(1, "spring", "running", b"salt", configuration, 1, 0.0)
        snapshot = Snapshot(1, 1, at, 0, 1, b"", b"")
        every = (iter(portions[name]) for name in ("learned", "pending"))
        return LogAudit(record, snapshot, *every, Origin(configuration))


# Eighths add up exactly: times meet at the very moment of maturity and of leaving the window.
times = st.integers(0, 160).map(lambda n: n / 8)
never = st.just(np.inf)


@st.composite
def rows(draw: Any, n_metrics: int, n_listed: int = 0) -> Row:
    started_at = draw(times)
    events = st.builds(
        Event,
        reported_at=times.map(lambda t: started_at + t),
        metric=st.integers(0, n_metrics - 1 + n_listed),
        value=st.sampled_from([0.25, 0.5, 1.0]),
    )
    arm = draw(st.integers(0, 2))
    restricted = arm < 2 and draw(st.booleans())
    return Row(
        arm,
        draw(st.sampled_from([0.0, 0.5, 1.0])),
        draw(st.booleans()),
        started_at,
        draw(never | times.map(lambda t: started_at + t)),
        draw(st.lists(events, max_size=3)),
        b'{"subject":["a","b"]}' if restricted else b"",
    )


def builder(config: Configuration, at: float) -> SumsBuilder:
    """Make the builder of the model's experiment."""
    record = ExperimentRecord(1, "spring", "running", b"salt", config, 1, 0.0)
    return SumsBuilder(record, Origin(config), at)


def same(one: Any, other: Any) -> None:
    """Compare statistics or tallies field by field, to what rounding leaves."""
    for f in fields(one):
        assert getattr(one, f.name) == pytest.approx(getattr(other, f.name), rel=1e-9, abs=1e-9)


def same_grounds(one: InferenceState, other: InferenceState) -> None:
    """Compare what results rest on, in the places that either has."""
    parts = other.parts(like=one + other)
    for name, array in one.parts(like=one + other).items():
        assert array == pytest.approx(parts[name], rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize(
    ("family", "forgetting"),
    [(f, by) for f in INVERTIBLE for by in FORGETTING if not (by is WINDOWED and is_timed(f))],
)
@some
@given(data=st.data())
def test_folds_agree_with_a_rebuild_from_the_log(
    family: str, forgetting: dict[str, float] | None, data: st.DataObject
) -> None:
    config = configuration(family, forgetting)
    rule = config.experiment.reward
    n_metrics = len(rule.metrics)
    n_listed = len(rule.event_names) - n_metrics
    log = Log(
        data.draw(st.lists(rows(n_metrics, n_listed), min_size=1, max_size=8)),
        (forgetting or {}).get("window_seconds"),
        n_metrics,
    )
    moments = data.draw(st.lists(times.map(lambda t: 2 * t), min_size=1, max_size=6, unique=True))
    sums = builder(config, 0.0).zeros
    before: float | None = None
    for now in sorted(moments):
        build = builder(config, now)
        sums = build.fade(sums, now if before is None else before)
        sums = add_increment(build, sums, log.due(now, before))
        sums = replace(sums, inference=InferenceState.load(sums.inference.dump()))
        again = rebuild(log.audit(config, now))
        same(sums.statistic, again.statistic)
        same(sums.counts, again.counts)
        same_grounds(sums.inference, again.inference)
        assert sums.senders.keys.tolist() == again.senders.keys.tolist()
        same(sums.senders, again.senders)
        before = now


@pytest.mark.parametrize("family", INVERTIBLE)
@some
@given(data=st.data())
def test_held_out_and_cancelled_decisions_leave_no_trace(family: str, data: st.DataObject) -> None:
    config = configuration(family, None)
    n_metrics = len(config.experiment.reward.metrics)
    everybody = data.draw(st.lists(rows(n_metrics), min_size=1, max_size=8))
    moments = [*data.draw(st.lists(times, max_size=4)), 1000.0]

    def learned_from(part: list[Row]) -> list[Any]:
        log, build = Log([replace(r) for r in part], None, n_metrics), builder(config, 0.0)
        sums = build.zeros
        for now in sorted(moments):
            sums = add_increment(build, sums, log.due(now, None))
        return [array.tolist() for array in field_values(sums.statistic)]

    kept = [r for r in everybody if not r.holdout and r.cancelled_at == np.inf]
    # Rewards and features here are sums of a few powers of two: there is nothing to round.
    assert learned_from(everybody) == learned_from(kept)


@pytest.mark.parametrize("family", REBUILT)
@some
@given(data=st.data())
def test_a_family_that_cannot_subtract_is_learned_whole_however_the_log_is_read(
    family: str, data: st.DataObject
) -> None:
    config = configuration(family, None)
    everybody = data.draw(st.lists(rows(1), min_size=1, max_size=8))
    log, now = Log(everybody, None, 1), 1000.0
    log.due(now, None)
    sums = rebuild(log.audit(config, now))  # a decision a portion
    learned = [decided([(r, r.counted_with) for r in everybody if r.stage == "learned"])]
    build = builder(config, now)
    same(sums.statistic, build.fit(learned))
    same(sums.counts, sum_log(build, build.zeros, learned, []).counts)
