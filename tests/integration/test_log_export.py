"""A campaign's log leaves the database whole, and tells of the campaign what its results tell."""

import json
import sys

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sqlalchemy import update

from bandits.engine import Engine
from bandits.errors import InvalidInput, NotFound
from bandits.schemas import Request
from simulations.evaluation.evaluation import evaluate
from simulations.evaluation.targets import LoggedPolicy
from simulations.log_reader import read_log
from storage.commands import log
from storage.log.export import METADATA, export_log
from storage.schema import decisions
from storage.snapshots import observations
from tests.campaigns import PERSONAL, TASTES, CampaignMaker, Clock, by_variant

RATES = by_variant(a=0.2, b=0.3, c=0.25)


@pytest.fixture
def maker(store):
    clock = Clock()
    return CampaignMaker(Engine(store, clock), clock)


@pytest.fixture
def personal(maker):
    """A campaign that decides by recipient, with a control group and restricted requests."""
    key = maker.make("personal", 2, days_ago=4, holdout=0.1, **PERSONAL)
    maker.days(key, 3, 120, TASTES, "xy")
    requests = [
        Request(f"only-a-{i}", {"channel": "x"}, eligible={"subject_line": ["a"]})
        for i in range(20)
    ]
    maker.engine.choose(key, requests)
    maker.days(key, 1, 40, TASTES, "xy")
    return key


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_round_trip_has_the_results_of_the_campaign(store, maker, tmp_path, ending):
    key = maker.make("spring", 3, days_ago=6)
    maker.days(key, 5, 100, RATES)
    path = tmp_path / f"log.{ending}"
    assert export_log(store, key, path) == 500
    rounds = read_log(path)
    arms = maker.engine.results(key).arms
    complete = sum(arm.complete for arm in arms)
    assert rounds.n == complete == 500
    own = evaluate(rounds, LoggedPolicy(), resamples=50)
    mean = sum(arm.reward for arm in arms) / complete
    for name in ("ipw", "snipw"):
        assert own[name].value == pytest.approx(mean, abs=1e-12)
    for number, arm in enumerate(arms):
        of_arm = rounds.arms == number
        assert np.count_nonzero(of_arm) == arm.complete
        assert rounds.rewards[of_arm].sum() == pytest.approx(arm.reward)
    assert rounds.probabilities is not None
    assert len(np.unique(rounds.probabilities, axis=0)) >= 4  # a row of its own after each fold
    assert own.diagnostics.mean_weight == pytest.approx(1.0)


def test_export_in_both_formats_is_the_same_log(store, maker, personal, tmp_path):
    for ending in ("parquet", "csv"):
        export_log(store, personal, tmp_path / f"log.{ending}")
    one, other = (read_log(tmp_path / f"log.{ending}") for ending in ("parquet", "csv"))
    for name in one.__struct_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_allclose(left, right, rtol=0, atol=1e-9, err_msg=name)
        else:
            assert left == right, name


def test_export_of_a_personal_campaign_has_context_eligibility_and_control_group(
    store, maker, personal, tmp_path
):
    path = tmp_path / "log.parquet"
    export_log(store, personal, path)
    table = pq.read_table(path)
    assert set(table["context.channel"].to_pylist()) == {"x", "y"}
    restricted = [row == [True, False] for row in table["eligible"].to_pylist()]
    assert sum(restricted) == 20
    holdout = table["holdout"].to_pylist()
    assert 0 < sum(holdout) < 150
    missing = [row is None for row in table["probabilities"].to_pylist()]
    assert missing == holdout
    rounds = read_log(path)
    assert rounds.n + sum(holdout) == table.num_rows == 420
    assert f"{sum(holdout)} emails were held out" in " ".join(rounds.notes)
    assert rounds.contexts.shape == (rounds.n, 2)
    assert np.array_equal(rounds.contexts.sum(axis=1), np.ones(rounds.n))
    only_a = ~rounds.eligible[:, 1]
    assert np.array_equal(rounds.probabilities[only_a], np.tile([1.0, 0.0], (only_a.sum(), 1)))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_after_an_erasure_says_which_probabilities_are_known(
    store, maker, personal, tmp_path, ending
):
    """An erasure empties the snapshots that knew of the recipient, and nothing sums these again."""
    before = tmp_path / f"before.{ending}"
    export_log(store, personal, before)
    assert read_log(before).probabilities is not None
    for i in range(8):  # nothing is learned of the tenth part that is held out
        maker.engine.erase(f"recipient-{i}", by="anna@shop.example")
    maker.send(personal, 30, TASTES, "xy")
    maker.clock.now += 100
    maker.engine.learn(personal)
    after = tmp_path / f"after.{ending}"
    export_log(store, personal, after)
    whole, some = read_log(after, whole_rows=True), read_log(after)
    assert some.probabilities is None
    assert 0 < whole.n < some.n
    assert whole.probabilities.shape == (whole.n, 2)
    assert f"{some.n - whole.n} emails are left out: not every arm" in " ".join(whole.notes)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_export_keeps_names_that_look_like_numbers(store, maker, tmp_path, ending):
    variants = [{"key": key, "payload": {"text": key}} for key in ("1", "02")]
    key = maker.make(
        "numbers",
        days_ago=1,
        slots=[{"key": "subject_line", "kind": "subject_line", "variants": variants}],
        context=[{"name": "zone", "kind": "category", "values": ["01", "1"]}],
    )
    contexts = [{"zone": zone} for zone in ("01", "1", "7", "01")]
    maker.engine.choose(key, [Request(f"r{i}", contexts[i]) for i in range(4)])
    maker.clock.now += 100
    maker.engine.learn(key)
    path = tmp_path / f"log.{ending}"
    export_log(store, key, path)
    rounds = read_log(path)
    assert rounds.names == ("1", "02")
    assert sorted(rounds.contexts.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 0]]


def test_export_hashes_subjects_anew(store, maker, tmp_path):
    keys = ("spring", "autumn")
    for key in keys:
        maker.make(key, 2, days_ago=1)
        maker._sent = 0
        requests = [Request(f"recipient-{i}", None, decision_id=f"{key}-{i}") for i in range(50)]
        maker.engine.choose(key, requests)
        maker.clock.now += 100
        maker.engine.learn(key)
        export_log(store, key, tmp_path / f"{key}.parquet")
    hashes = [set(pq.read_table(tmp_path / f"{k}.parquet")["subject"].to_pylist()) for k in keys]
    assert [len(of_one) for of_one in hashes] == [50, 50]
    assert not hashes[0] & hashes[1]
    with store.database.reading() as transaction:
        stored = {bytes(row.subject) for row in transaction.execute(decisions.select())}
    for ending in keys:
        content = (tmp_path / f"{ending}.parquet").read_bytes()
        assert b"recipient-" not in content
        assert not any(
            subject in content or subject.hex().encode() in content for subject in stored
        )


def test_export_leaves_out_what_does_not_count(store, maker, tmp_path):
    key = maker.make("spring", 2, days_ago=1)
    sent = maker.send(key, 40, by_variant(a=0.5, b=0.5))
    maker.clock.now += 100
    maker.engine.learn(key)
    maker.engine.cancel([str(d.decision_id) for d in sent[:5]])
    maker.send(key, 10, by_variant(a=0.0, b=0.0))
    maker.engine.learn(key)
    maker.send(key, 7, by_variant(a=0.0, b=0.0))  # no fold has seen these
    path = tmp_path / "log.parquet"
    assert export_log(store, key, path) == 45
    table = pq.read_table(path)
    assert table["state"].to_pylist() == ["matured"] * 35 + ["pending"] * 10
    ids = set(table["decision_id"].to_pylist())
    assert not ids & {str(d.decision_id) for d in sent[:5]}
    assert read_log(path).n == 35
    assert read_log(path, states=["matured", "closed", "pending"]).n == 45
    with pytest.raises(InvalidInput, match=r"nothing in it has matured"):
        read_log(path, states=["closed"])


def test_export_in_small_portions_is_the_same(store, maker, personal, tmp_path, monkeypatch):
    export_log(store, personal, tmp_path / "one.parquet")
    monkeypatch.setattr(observations, "PORTION", 50)
    portions = []
    export_log(store, personal, tmp_path / "many.parquet", portions.append)
    assert len(portions) > 3
    one, many = (pq.read_table(tmp_path / f"{n}.parquet") for n in ("one", "many"))
    assert one.sort_by("decision_id").equals(many.sort_by("decision_id"))


def test_export_has_no_probabilities_that_do_not_give_the_logged_one(store, maker, tmp_path):
    key = maker.make("spring", 3, days_ago=2)
    maker.days(key, 1, 20, RATES)
    with store.database.writing() as transaction:
        one = decisions.c.id == "email-4"
        transaction.execute(update(decisions).where(one).values(propensity=0.123))
    export_log(store, key, tmp_path / "log.parquet")
    table = pq.read_table(tmp_path / "log.parquet")
    rows = zip(table["decision_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True)
    assert [i for i, row in rows if row is None] == ["email-4"]


def test_export_of_one_portion_is_in_the_order_of_sending(store, maker, tmp_path):
    """Emails that wait for their activation start their clocks in another order."""
    key = maker.make("spring", 2, days_ago=2, await_activation=True)
    first, second = (maker.send(key, 5, by_variant(a=0.0, b=0.0)) for _ in range(2))
    for sent in (second, first):
        maker.clock.now += 10
        maker.engine.activate([str(decision.decision_id) for decision in sent])
    maker.clock.now += 100
    maker.engine.learn(key)
    export_log(store, key, tmp_path / "log.parquet")
    ids = pq.read_table(tmp_path / "log.parquet")["decision_id"].to_pylist()
    assert ids == [f"email-{i}" for i in range(10)]


def test_export_describes_itself(store, maker, personal, tmp_path):
    path = tmp_path / "log.parquet"
    export_log(store, personal, path)
    described = json.loads(pq.read_schema(path).metadata[METADATA])
    assert (described["format"], described["arms"]) == (1, ["a", "b"])
    changed = described | {"format": 2}
    table = pq.read_table(path).replace_schema_metadata({METADATA: json.dumps(changed)})
    pq.write_table(table, path)
    with pytest.raises(InvalidInput, match=r"has format 2; this version of Bandits reads 1"):
        read_log(path)


def test_export_that_breaks_off_leaves_no_file(store, maker, tmp_path):
    key = maker.make("spring", 2, days_ago=1)
    maker.days(key, 1, 10, by_variant(a=0.5, b=0.5))

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_log(store, key, tmp_path / "log.parquet", stop)
    with pytest.raises(NotFound):
        export_log(store, "winter", tmp_path / "log.csv")
    for wrong in (tmp_path / "log.xlsx", tmp_path / "nowhere" / "log.csv"):
        with pytest.raises(InvalidInput):
            export_log(store, key, wrong)
    assert list(tmp_path.glob("log*")) == []


def test_export_command_writes_the_file_and_counts(store, maker, database_url, tmp_path):
    key = maker.make("spring", 2, days_ago=1)
    maker.days(key, 1, 30, by_variant(a=0.5, b=0.5))
    path = tmp_path / "log.csv"
    result = CliRunner().invoke(
        log, ["export", "--database", database_url, key, "--out", str(path)]
    )
    assert (result.exit_code, result.output) == (0, f"30 decisions are in {path}\n")
    assert msgspec.json.decode((tmp_path / "log.csv.json").read_bytes())["experiment"] == key
    assert sys.getsizeof(path.read_bytes()) > 30
