"""A penalty λ that is edited while an experiment runs, and what decides before the next fold."""

from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.engine.active_policy import ActivePolicy
from bandits.experiment import Experiment
from bandits.inference.state import InferenceState
from bandits.registry import policies
from bandits.schemas import Request, Reward

CONTEXT = [{"kind": "number", "name": "recency", "low": 0.0, "high": 1.0}]
RULE = {"metrics": {"click": {}}, "window_seconds": 1000.0, "maturity_seconds": 10.0}
OLD, NEW = 0.01, 200.0
PENALISED = sorted(n for n, p in policies().items() if "ridge" in p.__struct_fields__)
REFITTED_FROM_SUMS = sorted({*PENALISED} - {"logistic_thompson"})


def start(sender, name):
    policy: dict[str, Any] = {"name": name, "params": {"ridge": OLD}}
    if name == "slots_thompson":
        policy["params"]["draws"] = 1000
    sender.start(policy=policy, reward=RULE, context=CONTEXT, floor=0.01)


def send(engine, now, n):
    """Send to n people, most of whom click where it suits them; wait until that is mature."""
    contexts = [{"recency": i / n} for i in range(n)]
    requests = [Request(f"{now[0]}-{i}", context) for i, context in enumerate(contexts)]
    ids = [d.decision_id for d in engine.choose("spring", requests)]
    clicked = [d for i, d in enumerate(ids) if i % 3 == 0 or i > 0.6 * n]
    engine.reward([Reward(d, "c", "click") for d in clicked])
    now[0] += 11
    return ids


def edit(engine, penalty):
    configuration = engine.store.experiments.record("spring").configuration
    plain = msgspec.to_builtins(configuration.experiment)
    plain["policy"]["params"]["ridge"] = penalty
    edited = msgspec.convert(plain, Experiment)
    return engine.edit("spring", edited, version=configuration.version, by="test")


def chances(engine, tag):
    """Send somebody an email; return what it was drawn from, as its receipt derives it."""
    (made,) = engine.choose("spring", [Request(tag, {"recency": 0.9})])
    receipt = engine.receipt(made.decision_id)
    assert receipt.derived
    return list(receipt.propensities.values())


def of_policy(engine, version):
    """Return what the policy as declared now makes of a snapshot that was folded under it."""
    record = engine.store.experiments.record("spring")
    live = ActivePolicy(
        record.key,
        record.salt,
        record.configuration,
        engine.store.snapshots.snapshot("spring", version),
    )
    context = live.encoder.encode([{"recency": 0.9}]).contexts
    return np.atleast_2d(live.probabilities(live.unrestricted_arms, context))[0].tolist()


@pytest.mark.parametrize("name", PENALISED)
def test_receipts_agree_whatever_penalty_came_meanwhile(engine, sender, now, name):
    start(sender, name)
    ids = send(engine, now, 40)
    engine.learn("spring")
    ids += send(engine, now, 20)
    edit(engine, NEW)
    ids += send(engine, now, 20)
    engine.learn("spring")
    ids += send(engine, now, 20)
    receipts = [engine.receipt(i) for i in ids]
    assert all(r.derived for r in receipts)
    origins = {(r.configuration_version, r.policy_version) for r in receipts}
    assert origins == {(1, 0), (1, 1), (2, 1), (2, 2)}
    engine.learn("spring")
    grounds = InferenceState.load(engine.store.snapshots.snapshot("spring", 3).inference_state)
    assert grounds.ratio.sent.sum() == len(ids), "results know what each was drawn from"


@pytest.mark.parametrize("name", REFITTED_FROM_SUMS)
def test_fit_from_sums_takes_a_new_penalty_at_once(engine, sender, now, name):
    start(sender, name)
    send(engine, now, 40)
    engine.learn("spring")
    edit(engine, NEW)
    assert chances(engine, "after") == pytest.approx(of_policy(engine, 1), abs=1e-12)


def test_fit_to_the_log_keeps_its_penalty_until_the_next_fold(engine, sender, now):
    """A parabola around the mode of one prior tells little of where another's is."""
    start(sender, "logistic_thompson")
    send(engine, now, 40)
    engine.learn("spring")
    before = chances(engine, "before")
    edit(engine, NEW)
    assert chances(engine, "after") == before
    engine.learn("spring")  # that of the two who just got one, though nothing else is due
    folded = chances(engine, "folded")
    assert folded == pytest.approx(of_policy(engine, 2), abs=1e-12)
    assert folded != pytest.approx(before, abs=1e-3)
