import json
import re

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from simulations import simulate
from simulations.environments import Bernoulli, Hillstrom
from simulations.reporting.charts import COLOURS, line_figure, regret_curves, regret_spread, style
from simulations.reporting.exports import html_report
from simulations.reporting.result_tables import difference_rows

EMAILS = Bernoulli((0.2, 0.1, 0.3))
CONTESTANTS = ["thompson", "uniform", {"name": "ab_test", "params": {"share": 0.2}}]


@pytest.fixture(scope="module")
def result():
    return simulate(EMAILS, CONTESTANTS, horizon=600, batches=6, replications=40, seed=1)


def test_a_summary_is_that_of_the_replications(result):
    regret = result["uniform"].regret[:, -1]
    summary = result.outcomes[1].summary(0)
    assert summary.regret.mean == pytest.approx(regret.mean())
    assert summary.regret.se == pytest.approx(regret.std(ddof=1) / 40**0.5)
    assert summary.regret.p95 == pytest.approx(np.quantile(regret, 0.95))
    assert summary.curve[-1].decisions == 600
    assert summary.curve[-1].mean == pytest.approx(regret.mean())


def test_regret_and_reward_add_up_to_the_best_arms_reward(result):
    for outcome in result.outcomes:
        summary = outcome.summary(0)
        assert summary.regret.mean + summary.reward.mean == pytest.approx(0.3 * 600)


def test_unknown_label_is_a_key_error(result):
    with pytest.raises(KeyError):
        result["nobody"]


def test_tables_have_a_row_for_each_contestant_point_and_replication(result):
    assert result.table().column("policy").to_pylist() == [o.label for o in result.outcomes]
    points = sum(len(outcome.summary(0).curve) for outcome in result.outcomes)
    assert result.curves().num_rows == points
    assert result.replication_rows().num_rows == 3 * 40


def test_a_parquet_file_holds_every_replication(result, tmp_path):
    result.to_parquet(tmp_path / "result.parquet")
    read = pq.read_table(tmp_path / "result.parquet")
    assert read.equals(result.replication_rows())


def test_a_result_prints_as_a_table(result):
    lines = repr(result).splitlines()
    assert "40 replications of 600 decisions" in lines[0]
    assert lines[1].split()[:2] == ["policy", "regret"]
    assert any(line.startswith("ab_test share=0.2") for line in lines)
    assert "<td>ab_test share=0.2</td>" in result._repr_html_()


def test_labels_cannot_put_markup_into_a_page():
    label = "<script>alert(1)</script>"
    shown = simulate(
        EMAILS, [{"name": "uniform", "label": label}], horizon=10, batches=1, replications=2
    )
    assert label not in shown._repr_html_()
    assert label not in html_report(shown, title=label, about=label, source=label)


def test_a_contextual_policy_ships_no_single_arm():
    shown = simulate(Hillstrom(), ["linucb"], horizon=50, batches=2, replications=2)
    assert shown.outcomes[0].summary(0).wrong_winner is None
    assert shown.table().column("wrong_winner").to_pylist() == [None]
    assert "–" in repr(shown)


def test_a_figure_names_every_line_at_its_end(result):
    figure = regret_curves(result.outcomes)
    named = [annotation.text for annotation in figure.layout.annotations]
    assert sorted(named) == sorted(outcome.label for outcome in result.outcomes)
    heights = sorted(annotation.y for annotation in figure.layout.annotations)
    assert np.diff(heights).min() > 0
    assert not figure.layout.showlegend


def test_a_figures_lines_are_the_curves(result):
    lines = [trace for trace in regret_curves(result.outcomes).data if trace.name]
    for line, outcome in zip(lines, result.outcomes, strict=True):
        curve = outcome.summary(0).curve
        assert line.name == outcome.label
        np.testing.assert_allclose(line.y[1:], [point.mean for point in curve])
        assert (line.x[0], line.y[0]) == (0, 0)


def test_the_spread_shows_the_mean_inside_the_bars_of_its_row(result):
    dots = [trace for trace in regret_spread(result.outcomes).data if trace.mode == "markers"]
    assert [dot.x[0] for dot in dots] == pytest.approx(
        [outcome.record.regret[:, -1].mean() for outcome in result.outcomes]
    )


def test_chart_dashes_tell_lines_apart_where_colours_run_out():
    styles = {style(position) for position in range(2 * len(COLOURS))}
    assert len(styles) == 2 * len(COLOURS)


def test_a_report_needs_no_network(result):
    html = html_report(result, title="A question?")
    assert "Plotly.newPlot" in html
    loads = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=[^>]*>", html)
    assert loads == []
    assert "A question?" in html


def test_a_report_as_json_is_standard_json(result):
    packed = json.loads(msgspec.json.encode(result.report()))
    assert set(packed["policies"][0]) >= {"label", "regret", "reward", "wrong_winner", "curve"}
    assert set(packed["policies"][0]["regret"]) == {"mean", "se", "p95"}
    assert packed["steps_per_second"] > 0


def test_summary_of_one_replication_claims_no_standard_error_and_no_interval():
    one = simulate(Bernoulli((0.1, 0.3)), ["thompson", "uniform"], horizon=50, replications=1)
    read = json.loads(msgspec.json.encode(one.report()))
    assert [policy["regret"]["se"] for policy in read["policies"]] == [None, None]
    assert read["policies"][0]["curve"][-1]["se"] is None
    (difference,) = read["differences"]
    assert difference["low"] is difference["high"] is None
    assert difference["mean"] == pytest.approx(
        read["policies"][1]["regret"]["mean"] - read["policies"][0]["regret"]["mean"]
    )
    assert "nan" not in str(one)
    assert {row[2] for row in difference_rows(one.outcomes)} == {"–"}


def test_chart_of_one_line_is_drawn():
    from simulations.reporting.charts import ChartLine  # noqa: PLC0415 - only here

    zero = np.zeros(2)
    figure = line_figure(
        [ChartLine("only", np.arange(2), zero, zero, zero)], title="", x_title="", y_title=""
    )
    assert len(figure.data) == 2
