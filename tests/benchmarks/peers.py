"""Other people's bandits, as their own documentation has them used.

MABWiser, river and gymnasium, which river's examples take, come with the extra `bench`. Of obp the
last release that installs on Python 3.11 is 0.4.1; it is kept in a folder of its own (`make bench`
puts it there), without torch, which it imports for policies that are not measured here, and which
weighs more than everything else.
"""

import os
import random
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from river import stats
from scipy.special import expit

from bandits.array_types import FloatArray, IntArray
from simulations.environments import Logistic, Rounds

OBP_FOLDER = Path(sys.prefix) / "peers"


class _Absent(ModuleType):
    """Stand where torch would: it has every name, and can do nothing."""

    __path__: list[str] = []  # noqa: RUF012 - of a module that has no files

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def obp_module(name: str) -> Any:
    """Import a module of obp, which has no types; its progress bars are off, as tqdm offers it."""
    os.environ["TQDM_DISABLE"] = "1"
    for part in ("torch", "torch.nn", "torch.optim", "torch.utils", "torch.utils.data"):
        if part in sys.modules:
            continue
        parent, _, last = part.rpartition(".")
        sys.modules[part] = absent = _Absent(part)
        if parent:
            setattr(sys.modules[parent], last, absent)
    if str(OBP_FOLDER) not in sys.path:
        sys.path.append(str(OBP_FOLDER))
    return import_module(name)


def river_loop(policy: object, rates: Sequence[float], steps: int) -> None:
    """Pull and update, on 0-or-1 rewards of these rates: the least that can be called a loop."""
    chance, arms = random.Random(1), list(range(len(rates)))
    for _ in range(steps):
        arm = policy.pull(arms)  # type: ignore[attr-defined]  # river has no types
        policy.update(arm, 1 if chance.random() < rates[arm] else 0)  # type: ignore[attr-defined]  # as above


def river_example(policy: Any, rates: Sequence[float], steps: int) -> None:
    """Go through river's own world of 0-or-1 rewards by the loop of its documentation.

    That world is its `CandyCaneContest`, made by gymnasium, with these rates, which do not decay.
    """
    env: Any = gymnasium.make(
        "river_bandits/CandyCaneContest-v0",
        n_machines=len(rates),
        reward_decay=0.0,
        max_episode_steps=steps,
    )
    env.reset(seed=1)
    for machine, rate in zip(env.unwrapped._machines, rates, strict=True):
        machine.threshold = rate
    metric = stats.Sum()
    while True:
        arm = policy.pull(range(env.action_space.n))
        _, reward, terminated, truncated, _ = env.step(arm)
        policy.update(arm, reward)
        metric.update(reward)
        if terminated or truncated:
            break


def obp_simulation(world: Logistic, given: Rounds) -> Callable[[], object]:
    """Return obp's own simulation of its LinUCB in one replication of our world.

    As in its examples, rewards come from its own dataset's `sample_reward`. What the dataset is
    told of the world is the least that can be said: one product and one `expit`.
    """
    weights = np.array(world.coefficients).T
    dataset = _obp_dataset(
        weights, lambda context, action_context, random_state: expit(context @ weights)
    )
    n_rounds = len(given.contexts)
    feedback = {
        "n_rounds": n_rounds,
        "action": np.zeros(n_rounds, np.int64),
        "position": np.zeros(n_rounds, np.int64),
        "reward": np.zeros(n_rounds),
        "context": given.contexts,
        "expected_reward": given.means,
    }
    return _obp_simulation(dataset, feedback, weights)


def obp_example(world: Logistic, n_rounds: int) -> Callable[[], object]:
    """Return obp's simulation as its examples have it: its logistic world of the same size.

    That world draws its weights anew from their seed at each step.
    """
    weights = np.array(world.coefficients).T
    dataset = _obp_dataset(weights, obp_module("obp.dataset").logistic_reward_function)
    feedback = dataset.obtain_batch_bandit_feedback(n_rounds)
    return _obp_simulation(dataset, feedback | {"position": np.zeros(n_rounds, np.int64)}, weights)


def _obp_dataset(weights: FloatArray, reward_function: Callable[..., FloatArray]) -> Any:
    n_features, n_arms = weights.shape
    return obp_module("obp.dataset").SyntheticBanditDataset(
        n_actions=n_arms, dim_context=n_features, reward_function=reward_function, random_state=1
    )


def _obp_simulation(dataset: Any, feedback: Any, weights: FloatArray) -> Callable[[], object]:
    simulate = obp_module("obp.simulator").calc_ground_truth_policy_value
    linucb = obp_module("obp.policy").LinUCB
    n_features, n_arms = weights.shape
    return lambda: simulate(
        feedback,
        dataset.sample_reward,
        linucb(dim=n_features, n_actions=n_arms, epsilon=0.25),
        n_sim=1,
    )


def obp_taught(arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
    """Make obp's LinUCB of the observations that ours has seen, in one update."""
    linucb = obp_module("obp.policy").LinUCB
    policy = linucb(dim=contexts.shape[1], n_actions=int(arms.max()) + 1, epsilon=0.25)
    for arm in range(int(arms.max()) + 1):
        x, r = contexts[arms == arm], rewards[arms == arm]
        inverse = np.linalg.inv(np.eye(contexts.shape[1]) + x.T @ x)
        policy.A_inv[arm], policy.b[:, arm] = inverse, x.T @ r
    return policy
