"""What policies lose on three campaigns, for their page: ``python -m bandits.policy_regrets``.

Writes docs/policy_regrets.json, which `bandits.policy_pages` shows. It takes some minutes; the same
seed gives the same numbers.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bandits.array_types import FloatArray
from bandits.policy import AnyPolicy, sample_arms
from bandits.policy_pages import REGRETS
from bandits.problem import Problem
from bandits.registry import make, policies
from bandits.statistics.accumulator import Accumulator

_REPLICATIONS = 100
_SEED = 11


@dataclass(frozen=True, eq=False)
class RegretCampaign:
    """Recipients of some kinds, each equally frequent, and how often each kind clicks each arm.

    Attributes:
        name: what the page calls it.
        rates: (kinds, K).
        waves: how often is learned.
        wave: recipients in each.
    """

    name: str
    rates: FloatArray
    waves: int
    wave: int


CAMPAIGNS = (
    RegretCampaign(
        "Five subject lines, opened by 18 to 24 %; 100,000 recipients in 10 waves",
        np.array([[0.18, 0.20, 0.21, 0.22, 0.24]]),
        10,
        10_000,
    ),
    RegretCampaign(
        "Two offers, clicked by 4 and 5 %; 20,000 recipients in 20 waves",
        np.array([[0.04, 0.05]]),
        20,
        1000,
    ),
    RegretCampaign(
        "Three offers, each clicked by 20 % of its own third of recipients and by 10 % of others;"
        " 20,000 recipients in 40 waves",
        0.1 + 0.1 * np.eye(3),
        40,
        500,
    ),
)


def regrets(policy: AnyPolicy, campaign: RegretCampaign, replications: int) -> FloatArray:
    """Return the clicks lost against sending everybody their best arm, (replications,)."""
    rng = np.random.default_rng(_SEED)
    n_kinds, n_arms = campaign.rates.shape
    kinds = np.eye(n_kinds)
    problem = Problem.of(n_arms, n_kinds)
    learned = Accumulator(policy.statistic, problem, (replications,))
    lost = np.zeros(replications)
    for _ in range(campaign.waves):
        prepared = policy.prepare(learned.known, problem, campaign.wave, rng)
        kind = rng.integers(n_kinds, size=(replications, campaign.wave))
        arms = sample_arms(policy, prepared, kinds[kind], rng)
        rates = campaign.rates[kind, arms]
        rewards = (rng.random(rates.shape) < rates).astype(np.float64)
        learned.add(arms, rewards, kinds[kind], np.ones(rates.shape))
        lost += (campaign.rates.max(axis=-1)[kind] - rates).sum(axis=-1)
    return lost


def measured() -> Iterator[tuple[str, dict[str, str]]]:
    """Measure every policy, with its defaults, on every campaign."""
    for campaign in CAMPAIGNS:
        by_policy = {}
        for name in policies():
            lost = regrets(make(name), campaign, _REPLICATIONS)
            error = lost.std(ddof=1) / np.sqrt(_REPLICATIONS)
            by_policy[name] = f"{lost.mean():,.0f} ± {error:,.0f}"
            sys.stderr.write(f"{campaign.name}: {name} {by_policy[name]}\n")
        yield campaign.name, by_policy


if __name__ == "__main__":
    REGRETS.write_text(json.dumps(dict(measured()), indent=2, ensure_ascii=False) + "\n")
