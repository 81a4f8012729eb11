"""Other people's bandits, as their own documentation has them used.

MABWiser and river come with the extra `bench`. Of obp the last release that installs on Python 3.11
is 0.4.1; it is kept in a folder of its own (`make bench` puts it there), without torch, which it
imports for policies that are not measured here, and which weighs more than everything else.
"""

import random
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from bandits.arrays import FloatArray, IntArray

OBP_FOLDER = Path(sys.prefix) / "peers"


class _Absent(ModuleType):
    """Stand where torch would: it has every name, and can do nothing."""

    __path__: list[str] = []  # noqa: RUF012 - of a module that has no files

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def obp_linucb() -> Callable[..., object]:
    """Return obp's own class LinUCB."""
    for name in ("torch", "torch.nn", "torch.optim", "torch.utils", "torch.utils.data"):
        parent, _, last = name.rpartition(".")
        sys.modules[name] = absent = _Absent(name)
        if parent:
            setattr(sys.modules[parent], last, absent)
    sys.path.append(str(OBP_FOLDER))
    linucb: Callable[..., object] = import_module("obp.policy").LinUCB
    return linucb


def river_loop(policy: object, rates: Sequence[float], steps: int) -> None:
    """Pull and update, on 0-or-1 rewards of these rates."""
    chance, arms = random.Random(1), list(range(len(rates)))
    for _ in range(steps):
        arm = policy.pull(arms)  # type: ignore[attr-defined]  # river has no types
        policy.update(arm, 1 if chance.random() < rates[arm] else 0)  # type: ignore[attr-defined]  # as above


def obp_loop(policy: object, contexts: FloatArray, means: FloatArray, luck: FloatArray) -> None:
    """Select and update, one of contexts (n, d) after another, as obp's simulator does."""
    for context, rates, chance in zip(contexts[:, None], means, luck, strict=True):
        arm = int(policy.select_action(context)[0])  # type: ignore[attr-defined]  # obp has no types
        policy.update_params(arm, float(chance < rates[arm]), context)  # type: ignore[attr-defined]  # as above


def obp_taught(
    linucb: Callable[..., object], arms: IntArray, rewards: FloatArray, contexts: FloatArray
) -> object:
    """Make obp's LinUCB of the observations that ours has seen, in one update."""
    policy = linucb(dim=contexts.shape[1], n_actions=int(arms.max()) + 1, epsilon=0.25)
    for arm in range(int(arms.max()) + 1):
        x, r = contexts[arms == arm], rewards[arms == arm]
        inverse = np.linalg.inv(np.eye(contexts.shape[1]) + x.T @ x)
        policy.A_inv[arm], policy.b[:, arm] = inverse, x.T @ r  # type: ignore[attr-defined]  # as above
    return policy
