import numpy as np
import pytest

from bandits.inference.aipw_sums import AipwSums
from bandits.inference.overlap import OverlapSums, Pairs, compare, pairs_of

SHARES = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.2, 0.2, 0.6]])
SINGLE = ((0,), (1,), (2,))


def decisions(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw n decisions of the three origins, with rewards of 0, 1 or 2.5."""
    rng = np.random.default_rng(seed)
    origins = rng.integers(0, 3, n)
    arms = (rng.random(n)[:, None] > SHARES[origins].cumsum(axis=1)).sum(axis=1)
    rewards = rng.choice([0.0, 1.0, 2.5], n, p=[0.7, 0.2, 0.1])
    return origins, arms, rewards


def summed(pairs: Pairs, columns: tuple[np.ndarray, ...]) -> OverlapSums:
    """Sum decisions as the only segment."""
    segments = np.zeros((1, len(columns[0])), dtype=np.int64)
    return OverlapSums.by_segment(
        pairs, SHARES, *columns, earned=columns[2] != 0, segments=segments, n_segments=1
    ).at(0)


def test_overlap_sums_are_those_of_each_decision_by_itself() -> None:
    origins, arms, rewards = columns = decisions(400)
    sums = summed(pairs_of(SINGLE, 0), columns)
    expected = np.zeros_like(sums.sums)
    for place, (a, b) in enumerate(zip(sums.pairs.first, sums.pairs.second, strict=True)):
        for origin, arm, reward in zip(origins, arms, rewards, strict=True):
            own, other = SHARES[origin, a], SHARES[origin, b]
            if own == 0 or other == 0:
                continue
            h = own * other / (own + other)
            expected[6:, place] += h, h**2 / own
            if arm == a:
                w = h / own
                row = (reward != 0, w, w * reward, w**2, w**2 * reward, w**2 * reward**2)
                expected[:6, place] += row
    np.testing.assert_allclose(sums.sums, expected, rtol=1e-12)
    assert sums.decisions == 400


def test_overlap_sums_add_and_subtract_in_any_order() -> None:
    origins, arms, rewards = decisions(300)
    pairs = pairs_of(SINGLE, 0)
    parts = [summed(pairs, (origins[i::3], arms[i::3], rewards[i::3])) for i in range(3)]
    whole = summed(pairs, (origins, arms, rewards))
    np.testing.assert_allclose((parts[2] + parts[0] + parts[1]).sums, whole.sums, rtol=1e-12)
    np.testing.assert_allclose((whole - parts[1]).sums, (parts[0] + parts[2]).sums, atol=1e-10)


def test_overlap_sums_are_read_back_as_they_were_written() -> None:
    sums = summed(pairs_of(SINGLE, 0), decisions(50))
    again = OverlapSums.load(sums.dump())
    np.testing.assert_array_equal(again.sums, sums.sums)
    np.testing.assert_array_equal(again.pairs.places, sums.pairs.places)
    by_segment = OverlapSums.zeros(pairs_of(SINGLE, 0, most=0), (4,))
    assert OverlapSums.load(by_segment.dump()).sums.shape == by_segment.sums.shape


def test_arm_that_joins_leaves_the_sums_of_the_others() -> None:
    sums = summed(pairs_of(SINGLE, 0), decisions(50))
    joined = sums.padded(pairs_of((*SINGLE, (3,)), 0))
    for a, b in zip(sums.pairs.first, sums.pairs.second, strict=True):
        before, after = (
            sums.sums[:, sums.pairs.places[a, b]],
            joined.sums[:, joined.pairs.places[a, b]],
        )
        np.testing.assert_array_equal(before, after)
    assert not joined.sums[:, joined.pairs.places[3, :3]].any()
    assert joined.padded(joined.pairs) is joined


def test_pairs_of_many_arms_are_those_with_the_control_and_of_one_slot() -> None:
    levels = tuple((a, b) for a in range(9) for b in range(7))
    many = pairs_of(levels, 0)
    assert len(many.first) == 2 * (62 + 8 * 6 * 2)
    assert many.keeps(np.arange(1, 63), np.zeros(62, dtype=np.int64))
    same_rest = np.array([levels.index((3, 5)), levels.index((3, 5))])
    assert many.keeps(same_rest, np.array([levels.index((0, 5)), levels.index((3, 0))]))
    assert not many.keeps(same_rest[:1], np.array([levels.index((4, 5))]))
    few = pairs_of(levels[:60], 0)
    assert len(few.first) == 60 * 59
    np.testing.assert_array_equal(few.first[few.opposite], few.second)


def test_comparison_is_the_difference_of_weighted_means() -> None:
    origins, arms, rewards = columns = decisions(4_000)
    sums = summed(pairs_of(SINGLE, 0), columns)
    strata = np.zeros(4_000, dtype=np.int64)
    evidence = AipwSums.from_decisions(
        np.ones((1, 3), dtype=bool), strata, arms, rewards, SHARES[origins, arms]
    )
    scores = compare(sums, np.array([[2]]), np.array([[0]]), evidence, worth=np.ones(3))
    of_pair = [SHARES[origins, 0] / SHARES[origins][:, [0, 2]].sum(axis=1), 0]
    of_pair[1] = (SHARES[origins, 2] > 0) * (1 - of_pair[0])
    means = [
        np.average(rewards[arms == arm], weights=w[arms == arm])
        for arm, w in ((2, of_pair[0]), (0, of_pair[1]))
    ]
    assert scores.mean[0] == pytest.approx(means[0] - means[1])
    squares = sum(
        (w[arms == arm] ** 2 * (rewards[arms == arm] - mean) ** 2).sum()
        for arm, w, mean in ((2, of_pair[0], means[0]), (0, of_pair[1], means[1]))
    )
    assert scores.variation[0] == pytest.approx(squares, rel=0.1)
    assert scores.variation[0] >= squares * (1 - 1e-12)
    opposite = compare(sums, np.array([[0]]), np.array([[2]]), evidence, worth=np.ones(3))
    assert opposite.mean[0] == pytest.approx(-scores.mean[0])
    negated = compare(sums.negated, np.array([[2]]), np.array([[0]]), evidence, worth=np.ones(3))
    assert negated.mean[0] == pytest.approx(-scores.mean[0])
    assert negated.variation[0] == pytest.approx(scores.variation[0])


def test_several_pairs_are_compared_as_one() -> None:
    origins, arms, rewards = columns = decisions(4_000)
    sums = summed(pairs_of(SINGLE, 0), columns)
    evidence = AipwSums.from_decisions(
        np.ones((1, 3), dtype=bool),
        np.zeros(4_000, dtype=np.int64),
        arms,
        rewards,
        SHARES[origins, arms],
    )

    def score(one: list[int], other: list[int]) -> float:
        ends = np.array([one]), np.array([other])
        return compare(sums, *ends, evidence, worth=np.ones(3)).n[0]

    assert score([1, 2], [0, 0]) == pytest.approx(score([1], [0]) + score([2], [0]))
    assert score([1, -1], [0, -1]) == score([1], [0])


def test_design_effect_widens_and_asks_for_more() -> None:
    origins, arms, rewards = columns = decisions(4_000)
    sums = summed(pairs_of(SINGLE, 0), columns)
    evidence = AipwSums.from_decisions(
        np.ones((1, 3), dtype=bool),
        np.zeros(4_000, dtype=np.int64),
        arms,
        rewards,
        SHARES[origins, arms],
    )
    ends = np.array([[1]]), np.array([[0]])
    plain = compare(sums, *ends, evidence, worth=np.ones(3))
    clustered = compare(sums, *ends, evidence, worth=np.ones(3), design_effect=4.0)
    assert clustered.variation[0] >= 4 * plain.variation[0] * (1 - 1e-12)
    assert clustered.conversions[0] == pytest.approx(plain.conversions[0] / 4)
    halved = compare(sums, *ends, evidence, worth=np.full(3, 0.5))
    assert halved.conversions[0] == pytest.approx(plain.conversions[0] / 2)
