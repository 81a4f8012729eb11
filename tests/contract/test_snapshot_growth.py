"""A campaign over days, by a clock of its own: what snapshots take, and which receipts remain.

With SOAK=1, on SQLite: 500 versions, 50 attributes and a month.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from bandits.engine import Engine
from bandits.engine.retention import DEFAULT_SNAPSHOT_BYTES
from bandits.schemas import Request, Reward
from tests.conftest import SOAK

HOUR, DAY = 3600.0, 86_400.0
RULE = {"metrics": {"click": {}}, "window_seconds": 2 * DAY, "maturity_seconds": 600.0}


class CampaignSize(NamedTuple):
    """Size of a campaign: versions by slot, attributes, days, seconds of a turn, erasures."""

    versions: tuple[int, ...]
    attributes: int
    days: int
    every: float
    erased: int


WEEK = CampaignSize((12, 5), 10, 8, 2700.0, 10)
MONTH = CampaignSize((100, 5), 50, 30, 3 * HOUR, 100)
PLANS = {"sqlite": MONTH if SOAK else WEEK, "postgresql": WEEK._replace(days=9, every=3 * HOUR)}


class Campaign:
    """Sends of four recipients each, by attributes, at even distances."""

    def __init__(self, plan: CampaignSize, engine: Engine, sender, now: list[float]) -> None:
        self._plan, self._engine, self._now = plan, engine, now
        self._draws = np.random.default_rng(3)
        self.subjects: dict[str, str] = {}  # by decision
        context = [{"kind": "number", "name": f"x{i}", "high": 1.0} for i in range(plan.attributes)]
        slots = [
            {"key": f"slot-{i}", "variants": [{"key": f"v{j}"} for j in range(n)]}
            for i, n in enumerate(plan.versions)
        ]
        sender.start(
            policy={"name": "lints"},
            context=[feature | {"low": 0.0} for feature in context],
            slots=slots,
            reward=RULE,
        )

    def run(self) -> Iterator[int]:
        """Send, report and fold; yield the number of each turn."""
        for turn in range(int(self._plan.days * DAY / self._plan.every)):
            self._now[0] += self._plan.every
            requests = [Request(f"u-{turn}-{i}", self._context()) for i in range(4)]
            decisions = self._engine.choose("spring", requests)
            subjects = [request.subject_id for request in requests]
            ids = [decision.decision_id for decision in decisions]
            self.subjects |= dict(zip(ids, subjects, strict=True))
            self._engine.reward([Reward(decisions[0].decision_id, "e", "click")])
            self._engine.learn("spring")
            yield turn

    def _context(self) -> dict[str, float]:
        values = self._draws.random(self._plan.attributes).tolist()
        return {f"x{i}": value for i, value in enumerate(values)}


def sizes(store) -> list[int]:
    return [s.size for s in store.snapshots.kept("spring", before=0.0, waiting_since=0.0)]


def bytes_on_disk(store) -> int:
    name = store.database.engine.url.database
    files = [Path(f"{name}{ending}") for ending in ("", "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())


def test_campaign_stays_small_and_its_receipts_outlive_erasing(engine, store, sender, now):
    plan = PLANS[store.database.engine.dialect.name]
    campaign = Campaign(plan, engine, sender, now)
    thinned, largest = 0, 0
    for turn in campaign.run():
        if turn % 8 == 0:  # as the learner does
            thinning = engine.prune("spring")
            thinned += len(thinning.by_age) + len(thinning.by_size)
            assert thinning.left <= DEFAULT_SNAPSHOT_BYTES
        if plan is MONTH:
            largest = max(largest, bytes_on_disk(store))
    engine.prune("spring")
    size = max(sizes(store))
    every, hourly = (DAY + HOUR) / plan.every, 7 * DAY / max(HOUR, plan.every)
    daily = plan.days
    assert sum(sizes(store)) <= min((every + hourly + daily) * size, DEFAULT_SNAPSHOT_BYTES)
    assert thinned > 0
    if plan is MONTH:
        assert largest < 2_000_000_000

    drawn = np.random.default_rng(5).permutation(sorted(campaign.subjects)).tolist()
    asked, erased, others = (
        drawn[:100],
        drawn[100 : 100 + plan.erased],
        drawn[100 + plan.erased :][:100],
    )
    before = {i: engine.receipt(i).propensities for i in asked}
    assert None not in before.values()
    engine.prune("spring", most_bytes=3 * size)
    assert len(sizes(store)) <= 3
    for decision_id in erased:
        assert engine.erase(campaign.subjects[decision_id], by="test").decisions == 1
    receipts = {i: engine.receipt(i) for i in (*asked, *others)}
    for i, propensities in before.items():
        assert receipts[i].propensities == pytest.approx(propensities, abs=1e-9)
    assert sum(receipts[i].derived is True for i in others) >= 95
    if plan is MONTH:
        assert bytes_on_disk(store) < 2_000_000_000
