"""What a greedy last batch earns over one that goes on trying out, where recipients differ.

Both campaigns meet the same recipients, and are the same until the last batch. A gain whose mean
over R replications with standard deviation sd is above 4·sd/√R is a false alarm once in 30,000.
"""

import numpy as np
import pytest

from bandits.registry import policies
from simulations.environments import Logistic
from simulations.running.schedule import Run
from simulations.simulate import simulate_run

# How wide those look that would hardly try anything out in the last batch otherwise.
WIDE = {"linucb": {"alpha": 2.0}, "lints": {"v": 0.3}}
PERSONAL = [name for name, policy in policies().items() if policy.statistic.contextual]
TRYING = [name for name in PERSONAL if name != "greedy_ridge"]
WORLD = Logistic.drawn(4, 3, rate=0.5, effect=2.0, seed=3)
EARLIER, LAST = (100,) * 4, 500


def gains(name):
    """Return how much more each replication's last batch earns where it is greedy, (R,)."""
    run = Run(horizon=sum(EARLIER) + LAST, batches=(*EARLIER, LAST), replications=60, seed=50)
    entry = {"name": name, "params": WIDE.get(name, {})}
    each, greedy = (
        simulate_run(WORLD, [entry | {"greedy_last_batch": last}], run).outcomes[0].record
        for last in (False, True)
    )
    before = np.flatnonzero(each.grid == sum(EARLIER))[0]
    assert np.array_equal(each.reward[:, before], greedy.reward[:, before])
    return greedy.reward[:, -1] - each.reward[:, -1]


def clear(values):
    return values.mean() > 4 * values.std(ddof=1) / len(values) ** 0.5


@pytest.mark.parametrize("name", TRYING)
def test_a_greedy_last_batch_earns_more_than_going_on_trying_out(name):
    assert clear(gains(name))


def test_bound_finds_no_gain_where_nothing_is_explored():
    """Negative control: greedy regression is greedy in every batch."""
    assert not clear(gains("greedy_ridge"))
