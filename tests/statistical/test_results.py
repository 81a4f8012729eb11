"""Whether the findings of whole campaigns, through the engine and a database, keep their promise.

With R campaigns and a true error of at most α, the number that err exceeds `_most(R, α)` with
probability at most 1e-4: the false-alarm rate of each test. Judged against rates that are not the
true ones, the same campaigns must err.
"""

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from msgspec import convert
from scipy.stats import binom

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.inference.sample_ratio import ALARM
from bandits.results import Results
from bandits.schemas import Request, Reward
from storage import open_store, upgrade
from tests.conftest import SOAK

CAMPAIGNS = 100 if SOAK else 8
WAVES, WAVE = 8, 600
DIFFERENT, EQUAL = (0.10, 0.16, 0.28), (0.15, 0.15, 0.15)
FALSE_ALARM = 1e-4


def _most(probability: float) -> int:
    return int(binom.isf(FALSE_ALARM, CAMPAIGNS, probability))


def _looks(rates: tuple[float, ...], seed: int, folder: Path) -> Iterator[Results]:
    """Run one campaign of Thompson sampling, and look after every wave."""
    url = f"sqlite:///{folder / f'{seed}.db'}"
    upgrade(url)
    store, now, rng = open_store(url), [1_000.0], np.random.default_rng(seed)
    engine = Engine(store, lambda: now[0], rng.bytes)  # so that its draws have the seed too
    declared = {
        "key": "spring",
        "slots": [{"key": "subject", "variants": [{"key": v} for v in "abc"]}],
        "policy": {"name": "thompson"},
        "reward": {"metrics": {"click": {}}, "window_seconds": 50, "maturity_seconds": 20},
        "floor": 0.05,
        "holdout": 0.1,
    }
    engine.create(convert(declared, Experiment), by="test")
    engine.start("spring", by="test")
    for wave in range(WAVES):
        ids = [f"{seed}-{wave}-{i}" for i in range(WAVE)]
        made = engine.choose("spring", [Request(i, decision_id=i) for i in ids])
        arms = ["abc".index(d.slots["subject"]["variant"]) for d in made]
        clicked = rng.random(WAVE) < np.array(rates)[arms]
        hits = [i for i, hit in zip(ids, clicked, strict=True) if hit]
        engine.reward([Reward(i, "e", "click") for i in hits])
        now[0] += 60
        engine.learn("spring")
        yield engine.results("spring")
    store.close()


@cache
def _campaigns(rates: tuple[float, ...]) -> list[list[Results]]:
    with tempfile.TemporaryDirectory() as folder:
        return [list(_looks(rates, seed, Path(folder))) for seed in range(CAMPAIGNS)]


def _erred(campaigns: list[list[Results]], truth: tuple[float, ...]) -> int:
    """Count the campaigns in which a value or a lift of the last arm ever missed the truth."""

    def misses(look: Results) -> bool:
        last = look.arms[2]
        value_off = last.value.measurable and not last.value.contains(truth[2])
        lift = last.lift
        return value_off or bool(
            lift and lift.measurable and not lift.contains(truth[2] - truth[0])
        )

    return sum(any(misses(look) for look in looks) for looks in campaigns)


def test_values_and_lifts_cover_the_truth_at_every_look_and_not_what_is_untrue():
    campaigns = _campaigns(DIFFERENT)
    assert all(looks[-1].arms[2].value.measurable for looks in campaigns)
    assert all(looks[-1].arms[2].lift.measurable for looks in campaigns)
    assert _erred(campaigns, DIFFERENT) <= _most(0.1)  # two claims of 5 % each
    assert _erred(campaigns, (0.10, 0.16, 0.40)) > _most(0.1)


def test_best_arm_leads_and_its_gain_is_measured_where_arms_differ():
    for looks in _campaigns(DIFFERENT):
        last = looks[-1]
        assert last.closed == sum(a.closed for a in last.arms)
        assert last.closed + last.holdout.complete == WAVES * WAVE
    alarmed = [bool(looks[-1].health.split.alarmed) for looks in _campaigns(DIFFERENT)]
    assert sum(alarmed) <= _most(len(DIFFERENT) * ALARM)
    leaders = [looks[-1].lead for looks in _campaigns(DIFFERENT)]
    assert sum(lead.arm == 2 and lead.leads for lead in leaders) > CAMPAIGNS / 2
    gains = [looks[-1].gain.over_equal_split for looks in _campaigns(DIFFERENT)]
    assert sum(g.measurable and g.low > 0 for g in gains) > CAMPAIGNS / 2


def test_equal_arms_have_no_leader_and_no_measurable_gain():
    falsely = [
        any(look.lead.leads or look.gain.over_equal_split.measurable for look in looks)
        for looks in _campaigns(EQUAL)
    ]
    assert sum(falsely) <= _most(0.1)
    assert sum(looks[-1].outlook.shown for looks in _campaigns(EQUAL)) == CAMPAIGNS
