"""Logs of other programs are read as rounds, or refused by file, column and row."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.errors import InvalidInput
from simulations import LogFileColumns, evaluate, read_log

COLUMNS = LogFileColumns("sent", "won", "p")
TABLE = """sent,won,p,age,kind,at,pa,pb
a,1,0.4,20,x,3,0.4,0.6
b,0,0.6,40,y,1,0.4,0.6
a,0,0.4,30,,2,0.4,0.6
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="log.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to_file


def test_read_log_of_a_table_by_column_names(write):
    columns = LogFileColumns("sent", "won", "p", ("age", "kind"), "at", ("pa", "pb"))
    rounds = read_log(write(TABLE), columns)
    assert rounds.names == ("a", "b")
    assert rounds.arms.tolist() == [1, 0, 0]  # by time
    assert rounds.times.tolist() == [1, 2, 3]
    assert rounds.contexts.tolist() == [[1.0, 0.0, 1.0], [0.5, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert rounds.probabilities.tolist() == [[0.4, 0.6]] * 3
    assert (rounds.low, rounds.high) == (0, 1)
    assert read_log(write(TABLE), COLUMNS, low=-1, high=3).high == 3


def test_read_log_of_parquet_is_that_of_csv(write, tmp_path):
    rows = {"sent": ["a", "b"], "won": [True, False], "p": [0.4, 0.6]}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    rounds = read_log(tmp_path / "log.parquet", COLUMNS)
    other = read_log(write("sent,won,p\na,1,0.4\nb,0,0.6\n"), COLUMNS)
    for name in ("arms", "rewards", "propensities"):
        np.testing.assert_array_equal(getattr(rounds, name), getattr(other, name))


def test_read_log_counts_arms_that_were_not_sent(write):
    columns = LogFileColumns("sent", "won", "p", names=("c", "b", "a"))
    rounds = read_log(write(TABLE), columns)
    assert (rounds.n_arms, rounds.arms.tolist()) == (3, [2, 1, 2])
    with pytest.raises(InvalidInput, match=r"/arms: 'b' is not among the arms' names"):
        read_log(write(TABLE), LogFileColumns("sent", "won", "p", names=("c", "a")))


@pytest.mark.parametrize(
    ("text", "columns", "detail"),
    [
        (TABLE, LogFileColumns("arm", "won", "p"), "has no column 'arm'; it has sent, won"),
        (TABLE, LogFileColumns("sent", "kind", "p"), "column 'kind' is not one of numbers"),
        (TABLE, LogFileColumns("sent", "won", "p", probabilities=("pa",)), "1 columns for 2 arms"),
        ("sent,won,p\na,,0.5\nb,1,0.5\n", COLUMNS, "column 'won', row 0: is empty"),
        ("sent,won,p\na,1,1.5\n", COLUMNS, r"/propensities: row 0: 1.5 is not in \(0, 1\]"),
        ("sent,won,p\n", COLUMNS, "has a header and no rows"),
        ("", COLUMNS, "cannot read"),
        ("sent,won,p\na,1\n", COLUMNS, "cannot read"),
        (TABLE, None, "name its columns"),
    ],
)
def test_read_log_names_what_does_not_fit(write, text, columns, detail):
    with pytest.raises(InvalidInput, match=detail):
        read_log(write(text), columns)


def test_read_log_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot read"):
        read_log(tmp_path / "nowhere.parquet")
    with pytest.raises(InvalidInput, match=r"cannot read"):
        read_log(tmp_path / "nowhere.json")


OBD = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0\n"
    "0,2019-11-24 00:00:34+00:00,2,3,0,0.5,x\n1,2019-11-24 00:00:53+00:00,0,1,1,0.25,y\n"
)


def test_read_log_of_the_open_bandit_dataset_has_all_its_items(write):
    rounds = read_log(write(OBD, "all.csv"))
    assert (rounds.n_arms, rounds.arms.tolist(), rounds.rewards.tolist()) == (3, [2, 0], [0, 1])
    assert rounds.propensities.tolist() == [0.5, 0.25]
    write("item_id,item_feature_0\n" + "".join(f"{i},0.1\n" for i in range(5)), "item_context.csv")
    assert read_log(write(OBD, "all.csv")).n_arms == 5


def vw_line(arm, cost, probability, **others):
    return json.dumps(
        {
            "_label_cost": cost,
            "_label_probability": probability,
            "_label_Action": arm,
            "_labelIndex": arm - 1,
            "a": [arm, *(k for k in (1, 2, 3) if k != arm)],
            "c": {"User": {"age": 30, "device": "phone"}, "_multi": [{}, {}, {}]},
            **others,
        }
    )


def test_read_log_of_vw_turns_costs_into_rewards(write):
    lines = [
        vw_line(2, -1.0, 0.8, p=[0.8, 0.1, 0.1]),
        '{"RewardValue": null, "EventId": "observation"}',
        vw_line(3, 0.0, 0.1, p=[0.1, 0.1, 0.8]),
    ]
    rounds = read_log(write("\n".join(lines), "log.json"))
    assert rounds.arms.tolist() == [1, 2]
    assert rounds.rewards.tolist() == [1, 0]
    np.testing.assert_allclose(rounds.probabilities, [[0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    assert rounds.names == ("1", "2", "3")
    assert rounds.contexts.tolist() == [[30.0, 1.0]] * 2


def test_read_log_of_vw_knows_how_many_actions_each_line_has(write):
    without = {"_labelIndex": 0, "_label_cost": 0, "_label_probability": 0.5}
    lines = [
        json.dumps(without | {"_multi": [{}, {}], "S": {"hour": 3}}),
        json.dumps(without | {"_multi": [{}, {}, {}], "S": {"hour": 4}}),
    ]
    rounds = read_log(write("\n".join(lines), "log.jsonl"))
    assert rounds.eligible.tolist() == [[True, True, False], [True, True, True]]
    assert rounds.contexts.tolist() == [[3.0], [4.0]]
    assert rounds.probabilities is None


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("not json", "line 1: is no JSON"),
        ("{}", "has no line with a _label_cost"),
        ('{"_label_cost": 1, "_label_probability": 0.5}', "has no _labelIndex"),
    ],
)
def test_read_log_of_vw_names_what_does_not_fit(write, text, detail):
    with pytest.raises(InvalidInput, match=detail):
        read_log(write(text, "log.json"))


def test_read_log_then_evaluate_says_that_bounds_come_from_the_log(write):
    rng = np.random.default_rng(0)
    arms = rng.integers(0, 2, 500)
    body = "".join(f"{'ab'[k]},{int(rng.random() < 0.3)},0.5\n" for k in arms)
    shown = evaluate(read_log(write("sent,won,p\n" + body), COLUMNS), [0.3, 0.7], resamples=50)
    assert shown.diagnostics.support is None
    assert any("bounds of weights are taken from" in warning for warning in shown.warnings)
    assert shown["dr"].low < 0.3 < shown["dr"].high
