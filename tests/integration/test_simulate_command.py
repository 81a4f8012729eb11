"""`bandits simulate` as a person types it."""

import json
import sys

import pytest

from bandits.cli import main
from simulations.scenario import ready_scenarios

SCENARIO = """
question = "Which of two?"
[environment]
kind = "bernoulli"
means = [0.1, 0.2]
[run]
horizon = 200
batches = 10
replications = 300
seed = 7
[[policy]]
name = "thompson"
[[policy]]
name = "ab_test"
params = { share = 0.1 }
"""


@pytest.fixture
def bandits(monkeypatch, capsys):
    """Run the command line: exit status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bandits", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        shown = capsys.readouterr()
        return exit_.value.code or 0, shown.out, shown.err

    return run


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def numbers(output):
    """What must not change between runs: all but the time it took."""
    return json.loads(output)["policies"]


def test_a_scenario_is_answered_by_a_table(bandits, scenario):
    status, out, err = bandits("simulate", scenario)
    assert (status, err) == (0, "")
    assert "Which of two?" in out
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["thompson", "ab_test"]


def test_brackets_in_a_label_or_a_question_are_shown_as_they_are(bandits, scenario):
    named = SCENARIO.replace('"Which of two?"', '"[/why] [b]two[/b]?"')
    scenario.write_text(named.replace('"ab_test"', '"ab_test"\nlabel = "[/] [old] :test:"'))
    status, out, err = bandits("simulate", scenario)
    assert (status, err) == (0, "")
    assert "[/why] [b]two[/b]?" in out
    assert "[/] [old] :test:" in out


def test_simulate_json_is_all_of_standard_output(bandits, scenario):
    status, out, err = bandits("simulate", scenario, "--json")
    assert (status, err) == (0, "")
    read = json.loads(out)
    assert [policy["label"] for policy in read["policies"]] == ["thompson", "ab_test share=0.1"]
    for policy in read["policies"]:
        assert set(policy["regret"]) == {"mean", "se", "p95"}
        assert 0 <= policy["wrong_winner"]["mean"] <= 1
        assert policy["curve"][-1]["decisions"] == 200
    assert read["seconds"] > 0


def test_a_test_too_large_for_the_campaign_is_told_below_the_table(bandits, tmp_path):
    path = tmp_path / "scenario.toml"
    powered = '"fixed_horizon_test"\nparams = { rate = 0.2, lift = 0.01 }'
    test = SCENARIO[SCENARIO.index('"ab_test"') :]
    path.write_text(SCENARIO.replace(test, powered))
    status, out, err = bandits("simulate", path)
    assert (status, err) == (0, "")
    assert "decisions, the campaign has 200: it never ends, and ships nothing." in out
    _, out, _ = bandits("simulate", path, "--json")
    thompson, test = numbers(out)
    assert (thompson["needs"], test["needs"] > 50_000) == (None, True)
    assert (test["wrong_winner"], test["sends_to_decision"], test["decided"]) == (None, None, 0)
    report = tmp_path / "report.html"
    bandits("simulate", path, "--report", report)
    assert "the campaign has 200: it never ends" in report.read_text()


def test_seed_decides_the_numbers(bandits, scenario):
    _, one, _ = bandits("simulate", scenario, "--json")
    _, again, _ = bandits("simulate", scenario, "--json", "--seed", 7)
    _, other, _ = bandits("simulate", scenario, "--json", "--seed", 8)
    assert numbers(one) == numbers(again)
    assert numbers(one) != numbers(other)


def test_the_number_of_workers_changes_nothing(bandits, scenario):
    _, one, _ = bandits("simulate", scenario, "--json")
    _, two, _ = bandits("simulate", scenario, "--json", "--workers", 2)
    assert numbers(one) == numbers(two)


def test_a_report_is_written_with_its_figures_and_its_scenario(bandits, scenario, tmp_path):
    report = tmp_path / "out.html"
    status, _, _ = bandits("simulate", scenario, "--report", report)
    html = report.read_text("utf-8")
    assert status == 0
    assert html.count("Plotly.newPlot(") >= 2
    assert "means = [0.1, 0.2]" in html


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "share = 0.1",
            "share = 7",
            "error: /policy/1/params/share: must be a number of at most 1",
        ),
        ("means", "meens", "error: /environment/meens: unknown field; known are "),
        ("[run]", "[run", "error: not TOML"),
        ("[0.1, 0.2]", 2000 * "[" + 2000 * "]", "error: not a scenario: "),
    ],
)
def test_a_typo_is_one_line_and_exit_status_2(bandits, scenario, old, new, expected):
    scenario.write_text(SCENARIO.replace(old, new))
    status, out, err = bandits("simulate", scenario)
    assert (status, out) == (2, "")
    assert err.startswith(expected)
    assert err.count("\n") == 1


def test_a_missing_file_and_a_missing_folder_are_said_before_anything_runs(bandits, scenario):
    status, _, err = bandits("simulate", "nowhere.toml")
    assert (status, err.count("\n")) == (2, 1)
    status, _, err = bandits("simulate", scenario, "--report", "no/folder/out.html")
    assert (status, err) == (2, "error: cannot write no/folder/out.html: no folder 'no/folder'\n")


def test_a_file_that_is_not_text_is_refused(bandits, tmp_path):
    path = tmp_path / "image.toml"
    path.write_bytes(b"\xff\xfe\x00")
    status, _, err = bandits("simulate", path)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: cannot read")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(bandits, scenario):
    scenario.write_text(SCENARIO, "utf-8-sig")
    assert bandits("simulate", scenario)[0] == 0


def test_ready_scenarios_are_listed_and_run_by_name(bandits):
    status, out, _ = bandits("simulate", "--list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(ready_scenarios())
    status, out, _ = bandits("simulate", "two_waves", "--json", "--replications", 2)
    assert status == 0
    assert json.loads(out)["replications"] == 2
