"""A list that is sent in waves through the Files page regrets what the simulator says."""

import numpy as np

from bandits.schemas import Reward
from simulations import simulate
from simulations.environments import Bernoulli
from tests.conftest import SOAK
from tests.integration.pages.test_pages_waves import WaveDesk

RATES = (0.20, 0.18, 0.21, 0.22, 0.24)  # the control's first
FLOOR, WAVES, HOUR = 0.01, 10, 3600.0
RECIPIENTS = 100_000 if SOAK else 4_000
CAMPAIGNS = 12 if SOAK else 6
TOLERANCE = 0.10
DECLARED = {
    "slots": [{"key": "subject_line", "variants": [{"key": str(arm)} for arm in range(5)]}],
    "reward": {"metrics": {"click": {}}, "window_seconds": 2 * HOUR, "maturity_seconds": HOUR},
    "policy": {"name": "thompson"},
    "exclude": [],
    "control": {},
    "floor": FLOOR,
    "holdout": 0.0,
}


def regret_by_files(site, desk, seed):
    """Send a list in waves to recipients who open by chance; return what it gave up."""
    rng = np.random.default_rng(seed)
    people = "email\n" + "".join(f"{seed}-{i}@shop.example\n" for i in range(RECIPIENTS))
    typed = {"start/local": "", "waves": str(WAVES), "first": "10", "gap": "1", "unit": "hours"}
    address = desk.begin(people, who="email", send="waves")
    desk.finish(address)
    site.clock.now += 1.0
    desk.submit(address, **typed | {"start/local": desk.local(60.0)})
    regret = 0.0
    for number in range(1, WAVES + 1):
        site.clock.now += HOUR + 120.0
        assert desk.look() == 1
        rows = desk.wave(address, number)
        arms = np.array([int(row["subject_line"]) for row in rows])
        opened = rng.random(len(rows)) < np.array(RATES)[arms]
        regret += float((max(RATES) - np.array(RATES)[arms]).sum())
        ids = [row["decision_id"] for row, opens in zip(rows, opened, strict=True) if opens]
        for start in range(0, len(ids), 10_000):
            portion = ids[start : start + 10_000]
            site.engine.reward([Reward(i, f"open-{i}", "click") for i in portion])
    return regret


def test_waves_regret_what_the_simulator_says_of_the_same_plan(site):
    desk = WaveDesk(site, site.visitor("manager"))
    regrets = []
    for seed in range(CAMPAIGNS):
        desk.key = f"sale-{seed}"
        site.make(key=desk.key, **DECLARED)
        regrets.append(regret_by_files(site, desk, seed))
    plan = {"horizon": RECIPIENTS, "batches": WAVES, "replications": 400, "seed": 5}
    entry = {"name": "thompson", "floor": FLOOR, "label": "it"}
    simulated = simulate(Bernoulli(RATES), [entry], **plan)["it"].regret[:, -1]
    mean, expected = np.mean(regrets), simulated.mean()
    error = simulated.std() * (1 / CAMPAIGNS + 1 / 400) ** 0.5
    assert abs(mean - expected) <= TOLERANCE * expected + 3 * error
    equal = RECIPIENTS * (max(RATES) - np.mean(RATES))
    assert expected + TOLERANCE * expected + 3 * error < equal  # it would tell an equal split
