"""`bandits replay` as a person types it, on good logs, bad logs and the real one."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bandits.cli import main

HILLSTROM = Path("../shared/data/hillstrom.csv")
needs_hillstrom = pytest.mark.skipif(
    not HILLSTROM.exists(), reason=f"replays the real customers in {HILLSTROM}"
)

HEADER = "age,kind,sent,clicked,p"
ROWS = ["31,Web,a,1,0.5", "22,Phone,b,0,0.5", "45,Web,a,0,0.5", "19,Web,b,1,0.5"] * 20


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
def log(tmp_path):
    """Write a log, and give the arguments that replay it."""

    def write(rows=ROWS, header=HEADER):
        path = tmp_path / "log.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return ["replay", path, "--arm", "sent", "--reward", "clicked", "--policy", "uniform"]

    return write


def test_a_replay_is_a_table_with_a_row_for_each_policy(bandits, log):
    status, out, err = bandits(*log(), "--policy", "thompson", "--policy", "linucb")
    assert (status, err) == (0, "")
    assert "80 rows" in out
    assert [line.split()[0] for line in out.splitlines()[2:5]] == ["uniform", "thompson", "linucb"]


def test_replay_json_is_all_of_the_output_and_depends_on_the_seed_alone(bandits, log):
    arguments = [*log(), "--json", "--context", "age,kind", "--policy", "linucb"]
    status, out, err = bandits(*arguments)
    assert (status, err) == (0, "")
    read = json.loads(out)
    assert read["arms"] == ["a", "b"]
    assert [policy["label"] for policy in read["policies"]] == ["uniform", "linucb"]
    assert read["policies"][0]["matched"] < 80
    _, again, _ = bandits(*arguments)
    assert json.loads(again)["policies"] == read["policies"]
    _, other, _ = bandits(*arguments, "--seed", 5)
    assert json.loads(other)["policies"] != read["policies"]


def altered(line, new):
    """The rows with the one on this line of the file replaced."""
    return [*ROWS[: line - 2], new, *ROWS[line - 1 :]]


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (altered(5, "31,Web,a,1"), [], "line 5: has 4 fields, the header has 5"),
        (altered(5, "31,Web,a,1,0.5,9"), [], "line 5: has 6 fields, the header has 5"),
        (altered(7, "31,Web,a,yes,0.5"), [], "line 7, column 'clicked': 'yes' is not a finite"),
        (altered(7, "31,Web,a,,0.5"), [], "line 7, column 'clicked': '' is not a finite number"),
        (altered(7, "31,Web,a,nan,0.5"), [], "line 7, column 'clicked': 'nan' is not a finite"),
        (altered(7, "31,Web,a,inf,0.5"), [], "line 7, column 'clicked': 'inf' is not a finite"),
        (altered(9, "31,Web,,1,0.5"), [], "line 9, column 'sent': is empty"),
        (altered(4, "x,Web,a,1,0.5"), ["--context", "age"], "line 4, column 'age': 'x' is not"),
        (altered(4, "nan,Web,a,1,0.5"), ["--context", "age"], "line 4, column 'age': 'nan'"),
        (altered(3, "22,Phone,b,0,0"), ["--propensity", "p"], "line 3, column 'p': '0' is not a"),
        (altered(3, "22,Phone,b,0,2"), ["--propensity", "p"], "line 3, column 'p': '2' is not a"),
        (altered(3, "22,Phone,b,7,.5"), ["--policy", "thompson"], "thompson takes rewards in"),
        (altered(3, '22,"Phone,b,7,.5'), [], "line 3: unexpected end of data"),
        ([f"1,k{i},a,1,.5" for i in range(101)], ["--context", "kind"], "101 different texts"),
        ([], [], "has a header and no rows"),
        (ROWS, ["--context", "shoe"], "no column 'shoe'; columns are age, kind, sent"),
        (ROWS, ["--propensity", "q"], "no column 'q'"),
        (ROWS, ["--context", "clicked"], "column 'clicked' is named twice"),
        (ROWS, ["--policy", "thomson"], "unknown policy 'thomson'"),
        (ROWS, ["--policy", "ab_test"], "unknown policy 'ab_test'"),
    ],
)
def test_a_bad_log_is_one_line_that_names_the_place(bandits, log, rows, options, expected):
    status, out, err = bandits(*log(rows), *options)
    assert (status, out) == (2, "")
    assert expected in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_file_that_is_missing_empty_or_no_text_is_refused(bandits, log, tmp_path):
    arguments = log()
    path = arguments[1]
    for content, expected in [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xff\xfe\x00a", "is not UTF-8 text"),
        (b"sent,sent,clicked\na,a,1\n", "2 columns are called 'sent'"),
    ]:
        path.write_bytes(content)
        status, _, err = bandits(*arguments)
        assert (status, err.count("\n")) == (2, 1)
        assert expected in err
    path.unlink()
    status, _, err = bandits(*arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert str(path) in err
    status, _, err = bandits("replay", tmp_path, *arguments[2:])
    assert (status, err.count("\n")) == (2, 1)


def test_a_spreadsheets_file_with_a_mark_and_windows_lines_is_read(bandits, log):
    arguments = log()
    text = "\r\n".join([HEADER, *ROWS, "", ""])
    arguments[1].write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert bandits(*arguments, "--context", "age")[0] == 0


def test_unequal_sending_without_propensities_is_warned_of(bandits, log):
    rows = [f"1,k,{arm},1,.5" for arm in "aaaab" * 40]
    status, out, err = bandits(*log(rows), "--json")
    assert status == 0
    assert json.loads(out)["rows"] == 200
    assert "not sent equally often" in err
    _, _, err = bandits(*log(rows), "--json", "--propensity", "p")
    assert err == ""


@pytest.fixture
def skewed_log(log):
    """Emails of which a was sent nine times in ten, and a's reward depends on how often.

    Regulars get a with probability .95 and others with .6; regulars click either email at .6,
    others at .2. Sent equally, both emails earn .4.
    """
    rng = np.random.default_rng(3)
    n = 40_000
    regular = rng.random(n) < 0.5
    p_of_a = np.where(regular, 0.95, 0.6)
    a = rng.random(n) < p_of_a
    clicked = rng.random(n) < np.where(regular, 0.6, 0.2)
    p = np.where(a, p_of_a, 1 - p_of_a)
    rows = [
        f"1,k,{'a' if sent else 'b'},{int(hit)},{chance:.2f}"
        for sent, hit, chance in zip(a, clicked, p, strict=True)
    ]
    return log(rows)


def test_propensities_undo_how_the_log_was_sent(bandits, skewed_log):
    """Bound: four standard errors, a false alarm in 16,000; without propensities it must fail."""
    _, out, _ = bandits(*skewed_log, "--json", "--propensity", "p")
    weighted = json.loads(out)["policies"][0]
    assert abs(weighted["reward_per_step"] - 0.4) < 4 * weighted["se"]
    _, out, _ = bandits(*skewed_log, "--json", "--policy", "thompson")
    naive = json.loads(out)["policies"][1]
    assert abs(naive["reward_per_step"] - 0.4) > 4 * naive["se"]


@needs_hillstrom
def test_replay_of_the_real_hillstrom_file_which_it_needs_agrees(bandits):
    status, out, _ = bandits(
        *("replay", HILLSTROM, "--arm", "segment", "--reward", "visit", "--json"),
        *("--context", "recency,history,mens,womens,zip_code,newbie,channel"),
        *("--policy", "uniform", "--policy", "ucb1", "--policy", "thompson", "--policy", "linucb"),
    )
    policies = {policy["label"]: policy for policy in json.loads(out)["policies"]}
    assert status == 0
    uniform = policies["uniform"]
    assert abs(uniform["reward_per_step"] - 0.1468) < 4 * uniform["se"]
    assert policies["thompson"]["reward_per_step"] > 0.170
    for name in ("ucb1", "linucb"):
        assert policies[name]["reward_per_step"] > 0.160
    for policy in policies.values():
        assert abs(policy["matched"] - 64_000 / 3) < 4 * (64_000 * 2 / 9) ** 0.5
        assert policy["se"] == pytest.approx((0.17 * 0.83 / policy["matched"]) ** 0.5, rel=0.1)
