"""The page of policies and the regrets it shows."""

import numpy as np
import pytest

from bandits.registry import make, policies
from simulations import simulate
from simulations.policy_docs import (
    CAMPAIGNS,
    DocumentedCampaign,
    MeasuredRegret,
    RecipientKinds,
    measure_regrets,
    page,
    stored_regrets,
)


def test_every_policy_has_a_section_with_its_help_and_every_parameter_a_row():
    text = page({})
    for name, policy in policies().items():
        assert f"## {policy.label}" in text
        assert policy.__doc__.partition("\n")[0] in text
        for field in policy.__struct_fields__:
            assert f"| `{field}` |" in text.partition(f'<a id="{name}"></a>')[2]


def test_a_measured_regret_is_shown_and_an_unmeasured_one_is_left_out():
    text = page({"Two offers": {"thompson": MeasuredRegret(1021.4, 1.2)}})
    assert text.count("| Two offers | 1,021 ± 1 |") == 1
    assert text.count("| simulated campaign | regret |") == 1


def test_stored_regrets_are_of_every_campaign_and_policy(monkeypatch: pytest.MonkeyPatch, request):
    monkeypatch.chdir(request.config.rootpath)
    stored = stored_regrets()
    assert list(stored) == [campaign.title for campaign in CAMPAIGNS]
    for by_policy in stored.values():
        assert set(by_policy) == set(policies())


def regret_of(policy, rates):
    """Regret (R,) of 1,000 recipients of equally frequent kinds."""
    result = simulate(
        RecipientKinds(rates), [policy], horizon=1000, batches=4, replications=400, seed=11
    )
    return result.outcomes[0].record.regret[:, -1]


def test_an_equal_split_loses_the_average_gap():
    lost = regret_of("uniform", ((0.1, 0.3),))
    # 1,000 sends, each losing .2 with chance 1/2; 4.9 standard errors: a false alarm in a million.
    assert abs(lost.mean() - 100) < 4.9 * 0.1 * np.sqrt(1000 / 400)


def test_regret_counts_against_each_recipients_own_best_arm():
    lost = regret_of(make("uniform", {"weights": (1.0, 0.0)}), ((0.1, 0.3), (0.3, 0.1)))
    assert abs(lost.mean() - 100) < 4.9 * 0.1 * np.sqrt(1000 / 400)


def test_the_same_policy_loses_the_same_every_time():
    campaign = DocumentedCampaign("two", RecipientKinds(((0.1, 0.3),)), 150, 3)
    first, second = (measure_regrets(campaign, ["thompson", "lints"], 5) for _ in range(2))
    assert set(first) == {"thompson", "lints"}
    assert first == second


def test_there_are_three_campaigns_one_of_them_personal():
    assert len(CAMPAIGNS) == 3
    assert sum(campaign.environment.problem.n_features > 1 for campaign in CAMPAIGNS) == 1
