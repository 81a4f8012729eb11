"""Newcomers: an arm that joins takes its capped share, and what is known of the others goes on."""

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.allocation import AllocationRule, apply_floor
from bandits.engine import fold
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.arm_counts import ArmCounts
from bandits.experiment import Experiment
from bandits.registry import policies
from bandits.schemas import Request, Reward
from bandits.statistics import dump
from bandits.store.values import Snapshot
from bandits.versions import Configuration

ALL = sorted(policies())
CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
RATES = {"a": 0.02, "b": 0.03, "c": 0.04, "d": 0.05, "e": 0.30, "f": 0.50}
BEST, NEW = 4, 5
WAVE = 1500
FLOOR = 0.002
EXPLOITING = [n for n in ALL if n not in {"top_two_thompson", "uniform"}]  # those share on purpose
# These give arms with few results all they can, so that nothing of the others was left.
ERASED = ["bayes_ucb", "epsilon_greedy", "greedy_ridge", "kl_ucb", "linucb", "ucb1", "ucb_tuned"]


def configuration(variants: str, name: str, **changes: Any) -> Configuration:
    declared: dict[str, Any] = {
        "key": "spring",
        "slots": [{"key": "subject", "variants": [{"key": v} for v in variants]}],
        "policy": {"name": name},
        "reward": {"metrics": {"click": {}}},
        "floor": FLOOR,
    }
    if policies()[name].statistic.contextual:
        declared["context"] = CONTEXT
    return Configuration.first(msgspec.convert(declared | changes, Experiment))


@cache
def joined(name: str) -> Configuration:
    wider = configuration("abcdef", name).experiment
    return configuration("abcde", name).next_version(wider, started=True)


class Campaign:
    """Waves of one campaign, each learned before the next.

    Attributes:
        configuration: five variants, or six after one has joined.
        rule: the rule of its snapshots.
        active: the policy as it chooses now.
    """

    def __init__(self, name: str, *, rule: int = AllocationRule.OTHERS_ALONE) -> None:
        self.configuration = configuration("abcde", name)
        self.rule = rule
        self._rng = np.random.default_rng(2)
        self._arms = np.empty(0, dtype=np.int64)
        self._rewards = np.empty(0)
        self._contexts = np.empty((0, self.configuration.problem.n_features))
        self.learn(upcoming=1)

    def learn(self, upcoming: int = WAVE) -> None:
        """Fold everything into a snapshot."""
        config = self.configuration
        weights = np.ones(len(self._arms))
        statistic = config.policy.statistic.from_observations(
            config.problem, self._arms, self._rewards, self._contexts, weights
        )
        counts = ArmCounts.from_complete(
            config.problem.n_arms, self._arms, weights == 0, self._rewards, self._rewards[None]
        )
        snapshot = Snapshot(
            1, 1, 0.0, 1, upcoming, dump(statistic), counts.dump(), allocation_rule=self.rule
        )
        self.active = ActivePolicy("spring", b"a salt of 16 by.", config, snapshot)

    def wave(self, n: int = WAVE) -> None:
        """Send to n people, and learn whether they clicked."""
        contexts = self.active.encoder.encode(
            [{"recency": r} for r in self._rng.random(n).tolist()] if self.personal else [{}] * n
        ).contexts
        arms, _, failed = self.active.choose(
            self.active.unrestricted_arms, contexts, self._rng.random(n)
        )
        assert not failed
        clicked = self._rng.random(n) < np.array(list(RATES.values()))[arms]
        self._arms = np.append(self._arms, arms)
        self._rewards = np.append(self._rewards, clicked)
        self._contexts = np.append(self._contexts, contexts, axis=0)
        self.learn()

    @property
    def personal(self) -> bool:
        """Contexts count."""
        return bool(self.active.experiment.context)

    def shares(self) -> np.ndarray:
        """Return the share of each variant, averaged over recipients."""
        contexts = np.ones((5, self.active.problem.n_features))
        contexts[:, 1:] = np.linspace(0, 1, 5)[:, None]
        shares = self.active.probabilities(self.active.unrestricted_arms, contexts)
        return np.atleast_2d(shares).mean(axis=0)

    def add_newcomer(self) -> None:
        """Add the sixth variant."""
        self.configuration = joined(self.active.experiment.policy.name)
        self.learn()


@cache
def five_known(name: str, rule: int = AllocationRule.OTHERS_ALONE) -> Campaign:
    """Return a campaign after four waves, which a sixth variant has joined just now."""
    campaign = Campaign(name, rule=rule)
    for _ in range(4):
        campaign.wave()
    campaign.add_newcomer()
    return campaign


def policy_shares(active: ActivePolicy, arms: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Compute what the policy makes of some arms alone, by itself."""
    prepared = active.policy.prepare(
        active.statistic.take(arms), active.problem.take(arms), WAVE, np.random.default_rng(1)
    )
    return np.asarray(active.policy.propensities(prepared, contexts))


@pytest.mark.parametrize("name", ALL)
def test_newcomer_leaves_the_others_what_the_policy_gives_them_alone(name):
    active = five_known(name).active
    contexts = np.ones((7, active.problem.n_features))
    contexts[:, 1:] = np.linspace(0, 1, 7)[:, None]
    everyone, others = np.arange(6), np.arange(5)
    newcomer = np.minimum(policy_shares(active, everyone, contexts)[..., NEW:], 1 / 6)
    rest = (1 - newcomer) * policy_shares(active, others, contexts)
    expected = apply_floor(np.concatenate([rest, newcomer], axis=-1), FLOOR)
    actual = active.probabilities(everyone, contexts)
    assert actual == pytest.approx(expected, abs=1e-12)
    assert actual.sum(axis=-1) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_newcomer_among_some_arms_leaves_the_rest_likewise(name):
    active = five_known(name).active
    arms = np.array([1, 4, 5])
    contexts = np.ones((1, active.problem.n_features))
    newcomer = np.minimum(policy_shares(active, arms, contexts)[..., 2:], 1 / 3)
    rest = (1 - newcomer) * policy_shares(active, arms[:2], contexts)
    expected = apply_floor(np.concatenate([rest, newcomer], axis=-1), FLOOR)
    assert active.probabilities(arms, contexts) == pytest.approx(expected, abs=1e-12)


def two_waves_later(name: str, rule: int) -> np.ndarray:
    """Return the shares of six variants, two waves after the better newcomer joined."""
    campaign = Campaign(name, rule=rule)
    for _ in range(4):
        campaign.wave()
    campaign.add_newcomer()
    campaign.wave()
    campaign.wave()
    return campaign.shares()


@pytest.mark.parametrize("name", EXPLOITING)
def test_newcomer_leaves_the_proven_best_what_it_had_of_the_rest(name):
    shares = two_waves_later(name, AllocationRule.OTHERS_ALONE)
    assert shares[NEW] <= 1 / 6 + FLOOR
    assert shares[BEST] >= 0.9 * 5 / 6


@pytest.mark.parametrize("name", ERASED)
def test_newcomer_took_the_proven_best_from_all_by_the_first_rule(name):
    assert two_waves_later(name, AllocationRule.RENORMALIZED) == pytest.approx(1 / 6, abs=1e-3)


def test_newcomers_known_to_none_share_by_the_first_rule_before_any_snapshot():
    active = ActivePolicy("spring", b"a salt of 16 by.", joined("thompson"), None)
    assert active.probabilities(np.arange(6), np.ones((1, 1))) == pytest.approx(1 / 6)


def test_receipts_derive_by_the_rule_that_each_decision_was_made_under(
    engine, sender, now, monkeypatch
):
    variants = configuration("abcde", "kl_ucb").experiment.slots
    rule = {"metrics": {"click": {}}, "window_seconds": 1000.0, "maturity_seconds": 10.0}
    sender.start(slots=msgspec.to_builtins(variants), policy={"name": "kl_ucb"}, reward=rule)
    ids = []

    def wave(tag):
        requests = [Request(f"{tag}-{i}") for i in range(60)]
        decisions = engine.choose("spring", requests)
        ids.extend(d.decision_id for d in decisions[:5])
        drawn = [(d.decision_id, d.slots["subject"]["variant"]) for d in decisions]
        clicked = [i for n, (i, v) in enumerate(drawn) if v == "f" or (v == "e" and n % 2)]
        engine.reward([Reward(i, "c", "click") for i in clicked])
        now[0] += 11
        engine.learn("spring")

    monkeypatch.setattr(fold, "NEWEST_RULE", AllocationRule.RENORMALIZED)
    wave("first")
    _join(engine)
    wave("old")
    wave("older")
    monkeypatch.undo()
    wave("last of the old")  # its snapshot is of the new rule
    wave("new")
    rules = [engine.store.snapshots.snapshot("spring", v).allocation_rule for v in range(1, 6)]
    assert rules == [1, 1, 1, 2, 2]
    receipts = [engine.receipt(i) for i in ids]
    assert all(r.derived for r in receipts)
    shares = [r.propensities["e"] for r in (receipts[15], receipts[20])]
    assert shares[0] == pytest.approx(1 / 6, abs=0.05)
    assert shares[1] > 0.5


def _join(engine: Any) -> None:
    """Add variant f to the running experiment."""
    configuration_ = engine.store.experiments.record("spring").configuration
    wider = msgspec.structs.replace(
        configuration_.experiment, slots=configuration("abcdef", "kl_ucb").experiment.slots
    )
    engine.edit("spring", wider, version=configuration_.version, by="test")
