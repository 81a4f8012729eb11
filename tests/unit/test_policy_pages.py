"""The page of policies and the regrets it shows."""

import numpy as np

from bandits.policy_pages import page
from bandits.policy_regrets import CAMPAIGNS, RegretCampaign, regrets
from bandits.registry import make, policies


def test_every_policy_has_a_section_with_its_help_and_every_parameter_a_row():
    made = page({})
    for name, policy in policies().items():
        assert f"## {policy.label}" in made
        assert policy.__doc__.partition("\n")[0] in made
        for field in policy.__struct_fields__:
            assert f"| `{field}` |" in made.partition(f'<a id="{name}"></a>')[2]


def test_a_measured_regret_is_shown_and_an_unmeasured_one_is_left_out():
    made = page({"Two offers": {"thompson": "21 ± 1"}})
    assert made.count("| Two offers | 21 ± 1 |") == 1
    assert made.count("| simulated campaign | regret |") == 1


def test_an_equal_split_loses_the_average_gap():
    campaign = RegretCampaign("two", np.array([[0.1, 0.3]]), 4, 250)
    lost = regrets(make("uniform"), campaign, 400)
    # 1,000 sends, each losing .2 with chance 1/2; 4.9 standard errors: a false alarm in a million.
    assert abs(lost.mean() - 100) < 4.9 * 0.1 * np.sqrt(1000 / 400)


def test_regret_counts_against_each_recipients_own_best_arm():
    campaign = RegretCampaign("own", np.array([[0.1, 0.3], [0.3, 0.1]]), 4, 250)
    first = regrets(make("uniform", {"weights": (1.0, 0.0)}), campaign, 400)
    assert abs(first.mean() - 100) < 4.9 * 0.1 * np.sqrt(1000 / 400)


def test_measured_regret_is_reproducible():
    campaign = RegretCampaign("two", np.array([[0.1, 0.3]]), 3, 50)
    once, again = (regrets(make("thompson"), campaign, 5) for _ in range(2))
    assert once.tolist() == again.tolist()


def test_measured_campaigns_are_three_one_of_them_personal():
    assert len(CAMPAIGNS) == 3
    assert sum(len(c.rates) > 1 for c in CAMPAIGNS) == 1
