"""`bandits evaluate` as a person types it, on exported logs and on tables of their own."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from bandits.cli import main
from bandits.engine import Engine
from simulations import evaluate, read_log
from storage import open_store
from storage.log.export import export_log
from tests.campaigns import CampaignMaker, Clock, by_variant


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
def exported(sqlite, tmp_path):
    """The log of a campaign of 600 emails, in a file."""
    url = sqlite.upgraded()
    store = open_store(url, spool_folder=tmp_path / "spool")
    clock = Clock()
    maker = CampaignMaker(Engine(store, clock), clock)
    key = maker.make("spring", 3, days_ago=4)
    maker.days(key, 3, 200, by_variant(a=0.2, b=0.4, c=0.3))
    path = tmp_path / "spring.parquet"
    export_log(store, key, path)
    store.close()
    sqlite.give_back(url)
    return path


@pytest.fixture
def table(tmp_path):
    """A table of two equally likely arms, the second twice as good."""
    rng = np.random.default_rng(0)
    arms = rng.integers(0, 2, 800)
    won = rng.random(800) < np.array([0.2, 0.4])[arms]
    lines = [f"{'ab'[k]},{int(w)},0.5" for k, w in zip(arms, won, strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["sent,won,p", *lines]) + "\n")
    return path


TABLE = ("--arm", "sent", "--reward", "won", "--propensity", "p")


def test_evaluate_shows_a_table_for_each_target(bandits, exported):
    targets = ("--as-sent", "--always", "b", "--without", "a", "--policy", "thompson")
    status, out, err = bandits("evaluate", exported, *targets, "--split", "a=0.5,b=0.25,c=0.25")
    assert (status, err) == (0, "")
    titles = ["as sent", "always b", "split a 0.5", "without a", "thompson, learned from the first"]
    assert [out.count(f"{title}") for title in titles] == [1] * 5
    assert out.count("betting") == 5
    rounds = read_log(exported)
    expected = evaluate(rounds, [0.5, 0.25, 0.25])
    assert f"{expected['dr'].value:.5f}" in out


def test_evaluate_json_is_all_of_the_output_and_depends_on_the_seed_alone(bandits, exported):
    arguments = ("evaluate", exported, "--always", "b", "--json", "--estimator", "snipw")
    status, out, err = bandits(*arguments)
    assert (status, err) == (0, "")
    (shown,) = json.loads(out)
    assert [estimate["name"] for estimate in shown["estimates"]] == ["snipw"]
    assert bandits(*arguments)[1] == out
    assert bandits(*arguments, "--seed", 1)[1] != out


def test_evaluate_writes_a_report(bandits, exported, tmp_path):
    for ending in ("html", "json"):
        path = tmp_path / f"report.{ending}"
        assert bandits("evaluate", exported, "--always", "b", "--report", path)[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "<h2>always b</h2>" in page
    assert page.count("<tr>") == 8
    (shown,) = json.loads((tmp_path / "report.json").read_text())
    assert f"{shown['estimates'][0]['value']:.5f}" in page
    status, _, err = bandits("evaluate", exported, "--always", "b", "--report", "report.txt")
    assert (status, err) == (2, "error: report.txt: the name must end in .html or .json\n")


def test_evaluate_refuses_in_words_and_goes_on(bandits, exported):
    status, out, _ = bandits(
        "evaluate", exported, "--policy", "greedy_ridge", "--as-sent", "--first", "0.9"
    )
    assert status == 0
    text = " ".join(out.split())
    assert "No value is shown: the log has 60 rows, but says as much about this target as" in text
    assert "as sent estimator" in text


def test_evaluate_takes_a_table_by_its_columns(bandits, table):
    status, out, err = bandits("evaluate", table, *TABLE, "--always", "b", "--learning", "ucb1")
    assert (status, err) == (0, "")
    assert "ucb1, learning" in out
    assert "sequential_dr" in out
    assert "Note: the log has the probability of the sent arm alone" in out


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ((*TABLE,), "name what to evaluate: --policy"),
        ((*TABLE, "--always", "x"), "the log has no arm 'x'; it has a, b"),
        ((*TABLE, "--split", "a"), "'a' is not of the form ARM=SHARE"),
        ((*TABLE, "--split", "a=0.5"), "0.5 is the sum, which must be 1"),
        ((*TABLE, "--without", "a"), "needs the probability of every arm"),
        ((*TABLE, "--policy", "magic"), "magic"),
        ((*TABLE, "--high", "0.5", "--as-sent"), "is not in [0, 0.5], the declared range"),
        ((*TABLE, "--estimator", "magic", "--as-sent"), "'magic' is none of ipw"),
        (("--arm", "sent", "--as-sent"), "a table of your own needs --arm, --reward and"),
        (("--as-sent",), "name its columns"),
    ],
)
def test_evaluate_names_what_does_not_fit_in_one_line(bandits, table, arguments, detail):
    status, out, err = bandits("evaluate", table, *arguments)
    assert (status, out) == (2, "")
    assert detail in err
    assert err.count("\n") == 1


PAGE = (Path(__file__).parents[2] / "docs/simulations.md").read_text("utf-8")
CHAPTER = PAGE.partition("## Evaluate a policy on a log")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^bandits evaluate .*$", CHAPTER, re.MULTILINE)


def test_chapter_on_evaluation_shows_commands_that_run(bandits, exported, table, monkeypatch):
    monkeypatch.chdir(exported.parent)
    table.rename("log.csv")
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        status, out, err = bandits(*shlex.split(command)[1:])
        assert (status, err) == (0, ""), command
        assert out
    assert (exported.parent / "answer.html").exists()


def test_chapter_on_evaluation_shows_python_that_runs(capsys):
    (block,) = re.findall(r"^```python\n(.*?)^```", CHAPTER, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "docs/simulations.md", "exec"), names)  # noqa: S102 - our own page
    assert names["result"].refusal is None
    assert capsys.readouterr().out.count("reward per email") == 4
