import numpy as np
import pytest

from bandits.inference.aipw_sums import AipwSums
from bandits.inference.overlap import (
    Comparisons,
    OverlapSums,
    compare,
    comparisons_of,
    count_by_origin,
)

SHARES = np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.2, 0.2, 0.6]])
SINGLE = ((0,), (1,), (2,))


def decisions(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw n decisions of the three origins, with rewards of 0, 1 or 2.5."""
    rng = np.random.default_rng(seed)
    origins = rng.integers(0, 3, n)
    arms = (rng.random(n)[:, None] > SHARES[origins].cumsum(axis=1)).sum(axis=1)
    rewards = rng.choice([0.0, 1.0, 2.5], n, p=[0.7, 0.2, 0.1])
    return origins, arms, rewards


def summed(comparisons: Comparisons, columns: tuple[np.ndarray, ...]) -> OverlapSums:
    """Sum decisions as the only segment."""
    everyone = np.zeros((1, len(columns[0])), dtype=np.int64)
    counts = count_by_origin(*columns, columns[2] != 0, everyone, shape=(1, *SHARES.shape))
    return OverlapSums.from_counts(comparisons, SHARES, counts[0])


def evidence_of(columns: tuple[np.ndarray, ...]) -> AipwSums:
    """Sum decisions by arm."""
    origins, arms, rewards = columns
    strata = np.zeros(len(arms), dtype=np.int64)
    every = np.ones((1, 3), dtype=bool)
    return AipwSums.from_decisions(every, strata, arms, rewards, SHARES[origins, arms])


def test_overlap_sums_are_those_of_each_decision_by_itself() -> None:
    origins, arms, rewards = columns = decisions(400)
    sums = summed(comparisons_of(SINGLE, 0), columns)
    expected = np.zeros_like(sums.sums)
    pairs = zip(
        *(getattr(sums.comparisons, name) for name in ("place", "first", "second")), strict=True
    )
    for place, a, b in pairs:
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
    comparisons = comparisons_of(SINGLE, 0)
    parts = [summed(comparisons, (origins[i::3], arms[i::3], rewards[i::3])) for i in range(3)]
    whole = summed(comparisons, (origins, arms, rewards))
    np.testing.assert_allclose((parts[2] + parts[0] + parts[1]).sums, whole.sums, rtol=1e-12)
    np.testing.assert_allclose((whole - parts[1]).sums, (parts[0] + parts[2]).sums, atol=1e-10)


def test_overlap_sums_are_read_back_as_they_were_written() -> None:
    sums = summed(comparisons_of(SINGLE, 0), decisions(50))
    again = OverlapSums.load(sums.dump())
    np.testing.assert_array_equal(again.sums, sums.sums)
    assert again.comparisons.places == sums.comparisons.places
    np.testing.assert_array_equal(again.padded(sums.comparisons).sums, sums.sums)
    by_segment = OverlapSums.zeros(comparisons_of(SINGLE, 0, "none"), (4,))
    assert by_segment.sums.shape == (4, 8, 4)
    assert OverlapSums.load(by_segment.dump()).sums.shape == by_segment.sums.shape


def test_arm_that_joins_leaves_the_sums_of_the_others() -> None:
    sums = summed(comparisons_of(SINGLE, 0), decisions(50))
    joined = sums.padded(comparisons_of((*SINGLE, (3,)), 0))
    for key, place in sums.comparisons.places.items():
        after = joined.sums[:, joined.comparisons.places[key]]
        np.testing.assert_array_equal(sums.sums[:, place], after)
    assert not joined.sums[:, joined.comparisons.arms(3, [0, 1, 2])].any()
    assert joined.padded(joined.comparisons) is joined


def test_comparisons_of_many_arms_are_those_with_the_control_and_of_variants() -> None:
    levels = tuple((a, b) for a in range(9) for b in range(7))
    many = comparisons_of(levels, 0)
    assert len(many.keys) == 2 * (62 + 8 + 6)
    assert many.arms(0, list(range(1, 63))) is not None
    assert many.arms(1, [2]) is None
    np.testing.assert_array_equal(many.opposite[many.opposite], np.arange(len(many.keys)))
    subject = many.variant(0, 3)
    of_subject = many.place == subject
    assert [levels[k] for k in many.first[of_subject]] == [(3, b) for b in range(7)]
    assert [levels[k] for k in many.second[of_subject]] == [(0, b) for b in range(7)]
    few = comparisons_of(levels[:60], 0)
    assert len(few.keys) == 60 * 59 + 2 * (8 + 6)
    assert few.variant(0, 9) is None
    within = comparisons_of(levels, 0, "none")
    assert {kind for kind, _, _ in within.keys.tolist()} == {0, 1}


def test_comparison_is_the_difference_of_weighted_means() -> None:
    origins, arms, rewards = columns = decisions(4_000)
    sums = summed(comparisons_of(SINGLE, 0), columns)
    evidence = evidence_of(columns)
    scores = compare(sums, sums.comparisons.arms(2, [0]), evidence, worth=np.ones(3))
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
    opposite = compare(sums, sums.comparisons.arms(0, [2]), evidence, worth=np.ones(3))
    assert opposite.mean[0] == pytest.approx(-scores.mean[0])
    negated = compare(sums.negated, sums.comparisons.arms(2, [0]), evidence, worth=np.ones(3))
    assert negated.mean[0] == pytest.approx(-scores.mean[0])
    assert negated.variation[0] == pytest.approx(scores.variation[0])


def test_variant_is_compared_over_all_arms_that_show_it() -> None:
    columns = decisions(4_000)
    evidence = evidence_of(columns)
    sums = summed(comparisons_of(((0, 0), (1, 0), (0, 1)), 0), columns)
    single = summed(comparisons_of(SINGLE, 0), columns)
    for slot, arm in ((0, 1), (1, 2)):  # each variant is shown by one arm beside the control
        of_variant = compare(sums, sums.comparisons.variant(slot, 1), evidence, worth=np.ones(3))
        of_arm = compare(single, single.comparisons.arms(arm, [0]), evidence, worth=np.ones(3))
        assert of_variant.mean == pytest.approx(of_arm.mean)
    whole = sums.sums[:, sums.comparisons.variant(0, 1)]
    again = summed(comparisons_of(((0, 0), (1, 0), (1, 1)), 0, "none"), columns)
    assert again.sums[:, again.comparisons.variant(0, 1)] == pytest.approx(whole)


def test_design_effect_widens_and_asks_for_more() -> None:
    columns = decisions(4_000)
    sums = summed(comparisons_of(SINGLE, 0), columns)
    evidence = evidence_of(columns)
    place = sums.comparisons.arms(1, [0])
    plain = compare(sums, place, evidence, worth=np.ones(3))
    clustered = compare(sums, place, evidence, worth=np.ones(3), design_effect=4.0)
    assert clustered.variation[0] >= 4 * plain.variation[0] * (1 - 1e-12)
    assert clustered.conversions[0] == pytest.approx(plain.conversions[0] / 4)
    halved = compare(sums, place, evidence, worth=np.full(3, 0.5))
    assert halved.conversions[0] == pytest.approx(plain.conversions[0] / 2)
    assert clustered.variation_expected[0] == pytest.approx(16 * plain.variation_expected[0])


def test_variation_is_the_larger_of_the_modelled_and_the_observed() -> None:
    columns = decisions(4_000)
    sums = summed(comparisons_of(SINGLE, 0), columns)
    place = sums.comparisons.arms(1, [0])
    both = np.array([place[0], sums.comparisons.opposite[place[0]]])

    def variation(*rows: int) -> float:
        larger = sums.sums.copy()
        larger[np.ix_(rows, both)] *= 10
        of_larger = OverlapSums(sums.comparisons, sums.decisions, larger)
        return compare(of_larger, place, evidence_of(columns), worth=np.ones(3)).variation[0]

    plain = compare(sums, place, evidence_of(columns), worth=np.ones(3)).variation[0]
    assert variation(3, 4, 5) > 9 * plain  # Σ w² (R − m)²
    assert variation(7) == pytest.approx(10 * plain, rel=0.1)  # Σ h² / π


def test_side_without_conversions_has_those_of_its_decisions_by_the_rate_of_all() -> None:
    columns = decisions(4_000)
    sums, evidence = summed(comparisons_of(SINGLE, 0), columns), evidence_of(columns)
    place = sums.comparisons.arms(1, [0])
    none = sums.sums.copy()
    none[[0, 2, 4, 5], place[0]] = 0.0
    scores = compare(
        OverlapSums(sums.comparisons, sums.decisions, none), place, evidence, worth=np.ones(3)
    )
    rate = evidence.earning.sum() / evidence.sends.sum()
    decisions_of_side = sums.sums[1, place[0]] ** 2 / sums.sums[3, place[0]]
    assert scores.conversions[0] == pytest.approx(rate * decisions_of_side)
    n, total, square = (evidence.moments[..., i, 0, :].sum() for i in range(3))
    pooled = square / n - (total / n) ** 2
    assert scores.variation[0] > pooled * sums.sums[7, place[0]]  # it varies as all arms do
