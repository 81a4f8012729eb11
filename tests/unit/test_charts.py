"""The charts of an experiment's page."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from plotly.graph_objects import Figure

from bandits.results import HistoryPoint
from webapp.charts import (
    HUES,
    MAX_BANDS,
    _spread_labels,
    arm_styles,
    average_rewards,
    reward_figure,
    send_shares,
    share_figure,
)

START = datetime(2026, 11, 22, tzinfo=UTC)


def point(i, sent, complete=None, reward=None):
    none = [0] * len(sent)
    return HistoryPoint(i, START + timedelta(hours=i), sent, complete or none, reward or none)


def test_an_arm_keeps_its_look_and_the_control_is_grey():
    styles = arm_styles([f"arm {i}" for i in range(30)], control=2)
    assert styles[2].hue is None
    others = [style for i, style in enumerate(styles) if i != 2]
    assert [style.hue for style in others[:7]] == list(range(len(HUES)))
    seen = {(style.hue, style.pattern) for style in others[:28]}
    assert len(seen) == 28, "colour and pattern together tell 28 arms apart"
    assert arm_styles(["a", "b"], control=0)[1] == arm_styles(["x", "b", "c"], control=0)[1]


def test_share_chart_shows_each_stretch_and_leaves_idle_ones_out():
    history = [point(0, [10, 10]), point(1, [10, 10]), point(2, [40, 20]), point(3, [39, 30])]
    stretches = send_shares(history)
    assert [t.hour for t in stretches.times] == [0, 2, 3]
    assert stretches.shares.tolist() == [[0.5, 0.5], [0.75, 0.25], [0.0, 1.0]]


def test_an_arm_that_joined_later_had_no_share_before():
    stretches = send_shares([point(0, [10]), point(1, [10, 30])])
    assert stretches.shares.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_reward_chart_averages_need_enough_results():
    means = average_rewards(
        [point(0, [9, 9], [29, 30], [29, 15]), point(1, [9, 9], [40, 60], [10, 15])]
    )
    assert np.isnan(means[0, 0])
    assert means[0, 1] == 0.5
    assert means[1].tolist() == [0.25, 0.25]


def test_share_chart_of_many_arms_has_a_few_bands_and_the_rest():
    n = 60
    rng = np.random.default_rng(1)
    total = rng.integers(1, 1000, (5, n)).cumsum(axis=0)
    history = [point(i, row.tolist()) for i, row in enumerate(total)]
    figure = share_figure(history, arm_styles([f"arm {i}" for i in range(n)], control=0))
    assert len(figure["data"]) == MAX_BANDS
    assert figure["data"][-1]["meta"] == "49 others"
    sums = np.sum([trace["y"] for trace in figure["data"]], axis=0)
    assert sums == pytest.approx(np.ones(5), abs=1e-4)


def test_chart_labels_do_not_overlap_and_stay_where_there_is_room():
    values = np.array([0.10, 0.101, 0.5, 0.102])
    moved = _spread_labels(values, gap=0.05)
    assert np.diff(np.sort(moved)).min() >= 0.05 - 1e-12
    assert np.argsort(moved).tolist() == np.argsort(values).tolist()
    assert moved[2] == 0.5
    assert moved[[0, 1, 3]].mean() == pytest.approx(values[[0, 1, 3]].mean())


@pytest.mark.parametrize("n_points", [0, 1, 3])
def test_figures_are_what_plotly_understands_at_any_age(n_points):
    history = [point(i, [50, 50], [40, 40], [4.0, -8.0]) for i in range(n_points)]
    arms = arm_styles(["<b>A</b> & co", "B"], control=0)
    for figure in (share_figure(history, arms), reward_figure(history, arms, is_rate=False)):
        Figure({**figure, "data": [dict(trace) for trace in figure["data"]]})
        for trace in figure["data"]:
            assert "<" not in trace["name"]
    if n_points:
        low, high = reward_figure(history, arms, is_rate=False)["layout"]["yaxis"]["range"]
        assert low < -0.2, "every line is in sight"
        assert high > 0.1


def test_reward_chart_axis_is_not_stretched_by_early_noise():
    early = [point(i, [40], [30], [30.0]) for i in range(2)]
    late = [point(i, [9000], [9000], [900.0]) for i in range(2, 8)]
    figure = reward_figure([*early, *late], arm_styles(["A"], control=0), is_rate=True)
    assert figure["layout"]["yaxis"]["range"] == [0.0, pytest.approx(0.12)]
