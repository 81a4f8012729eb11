from pathlib import Path

import msgspec
import numpy as np
import pytest

from bandits.errors import InvalidInput
from simulations.environments import (
    KINDS,
    Bernoulli,
    Classification,
    DriftingRates,
    Gaussian,
    Hillstrom,
    Logistic,
    Orders,
    Slots,
)
from simulations.environments.hillstrom import estimate
from simulations.environments.hillstrom.environment import FEATURES

HILLSTROM = Path("../shared/data/hillstrom.csv")
needs_hillstrom = pytest.mark.skipif(
    not HILLSTROM.exists(), reason=f"looks at the real customers in {HILLSTROM}"
)

# Visit rates of Hillstrom's test by (mens, womens): none, mens', womens' email.
VISITS = {
    (0, 1): (0.0958, 0.1664, 0.1698),
    (1, 0): (0.0998, 0.1690, 0.1109),
    (1, 1): (0.1805, 0.3150, 0.2517),
}

EXAMPLES = [
    Bernoulli((0.1, 0.5, 0.9)),
    Hillstrom(),
    Hillstrom("conversion"),
    Gaussian((1.0, -2.0), sd=3.0),
    Gaussian((1.0, -2.0), sd=(0.5, 5.0)),
    Orders((0.02, 0.3), (50.0, 20.0), cap=200.0),
    Logistic.drawn(3, 4, seed=2),
    DriftingRates(((0.1, 0.2), (0.3, 0.1)), at=(10_000,)),
    DriftingRates(((0.1, 0.2), (0.3, 0.1)), at=(10_000,), smooth=True, every=15_000),
    Slots(((0.0, 0.2), (0.0, 0.3, -0.2)), interaction=0.1),
    Classification("digits"),
]


@pytest.mark.parametrize("environment", EXAMPLES, ids=repr)
def test_rewards_average_to_the_means_within_four_standard_errors(environment):
    rng = np.random.default_rng(1)
    n = 40_000
    rounds = environment.rounds(0, n, rng)
    means = np.broadcast_to(rounds.means, (n, environment.problem.n_arms))
    rewards = environment.reward(
        np.arange(means.shape[1]), means, environment.noise(n, rng)[:, None]
    )
    error = np.abs(rewards.mean(axis=0) - means.mean(axis=0))
    assert (error < 4 * rewards.std(axis=0) / np.sqrt(n)).all()


@pytest.mark.parametrize("environment", EXAMPLES, ids=repr)
def test_shared_luck_gives_the_same_rewards_as_all_potential_rewards(environment):
    means = np.random.default_rng(2).random((50, environment.problem.n_arms))
    noise = environment.noise(50, np.random.default_rng(3))
    potential = environment.reward(np.arange(means.shape[1]), means, noise[:, None])
    for arm in range(environment.problem.n_arms):
        np.testing.assert_array_equal(
            environment.reward(arm, means[:, arm], noise), potential[:, arm]
        )


@pytest.mark.parametrize("environment", EXAMPLES, ids=repr)
def test_rounds_have_the_shapes_of_the_problem(environment):
    problem = environment.problem
    rounds = environment.rounds(5, 7, np.random.default_rng(1))
    assert rounds.contexts.shape in {(7, problem.n_features), (1, problem.n_features)}
    assert rounds.means.shape in {(7, problem.n_arms), (1, problem.n_arms)}
    assert len(environment.arms) == problem.n_arms
    assert (rounds.contexts[:, 0] == 1).all()


@pytest.mark.parametrize("environment", EXAMPLES, ids=repr)
def test_an_environment_survives_being_written_down(environment):
    assert msgspec.convert(msgspec.to_builtins(environment), KINDS) == environment


@pytest.mark.parametrize("means", [(), (0.5, 1.1), (-0.1,), (float("nan"),)])
def test_rates_outside_the_unit_interval_are_refused(means):
    with pytest.raises(InvalidInput, match="/means"):
        Bernoulli(means)


def test_customers_like_hillstroms_prefer_emails_as_the_real_ones_did():
    rounds = Hillstrom().rounds(0, 200_000, np.random.default_rng(1))
    mens, womens = (rounds.contexts[:, FEATURES.index(name)] for name in ("mens", "womens"))
    for (m, w), visits in VISITS.items():
        kind = (mens == m) & (womens == w)
        np.testing.assert_allclose(rounds.means[kind].mean(axis=0), visits, atol=0.002)
    overall = rounds.means.mean(axis=0)
    np.testing.assert_allclose(overall, (0.10617, 0.18276, 0.15140), atol=0.001)


def test_customers_like_hillstroms_differ_in_their_best_email():
    means = Hillstrom().rounds(0, 20_000, np.random.default_rng(1)).means
    best = np.bincount(means.argmax(axis=1), minlength=3) / len(means)
    assert best[2] > 0.2
    assert best[1] > 0.5


def test_contexts_like_hillstroms_are_encoded_in_the_unit_interval():
    contexts = Hillstrom().rounds(0, 5000, np.random.default_rng(1)).contexts
    assert contexts.min() >= 0
    assert contexts.max() <= 1
    for name in ("zip_code", "channel"):
        columns = [i for i, feature in enumerate(FEATURES) if feature.startswith(name)]
        assert (contexts[:, columns].sum(axis=1) == 1).all()


@needs_hillstrom
def test_the_shipped_figures_are_those_that_the_real_hillstrom_file_gives_which_it_needs():
    shipped = Path(estimate.__file__).with_name("coefficients.py").read_text("utf-8")
    assert estimate.module(estimate.figures(estimate.Customers(HILLSTROM))) == shipped


@needs_hillstrom
def test_the_model_meets_the_real_hillstrom_customers_which_it_needs():
    real = estimate.Customers(HILLSTROM)
    rounds = Hillstrom().rounds(0, 200_000, np.random.default_rng(1))
    column = dict(zip(FEATURES, rounds.contexts.T, strict=True))
    assert abs(1 + 11 * column["recency"].mean() - real.recency.mean()) < 0.03
    spent = np.minimum(real.history, 1000)
    np.testing.assert_allclose(
        np.quantile(1000 * column["history"], [0.25, 0.5, 0.75, 0.9]),
        np.quantile(spent, [0.25, 0.5, 0.75, 0.9]),
        rtol=0.04,
    )
    for position, name in enumerate(("mens", "womens", "newbie")):
        assert abs(column[name].mean() - real.traits[:, position].mean()) < 0.006
    visits = real.metrics["visit"]
    for newbie in (0, 1):
        for arm in range(3):
            kind = (real.traits[:, 2] == newbie) & (real.arm == arm)
            modelled = rounds.means[column["newbie"] == newbie, arm].mean()
            assert abs(modelled - visits[kind].mean()) < 4 * visits[kind].std() / kind.sum() ** 0.5


def test_numpy_numbers_are_taken_as_numbers():
    means = np.array([0.1, 0.2])
    assert Bernoulli(means) == Bernoulli(tuple(means)) == Bernoulli([0.1, 0.2])
    assert DriftingRates([means, means], at=[np.int64(5)]) == DriftingRates(
        ((0.1, 0.2),) * 2, at=(5,)
    )


def test_a_drifting_world_jumps_where_it_is_told_and_begins_again():
    means = ((0.5, 0.3), (0.5, 0.9), (0.5, 0.4))
    drifting = DriftingRates(means, at=(3, 5), every=7)
    actual = drifting.rounds(0, 9, np.random.default_rng(1)).means
    assert actual[:, 1].tolist() == [0.3, 0.3, 0.3, 0.9, 0.9, 0.4, 0.4, 0.3, 0.3]
    later = drifting.rounds(4, 5, np.random.default_rng(1)).means
    np.testing.assert_array_equal(later, actual[4:])


def test_a_smooth_drift_goes_in_a_straight_line_and_then_stays():
    drifting = DriftingRates(((0.2,), (0.4,)), at=(4,), smooth=True)
    actual = drifting.rounds(0, 6, np.random.default_rng(1)).means[:, 0]
    np.testing.assert_allclose(actual, [0.2, 0.25, 0.3, 0.35, 0.4, 0.4])


def test_an_email_made_of_slots_adds_up_its_parts_in_log_odds():
    slots = Slots(((0.0, 0.2), (0.0, 0.3, -0.2)), rate=0.1)
    odds = np.log(slots.rates / (1 - slots.rates)) - np.log(0.1 / 0.9)
    levels = slots.problem.slot_levels
    np.testing.assert_allclose(
        odds, np.take([0, 0.2], levels[:, 0]) + np.take([0, 0.3, -0.2], levels[:, 1])
    )
    assert slots.arms == ("1·1", "1·2", "1·3", "2·1", "2·2", "2·3")


def test_a_table_is_gone_through_once_before_any_row_comes_again():
    digits = Classification("digits")
    world = digits.replicate(np.random.default_rng(1))
    size = 1797
    first, second = (world.rounds(start, size, np.random.default_rng(9)) for start in (0, size))
    for actual in (first, second):
        assert len(np.unique(actual.contexts, axis=0)) == len(np.unique(first.contexts, axis=0))
        assert (
            np.bincount(actual.means.argmax(axis=1)) == np.bincount(first.means.argmax(axis=1))
        ).all()
    assert (first.contexts != second.contexts).any()
    across = world.rounds(size - 3, 6, np.random.default_rng(9))
    np.testing.assert_array_equal(across.contexts[:3], first.contexts[-3:])
    np.testing.assert_array_equal(across.contexts[3:], second.contexts[:3])


def test_labelled_table_is_an_environment(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("size,colour,fruit\n1,red,apple\n9,red,melon\n5,green,melon\n")
    table = Classification(str(path), target="fruit")
    assert table.arms == ("apple", "melon")
    assert table.problem.n_features == 1 + 1 + 2
    assert Classification(str(path), target="fruit", features=("size",)).problem.n_features == 2


BAD = [
    (lambda: Gaussian((1.0, 2.0), sd=(1.0,)), "/sd"),
    (lambda: Gaussian((1.0,), sd=-1.0), "/sd"),
    (lambda: Gaussian((1.0,), low=3.0, high=2.0), "/high"),
    (lambda: Orders((0.1, 0.2), (5.0,)), "/values"),
    (lambda: Logistic(((1.0, 2.0), (1.0,))), "/coefficients/1"),
    (lambda: DriftingRates(((0.1,), (0.2,)), at=()), "/at"),
    (lambda: DriftingRates(((0.1,), (0.2,), (0.3,)), at=(5, 5)), "/at"),
    (lambda: DriftingRates(((0.1,), (0.2, 0.3)), at=(5,)), "/means/1"),
    (lambda: DriftingRates(((0.1,), (0.2,)), at=(5,), every=5), "/every"),
    (lambda: Slots(((0.0,) * 40, (0.0,) * 40)), "/effects"),
    (lambda: Classification("digit"), "/target"),
    (lambda: Classification("nowhere.csv", target="x"), "/table"),
]


@pytest.mark.parametrize(("make", "pointer"), BAD)
def test_a_world_that_cannot_be_is_refused_at_its_place(make, pointer):
    with pytest.raises(InvalidInput) as error:
        make()
    assert error.value.faults[0].pointer == pointer
