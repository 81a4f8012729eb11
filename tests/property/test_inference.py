import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.inference import aipw
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.confidence_sequences import lift_bounds, rate_bounds
from bandits.inference.sample_ratio import SampleRatio

ALPHAS = st.floats(1e-9, 0.5)
K = 4
SETS = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]], dtype=np.bool_)


@st.composite
def arms(draw):
    n = draw(st.integers(0, 10**8))
    return draw(st.one_of(st.sampled_from([0, n]), st.floats(0, n), st.integers(0, n))), n


@st.composite
def logs(draw):
    """Decisions: which set of arms each could choose from, what it got, earned, and how likely."""
    seed, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 60))
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, len(SETS), n)
    chosen = np.array([rng.choice(np.flatnonzero(SETS[g])) for g in strata])
    rewards = np.where(rng.random(n) < 0.5, 0.0, rng.normal(1, 2, n))
    return strata, chosen, rewards, rng.uniform(0.05, 1, n)


def _evidence(strata, chosen, rewards, propensities):
    return AipwSums.from_decisions(SETS, strata, chosen, rewards, propensities)


def _same(one, other):
    np.testing.assert_array_equal(one.eligible, other.eligible)
    np.testing.assert_array_equal(one.moments[:, 0, 0], other.moments[:, 0, 0])
    np.testing.assert_allclose(one.moments, other.moments, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(one.earning, other.earning)


@given(arms(), ALPHAS)
def test_a_rate_lies_inside_its_interval_and_the_interval_inside_0_and_1(arm, alpha):
    s, n = arm
    low, high = rate_bounds(s, n, alpha)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= s / n * (1 + 1e-12)
        assert s / n * (1 - 1e-12) <= high


@given(arms(), ALPHAS)
def test_rate_interval_is_mirrored_by_counting_failures(arm, alpha):
    s, n = arm
    low, high = rate_bounds(s, n, alpha)
    mirrored = rate_bounds(n - s, n, alpha)
    np.testing.assert_allclose([1 - high, 1 - low], mirrored, rtol=1e-6, atol=1e-12)


@given(arms(), ALPHAS)
def test_rate_interval_is_never_narrower_at_a_stricter_level(arm, alpha):
    low, high = rate_bounds(*arm, alpha)
    wider_low, wider_high = rate_bounds(*arm, alpha / 10)
    assert wider_low <= low * (1 + 1e-9)
    assert high <= wider_high * (1 + 1e-9)


@given(arms(), arms(), ALPHAS)
def test_a_lift_is_bounded_contains_its_estimate_and_changes_sign_when_arms_swap(one, other, alpha):
    low, high = lift_bounds(*one, *other, alpha)
    assert -1 <= low <= high <= 1
    if one[1] and other[1]:
        estimate = other[0] / other[1] - one[0] / one[1]
        assert low - 1e-9 <= estimate <= high + 1e-9
    np.testing.assert_allclose(lift_bounds(*other, *one, alpha), (-high, -low), atol=1e-12)


@given(logs(), st.randoms(use_true_random=False))
def test_evidence_is_the_same_in_whatever_order_and_portions_it_is_added(log, random):
    n = len(log[0])
    order = list(range(n))
    random.shuffle(order)
    cut = random.randint(0, n)
    parts = [[column[part] for column in log] for part in (order[:cut], order[cut:])]
    whole = _evidence(*log)
    _same(_evidence(*parts[0]) + _evidence(*parts[1]), whole)
    _same(AipwSums.zeros(K) + whole, whole)


@given(logs(), st.integers(0, 60))
def test_evidence_taken_out_again_leaves_what_was_there_before(log, cut):
    kept, out = ([column[part] for column in log] for part in (slice(cut), slice(cut, None)))
    if len(kept[0]):
        _same(_evidence(*log) - _evidence(*out), _evidence(*kept))
    nothing = _evidence(*log) - _evidence(*log)
    assert nothing.moments.size == 0


@given(logs(), st.permutations(range(K)))
def test_permuting_arms_permutes_their_values(log, order):
    strata, chosen, rewards, propensities = log
    order = np.array(order)
    place = np.argsort(order)
    plain = _evidence(*log)
    permuted = AipwSums.from_decisions(SETS[:, order], strata, place[chosen], rewards, propensities)
    np.testing.assert_allclose(permuted.means, plain.means[order], atol=1e-9)
    weights = np.array([1.0, -1.0, 0.0, 0.0])
    one, other = aipw.contrast(plain, weights), aipw.contrast(permuted, weights[order])
    np.testing.assert_allclose(one.total, other.total, atol=1e-6)
    np.testing.assert_allclose(one.variation, other.variation, rtol=1e-6, atol=1e-6)


@given(logs())
def test_evidence_and_sample_ratios_survive_storage_and_newcomers(log):
    evidence = _evidence(*log)
    _same(AipwSums.load(evidence.dump()), evidence)
    padded = evidence.padded(K + 2)
    lift = np.array([-1.0, 1.0, 0.0, 0.0])
    scores, same = aipw.contrast(evidence, lift), aipw.contrast(padded, np.append(lift, [0.0, 0.0]))
    np.testing.assert_allclose(scores.total, same.total, atol=1e-9)
    ratio = SampleRatio.from_draws(log[1], np.full(K, 1 / K))
    again = SampleRatio.load(ratio.dump())
    np.testing.assert_array_equal(again.p_values, ratio.p_values)
    assert np.all(ratio.padded(K + 2).p_values[K:] == 1)
    nothing = ratio + ratio - ratio - ratio
    assert not nothing.sent.any()
