"""What every registered policy promises; a new one is covered without a new test."""

import msgspec
import numpy as np
import pytest
from scipy import stats

from bandits import statistics
from bandits.policy import sample_arms
from bandits.problem import Problem
from bandits.registry import make, policies

K, D = 4, 3
FALSE_ALARM = 1e-6  # of each chi-square test below, all seeds fixed
ALL = sorted(policies())
every_policy = pytest.mark.parametrize("name", ALL)
# These freeze posterior draws, so that their probabilities are those of a sample of 1,000.
DRAWING = [n for n in ALL if "draws" in policies()[n].__struct_fields__]
SAMPLING_ERROR = 0.1  # more than six standard deviations of a share of 1,000 draws
every_invertible = pytest.mark.parametrize(
    "name", [n for n in ALL if policies()[n].statistic.invertible]
)
every_personal = pytest.mark.parametrize(
    "name", [n for n in ALL if policies()[n].statistic.contextual]
)
every_wave = pytest.mark.parametrize("upcoming", [1, 7, 10_000])


def problem_of(name, n_arms=K):
    low, high = policies()[name].support
    return Problem.of(n_arms, D, max(low, -1.0), min(high, 1.0))


def observations(problem, n, seed, lead=()):
    """Rewards of three sizes, better for later arms and for larger contexts."""
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, problem.n_arms, (*lead, n))
    contexts = rng.random((*lead, n, problem.n_features))
    contexts[..., 0] = 1.0
    better = (arms + 1) / (problem.n_arms + 1) * contexts[..., 1]
    rewards = np.where(rng.random(arms.shape) < better, 1.0, rng.choice([0.0, 0.5], arms.shape))
    rewards = problem.low + problem.span * rewards
    return arms, rewards, contexts, np.ones(arms.shape)


def known_of(name, problem, n=60, seed=1, lead=()):
    return make(name).statistic.from_observations(problem, *observations(problem, n, seed, lead))


def contexts_of(n, seed=2):
    contexts = np.random.default_rng(seed).random((n, D))
    contexts[:, 0] = 1.0
    return contexts


def prepare(policy, statistic, problem, upcoming=1, seed=3):
    return policy.prepare(statistic, problem, upcoming, np.random.default_rng(seed))


def per_context(policy, prepared, contexts):
    """Probabilities (n, K) for contexts (n, d), of whatever kind the policy is."""
    actual = policy.propensities(prepared, contexts)
    return np.broadcast_to(actual, (len(contexts), actual.shape[-1]))


def probabilities(name, statistic, problem, contexts=None, upcoming=1):
    policy = make(name)
    prepared = prepare(policy, statistic, problem, upcoming)
    return per_context(policy, prepared, contexts_of(5) if contexts is None else contexts)


@every_policy
@every_wave
@pytest.mark.parametrize("n_arms", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 500])
def test_rows_are_distributions(name, upcoming, n_arms, n):
    problem = problem_of(name, n_arms)
    rows = probabilities(name, known_of(name, problem, n), problem, upcoming=upcoming)
    assert rows.min() >= 0
    assert np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-12)


@every_policy
@every_wave
def test_unseen_arms_get_equal_probabilities(name, upcoming):
    problem = problem_of(name)
    statistic = make(name).statistic.zeros(problem)
    rows = probabilities(name, statistic, problem, upcoming=upcoming)
    tolerance = SAMPLING_ERROR if name in DRAWING else 1e-12
    assert np.allclose(rows, 1 / K, rtol=0, atol=tolerance)


@every_policy
@every_wave
def test_permuting_arms_permutes_probabilities(name, upcoming):
    problem = problem_of(name)
    statistic = known_of(name, problem)
    order = np.array([2, 0, 3, 1])
    before = probabilities(name, statistic, problem, upcoming=upcoming)
    after = probabilities(name, statistic.take(order), problem.take(order), upcoming=upcoming)
    assert np.allclose(after, before[:, order], rtol=0, atol=1e-9)


@every_policy
def test_mirrored_rewards_swap_two_arms_known_equally_well(name):
    problem = problem_of(name, 2)
    mirrored = Problem.of(2, D, -problem.high, -problem.low)
    _, _, contexts, weights = observations(problem, 200, seed=4)
    contexts[100:] = contexts[:100]
    arms = np.repeat([0, 1], 100)
    rewards = np.zeros(200)
    rewards[[*range(0, 100, 4), *range(100, 200, 3)]] = 1.0
    shift = 1.0 if problem.low == 0 else 0.0  # back into a support of [0, 1]
    if shift:
        mirrored = problem
    family = make(name).statistic
    before = probabilities(
        name, family.from_observations(problem, arms, rewards, contexts, weights), problem
    )
    statistic = family.from_observations(mirrored, arms, shift - rewards, contexts, weights)
    after = probabilities(name, statistic, mirrored)
    tolerance = SAMPLING_ERROR if name in DRAWING else 1e-9
    assert np.allclose(after, before[:, ::-1], rtol=0, atol=tolerance)


@every_policy
def test_restriction_computes_on_the_arms_that_are_left(name):
    problem = problem_of(name)
    arms, rewards, contexts, weights = observations(problem, 80, seed=5)
    left = np.array([0, 2, 3])
    kept = np.isin(arms, left)
    smaller = make(name).statistic.from_observations(
        problem.take(left), np.searchsorted(left, arms[kept]), rewards[kept], contexts[kept],
        weights[kept],
    )  # fmt: skip
    whole = make(name).statistic.from_observations(problem, arms, rewards, contexts, weights)
    restricted = probabilities(name, whole.take(left), problem.take(left))
    alone = probabilities(name, smaller, problem.take(left))
    tolerance = SAMPLING_ERROR if name in DRAWING else 1e-9
    assert np.allclose(restricted, alone, rtol=0, atol=tolerance)


@every_policy
def test_batch_row_is_the_row_alone(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem), problem)
    contexts = contexts_of(300)
    together = per_context(policy, prepared, contexts)
    for i in range(0, 300, 37):
        alone = per_context(policy, prepared, contexts[i : i + 1])
        assert np.allclose(alone[0], together[i], rtol=0, atol=1e-12)


@every_policy
@every_wave
def test_states_side_by_side_are_each_alone(name, upcoming):
    problem = problem_of(name)
    policy = make(name)
    lead = (3,)
    observed = observations(problem, 50, seed=6, lead=lead)
    contexts = np.stack([contexts_of(5, seed) for seed in range(3)])
    prepared = prepare(
        policy, policy.statistic.from_observations(problem, *observed), problem, upcoming
    )
    together = policy.propensities(prepared, contexts)
    for r in range(1 if name in DRAWING else 3):  # the later states get later draws
        statistic = policy.statistic.from_observations(problem, *(a[r] for a in observed))
        alone = policy.propensities(prepare(policy, statistic, problem, upcoming), contexts[r])
        assert np.allclose(together[r], alone, rtol=0, atol=1e-9)


@every_policy
def test_contexts_may_lack_or_share_batch_axes(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem, lead=(3,)), problem)
    contexts = contexts_of(5)
    each = policy.propensities(prepared, np.broadcast_to(contexts, (3, 5, D)))
    shared = policy.propensities(prepared, contexts[None])
    assert np.allclose(shared, each, rtol=0, atol=1e-12)
    one = policy.propensities(prepared, np.broadcast_to(contexts[0], (3, D)))
    assert one.shape == (3, K)
    assert np.allclose(one, each[:, 0] if each.ndim == 3 else each, rtol=0, atol=1e-12)
    rng = np.random.default_rng(7)
    assert sample_arms(policy, prepared, contexts[None], rng).shape == (3, 5)
    assert sample_arms(policy, prepared, np.broadcast_to(contexts[0], (3, D)), rng).shape == (3,)


@every_personal
def test_predictions_are_of_the_arm_and_the_recipient_alone(name):
    problem = problem_of(name)
    policy = make(name)
    statistic, contexts = known_of(name, problem, n=200), contexts_of(50)
    predicted = policy.predictions(prepare(policy, statistic, problem), contexts)
    assert predicted.shape == (50, K)
    alone = policy.predictions(prepare(policy, statistic, problem, seed=4), contexts[7:8])
    assert np.allclose(alone, predicted[7:8], rtol=0, atol=1e-12)
    order = np.array([2, 0, 3, 1])
    permuted = prepare(policy, statistic.take(order), problem.take(order))
    assert np.allclose(
        policy.predictions(permuted, contexts), predicted[:, order], rtol=0, atol=1e-9
    )


@every_personal
def test_predictions_may_lack_or_share_batch_axes(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem, lead=(3,)), problem)
    contexts = contexts_of(10).reshape(2, 5, D)
    each = policy.predictions(prepared, np.broadcast_to(contexts, (3, 2, 5, D)))
    assert each.shape == (3, 2, 5, K)
    shared = policy.predictions(prepared, contexts[None])
    assert np.allclose(shared, each, rtol=0, atol=1e-12)
    one = policy.predictions(prepared, np.broadcast_to(contexts[0, 0], (3, D)))
    assert np.allclose(one, each[:, 0, 0], rtol=0, atol=1e-12)


@every_personal
def test_predictions_are_near_the_reward_that_much_data_shows(name):
    """Every arm's mean for a recipient; the bound is wide, as not every model is the true one."""
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem, n=40_000), problem)
    contexts = contexts_of(50)
    chance = np.arange(1, K + 1) / (K + 1) * contexts[:, 1:2]  # as `observations` rewards
    expected = problem.low + problem.span * (chance + (1 - chance) * 0.25)
    predicted = policy.predictions(prepared, contexts)
    assert np.abs(predicted - expected).max() < 0.1 * problem.span


@every_policy
def test_empty_batch_is_no_error(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem), problem)
    assert policy.propensities(prepared, np.zeros((0, D))).shape in {(0, K), (K,)}
    if policy.statistic.contextual:
        assert policy.predictions(prepared, np.zeros((0, D))).shape == (0, K)
    assert sample_arms(policy, prepared, np.zeros((0, D)), np.random.default_rng(8)).shape == (0,)


@every_policy
def test_sampling_a_batch_follows_the_probabilities(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, known_of(name, problem, n=12), problem, upcoming=50)
    contexts = np.repeat(contexts_of(1), 20_000, axis=0)
    arms = sample_arms(policy, prepared, contexts, np.random.default_rng(9))
    expected = per_context(policy, prepared, contexts[:1])[0]
    assert fits(np.bincount(arms, minlength=K), expected)


@every_policy
def test_sampling_one_in_each_of_many_states_follows_the_probabilities(name):
    problem = problem_of(name)
    policy = make(name)
    statistic = known_of(name, problem, n=12)
    side_by_side = type(statistic)(
        *(np.broadcast_to(a, (20_000, *a.shape)) for a in fields_of(statistic))
    )
    x = contexts_of(1)
    prepared = prepare(policy, side_by_side, problem)
    arms = sample_arms(policy, prepared, np.repeat(x, 20_000, axis=0), np.random.default_rng(9))
    counts = np.bincount(arms, minlength=K)
    if name not in DRAWING:
        expected = per_context(policy, prepare(policy, statistic, problem), x)[0]
        assert fits(counts, expected)
        return
    # Each state freezes draws of its own; all of them together are many draws of one posterior.
    many = make(name, {"draws": 100_000})
    expected = per_context(many, prepare(many, statistic, problem), x)[0]
    assert stats.chi2_contingency([counts, 100_000 * expected]).pvalue > FALSE_ALARM


@every_policy
def test_sampling_test_finds_ties_given_to_the_first_arm(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, policy.statistic.zeros(problem), problem)
    expected = per_context(policy, prepared, contexts_of(1))[0]
    first = np.zeros(20_000, dtype=np.int64)
    assert not fits(np.bincount(first, minlength=K), expected)


@every_policy
def test_identical_recipients_in_one_batch_get_independent_draws(name):
    problem = problem_of(name)
    policy = make(name)
    prepared = prepare(policy, policy.statistic.zeros(problem), problem, upcoming=4)
    contexts = np.repeat(contexts_of(1), 8_000, axis=0)
    arms = sample_arms(policy, prepared, contexts, np.random.default_rng(10))
    pairs = np.bincount(arms[::2] * K + arms[1::2], minlength=K * K).reshape(K, K)
    assert stats.chi2_contingency(pairs).pvalue > FALSE_ALARM


@pytest.mark.parametrize("name", [n for n in ALL if policies()[n].advance is not None])
def test_advance_agrees_with_prepare_on_one_more_observation(name):
    policy = make(name)
    problem = problem_of(name)
    lead = (3,)
    statistic = known_of(name, problem, n=20, lead=lead)
    observed = observations(problem, 15, seed=11, lead=lead)
    prepared = prepare(policy, statistic, problem)
    for i in range(15):
        arms, rewards, contexts, _ = (a[:, i] for a in observed)
        sample_arms(policy, prepared, contexts, np.random.default_rng(12))
        prepared = policy.advance(prepared, arms, rewards, contexts)
    anew = prepare(
        policy, statistic + policy.statistic.from_observations(problem, *observed), problem
    )
    contexts = np.stack([contexts_of(5, seed) for seed in range(3)])
    assert np.allclose(
        policy.propensities(prepared, contexts),
        policy.propensities(anew, contexts),
        rtol=0,
        atol=1e-9,
    )


@every_policy
@every_wave
def test_a_million_times_the_data_neither_overflows_nor_underflows(name, upcoming):
    problem = problem_of(name)
    arms, rewards, contexts, weights = observations(problem, 1000, seed=13)
    statistic = make(name).statistic.from_observations(
        problem, arms, rewards, contexts, weights * 1e6
    )
    rows = probabilities(name, statistic, problem, upcoming=upcoming)
    assert np.all(np.isfinite(rows))
    assert rows.min() >= 0
    assert np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-9)


@every_policy
def test_stored_statistic_chooses_as_before(name):
    problem = problem_of(name)
    statistic = known_of(name, problem)
    family = make(name).statistic
    again = statistics.load(family, statistics.dump(statistic))
    assert np.array_equal(
        probabilities(name, statistic, problem), probabilities(name, again, problem)
    )


@every_policy
def test_parameters_go_to_json_and_back(name):
    policy = make(name)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=type(policy)) == policy


@every_invertible
def test_subtraction_undoes_addition(name):
    problem = problem_of(name)
    before = known_of(name, problem, seed=14)
    more = known_of(name, problem, seed=15)
    after = before + more - more
    for old, new in zip(fields_of(before), fields_of(after), strict=True):
        assert np.allclose(old, new, rtol=0, atol=1e-9)
    assert np.allclose(
        probabilities(name, before, problem),
        probabilities(name, after, problem),
        rtol=0,
        atol=1e-9,
    )


@every_invertible
def test_statistic_with_everything_subtracted_chooses_as_an_empty_one(name):
    family = make(name).statistic
    problem = problem_of(name)
    parts = [known_of(name, problem, n=100, seed=seed) for seed in range(5)]
    total = family.zeros(problem)
    for part in parts:
        total = total + part
    for part in parts:
        total = total - part
    rows = probabilities(name, total, problem)
    nothing = probabilities(name, family.zeros(problem), problem)
    assert np.allclose(rows, nothing, rtol=0, atol=1e-6)


@every_policy
@every_wave
def test_arguments_are_never_written_to(name, upcoming):
    problem = problem_of(name)
    policy = make(name)
    statistic = known_of(name, problem, lead=(2,))
    contexts = np.stack([contexts_of(4), contexts_of(4, seed=16)])
    for array in (*fields_of(statistic), contexts, problem.arms, problem.slot_levels):
        array.flags.writeable = False
    prepared = prepare(policy, statistic, problem, upcoming)
    policy.propensities(prepared, contexts)
    sample_arms(policy, prepared, contexts, np.random.default_rng(17))


@every_policy
def test_prepare_depends_on_the_seed_alone(name):
    problem = problem_of(name)
    statistic = known_of(name, problem)
    assert np.array_equal(
        probabilities(name, statistic, problem), probabilities(name, statistic, problem)
    )


@every_policy
def test_pending_decisions_never_break_a_policy(name):
    problem = problem_of(name)
    family = make(name).statistic
    arms, _, contexts, weights = observations(problem, 40, seed=18)
    waiting = family.from_pending(problem, arms, contexts, weights)
    for statistic in (waiting, waiting + known_of(name, problem)):
        for upcoming in (1, 100):
            rows = probabilities(name, statistic, problem, upcoming=upcoming)
            assert np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-12)


def fields_of(statistic):
    return [getattr(statistic, field) for field in statistic.__slots__]


def fits(counts, expected):
    """Whether counts of arms may come from these probabilities, by Pearson's chi-square test."""
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    if possible.sum() == 1:
        return True
    n = counts.sum()
    statistic = ((counts - n * expected)[possible] ** 2 / (n * expected[possible])).sum()
    return stats.chi2.sf(statistic, possible.sum() - 1) > FALSE_ALARM
