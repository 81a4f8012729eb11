"""What pages count."""

from dataclasses import fields

import numpy as np

from bandits.engine.arm_counts import ArmCounts

ARMS = np.array([0, 1, 1, 0, 0])
HOLDOUT = np.array([False, False, False, False, True])
REWARDS = np.array([1.0, 2.0, 4.0, 0.0, 8.0])
METRICS = np.array([[1.0, 1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 3.0, 0.0, 7.0]])


def figures(tally: ArmCounts) -> dict[str, list[float]]:
    """Turn a tally into plain lists."""
    return {f.name: getattr(tally, f.name).tolist() for f in fields(tally)}


def complete() -> ArmCounts:
    """Count five decisions of two arms, one of them held out."""
    return ArmCounts.from_complete(2, ARMS, HOLDOUT, REWARDS, METRICS)


def test_held_out_decisions_are_a_group_of_their_own_behind_the_arms() -> None:
    assert figures(complete()) == {
        "sent": [0, 0, 0],
        "complete": [2, 2, 1],
        "reward": [1, 6, 8],
        "square": [1, 20, 64],
        "metrics": [[1, 2, 1], [0, 4, 7]],
    }
    assert ArmCounts.from_sent(2, 2, ARMS, HOLDOUT).sent.tolist() == [2, 2, 1]


def test_arm_counts_of_no_decisions_are_zero() -> None:
    none = np.zeros(0, dtype=np.int64)
    nobody = ArmCounts.from_complete(2, none, none.astype(bool), np.zeros(0), np.zeros((2, 0)))
    assert figures(nobody) == figures(ArmCounts.zeros(2, 2))


def test_arm_counts_subtraction_undoes_addition() -> None:
    before = ArmCounts.from_sent(2, 2, ARMS, HOLDOUT)
    assert figures(before + complete() - complete()) == figures(before)


def test_arm_that_joins_comes_before_the_held_out_group() -> None:
    grown = complete().padded(4)
    assert grown.n_arms == 4
    assert grown.complete.tolist() == [2, 2, 0, 0, 1]
    assert grown.metrics.tolist() == [[1, 2, 0, 0, 1], [0, 4, 0, 0, 7]]
    assert figures(grown.padded(4)) == figures(grown)


def test_arm_counts_read_back_as_written() -> None:
    assert figures(ArmCounts.load(complete().dump())) == figures(complete())
