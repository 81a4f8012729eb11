"""`bandits verify` finds log and statistics equal, and says where they are not."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import delete, func, select, update

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import fold
from bandits.engine.subject_data import erase_subject
from bandits.experiment import Experiment
from bandits.lifecycle import refused_changes
from bandits.statistics import dump
from bandits.store.values import DataQualityCounts
from storage.commands import verify
from storage.schema import batches, events, experiments, snapshots
from storage.snapshots.verify import VerifyReport
from tests.patience import LIMIT_SECONDS


@pytest.fixture
def learned(store, sender):
    """An experiment with something learned, pending, clicked and cancelled."""
    record = sender.start()
    ids = sender.choose(record, 30, at=1.0)
    sender.click(ids[:7], at=2.0)
    fold(store, "spring", now=20.0)
    store.log.cancel(ids[:2], at=21.0)
    sender.choose(record, 5, at=22.0)
    fold(store, "spring", now=23.0)
    return store.experiments.record("spring")


def run(url, *arguments):
    return CliRunner().invoke(verify, ["--database", url, *arguments])


def test_equal_log_and_statistics_are_told_and_exit_with_0(store, sender, learned, database_url):
    sender.start("autumn")
    result = run(database_url)
    assert result.exit_code == 0
    assert "spring, version 2" in result.output
    assert "autumn, version 0" in result.output
    assert "differs" not in result.output
    assert learned.learned_version == 2
    assert "autumn" not in run(database_url, "spring").output


def test_a_statistic_that_is_off_by_one_is_found_and_named(store, learned, database_url):
    statistic, _ = load_statistic(learned.configuration, store.snapshots.snapshot("spring", 2))
    count = statistic.count + np.array([0.0, 1.0, 0.0])
    wrong = type(statistic)(count, statistic.total, statistic.square, statistic.pending)
    with store.database.writing() as transaction:
        newest = update(snapshots).where(snapshots.c.version == 2)
        transaction.execute(newest.values(statistic=dump(wrong)))
    result = run(database_url)
    assert result.exit_code == 1
    assert f"statistic.count[1]: the log says {count[1] - 1}, stored is {count[1]}" in result.output
    assert result.output.count("differs") == 1


def test_a_row_lost_from_the_log_is_found(store, learned, database_url):
    assert learned
    with store.database.writing() as transaction:
        transaction.execute(delete(events))
    result = run(database_url, "spring")
    assert result.exit_code == 1
    for name in ("statistic.total", "statistic.square", "arm_counts.reward", "arm_counts.metrics"):
        assert f"{name}[" in result.output
    assert "statistic.count[" not in result.output


@pytest.mark.parametrize("name", DataQualityCounts.__struct_fields__)
@pytest.mark.parametrize("table", [experiments, batches], ids=["stored", "logged"])
def test_data_quality_count_off_by_one_is_found(  # noqa: PLR0913, PLR0917 - fixtures
    store, sender, learned, database_url, name, table
):
    store.log.append_decisions(learned, sender.chosen(2, mended=(3, 4, 5)), at=24.0)
    sender.click(sender.choose(learned, 2, at=24.0), at=2000.0, late=True, skewed=True)
    store.log.note_unkept({learned.id: 6}, {learned.id: 7}, at=2001.0)
    fold(store, "spring", now=3000.0)
    expected = DataQualityCounts(3, 4, 5, 0, 2, 2, 6, 7)
    assert store.experiments.record("spring").data_quality == expected
    assert run(database_url, "spring").exit_code == 0
    with store.database.writing() as transaction:
        newest = select(func.max(batches.c.id)).scalar_subquery()
        mine = table.c.id == newest if table is batches else table.c.key == "spring"
        transaction.execute(update(table).where(mine).values({name: table.c[name] + 1}))
    result = run(database_url, "spring")
    assert result.exit_code == 1
    assert f"data_quality.{name}[0]: the log says" in result.output
    assert result.output.count("differs") == 1


def test_data_quality_counts_outlive_their_rows(store, sender, database_url):
    record = sender.start()
    for at in (1.0, 2.0):
        chosen = sender.chosen(2, mended=(1, 0, 2), subjects=["ann", f"u-{at}"])
        store.log.append_decisions(record, chosen, at=at)
        sender.click(chosen.ids, at=at, skewed=True)
        fold(store, "spring", now=at)
    before = store.experiments.record("spring").data_quality
    for name in ("ann", "u-1.0"):
        assert erase_subject(store, name, now=3.0, by="test").decisions > 0
    with store.database.reading() as transaction:
        kinds = list(transaction.execute(select(batches.c.kind)).scalars())
    assert sorted(kinds) == ["choose", "reward"]  # the first two are gone
    assert (
        store.experiments.record("spring").data_quality
        == before
        == DataQualityCounts(2, 0, 4, 0, 0, 4)
    )
    assert run(database_url).exit_code == 0


def test_rewards_after_the_final_result_count_nowhere(store, sender, database_url):
    ids = sender.choose(sender.start(), 2, at=1.0)
    fold(store, "spring", now=20.0)
    store.experiments.move("spring", "stopped", allowed=["running"], at=30.0, by="test")
    sender.click(ids, at=5000.0, late=True)
    fold(store, "spring", now=6000.0)
    assert store.experiments.record("spring").data_quality == DataQualityCounts()
    assert run(database_url).exit_code == 0


def test_verify_as_a_program_prints_the_table_alone_on_standard_output(learned, database_url):
    assert learned
    script = "from bandits.cli import main; main()"
    command = [sys.executable, "-c", script, "verify", "--database", database_url]
    how = {"capture_output": True, "text": True, "timeout": LIMIT_SECONDS}
    ended = subprocess.run(command, check=False, **how)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "agrees" in ended.stdout
    wrong = subprocess.run([*command, "none"], check=False, **how)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: there is no experiment 'none'\n"


def compared(logged, stored):
    return VerifyReport("x", np.array(logged), np.array(stored))


def test_whole_numbers_must_be_equal_however_large():
    assert not compared([1e12, 3.0], [1e12, 3.0]).wrong.any()
    assert compared([1e12, 3.0], [1e12 + 1, 3.0]).wrong.tolist() == [True, False]
    assert compared([1e12, 3.0], [1e12, 4.0]).wrong.tolist() == [False, True]


def test_sums_may_differ_by_rounding_alone():
    assert not compared([0.1 + 0.2], [0.3]).wrong.any()
    assert not compared([1e9 + 0.25], [1e9 + 0.75]).wrong.any()
    assert compared([1.25], [1.25 + 1e-8]).wrong.all()
    assert compared([float("nan")], [1.0]).wrong.all()


def test_differences_name_their_place():
    found = compared([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [5.0, 4.0]]).differences()
    assert found == [("x[1, 0]", 3.0, 5.0)]


def test_a_penalty_that_changed_since_the_last_fold_is_no_difference(store, sender, database_url):
    policy = {"name": "logistic_thompson", "params": {"ridge": 0.1}}
    rule = {"metrics": {"click": {}}, "window_seconds": 1000.0, "maturity_seconds": 10.0}
    record = sender.start(policy=policy, reward=rule)
    sender.click(sender.choose(record, 30, at=1.0)[:4], at=2.0)
    fold(store, "spring", now=20.0)
    kept, _ = load_statistic(record.configuration, store.snapshots.snapshot("spring", 1))
    policy = {"name": "logistic_thompson", "params": {"ridge": 20.0}}
    edited = msgspec.convert(
        msgspec.to_builtins(record.configuration.experiment) | {"policy": policy}, Experiment
    )
    assert refused_changes(record.configuration.experiment, edited) == []
    later = record.configuration.next_version(edited, started=True)
    store.experiments.configure("spring", later, allowed=("running",), at=21.0, by="test")
    assert run(database_url).exit_code == 0
    sender.choose(store.experiments.record("spring"), 1, at=22.0)
    fold(store, "spring", now=40.0)
    fitted, _ = load_statistic(later, store.snapshots.snapshot("spring", 2))
    assert not np.allclose(fitted.shift, kept.shift, atol=0.1)
    assert run(database_url).exit_code == 0


def test_a_forgetting_experiment_verifies_at_its_reference_time(store, sender, database_url):
    forgetting = {"half_life_seconds": 7.0}
    record = sender.start(forgetting=forgetting)
    rng = np.random.default_rng(3)
    for at in range(30):
        ids = sender.choose(record, 10, at=at + 0.3, arms=rng.integers(0, 3, 10))
        sender.click(ids[:4], at=at + 0.5)
        fold(store, "spring", now=at + 0.7)
    snapshot = store.snapshots.snapshot(
        "spring", store.experiments.record("spring").learned_version
    )
    statistic, _ = load_statistic(record.configuration, snapshot)
    assert (statistic.count % 1 != 0).any()
    assert run(database_url).exit_code == 0
