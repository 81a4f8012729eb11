"""Results as files, and simulations on a cluster: what leaves the process, and what comes back."""

import pyarrow.csv
import pyarrow.parquet
import pytest
from distributed import LocalCluster

from bandits.errors import InvalidInput
from simulations import simulate
from simulations.environments import Bernoulli
from simulations.reporting.exports import FORMS, check_path, export
from simulations.running.parallel import SchedulerUnreachable
from simulations.scenario import load
from simulations.simulate import simulate_run

EMAILS = Bernoulli((0.1, 0.2))


@pytest.fixture(scope="module")
def played():
    scenario = load("two_waves")
    run = type(scenario.run)(horizon=2000, batches=2, replications=20, seed=1)
    return simulate_run(scenario.environment, scenario.policies, run), scenario


@pytest.mark.parametrize("form", [".html", ".parquet", ".csv", ".png"])
def test_a_result_is_written_in_the_form_that_its_name_asks_for(played, form, tmp_path):
    path = tmp_path / f"result{form}"
    export(path, *played)
    content = path.read_bytes()
    starts = {
        ".html": b"<!doctype html>",
        ".parquet": b"PAR1",
        ".csv": b'"policy"',
        ".png": b"\x89PNG",
    }
    assert content.startswith(starts[form])


def test_tables_that_are_written_are_the_replications(played, tmp_path):
    result, _ = played
    for form, read in ((".parquet", pyarrow.parquet.read_table), (".csv", pyarrow.csv.read_csv)):
        path = tmp_path / f"result{form}"
        export(path, *played)
        again = read(path)
        assert again.num_rows == result.replication_rows().num_rows
        assert again.column("regret").to_pylist() == pytest.approx(
            result.replication_rows().column("regret").to_pylist()
        )


def test_a_file_of_no_known_form_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InvalidInput, match=", ".join(FORMS)):
        check_path(tmp_path / "result.docx")


def test_a_folder_that_is_a_file_is_no_folder(played, tmp_path):
    (tmp_path / "result.csv").mkdir()
    with pytest.raises(InvalidInput, match="cannot write"):
        export(tmp_path / "result.csv", *played)


def test_a_cluster_gives_the_same_numbers():
    run = {"horizon": 300, "batches": 5, "replications": 300, "seed": 4}
    here = simulate(EMAILS, ["thompson", "ab_test"], **run)
    seen = []
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        host="127.0.0.1",
        protocol="tcp://",
    ) as cluster:
        there = simulate(
            EMAILS,
            ["thompson", "ab_test"],
            scheduler=cluster.scheduler_address,
            progress=seen.append,
            **run,
        )
    for one, other in zip(here.outcomes, there.outcomes, strict=True):
        assert (one.record.regret == other.record.regret).all()
    assert sum(seen) == 2 * 300 * 300


def test_a_scheduler_that_does_not_answer_is_an_error_at_once():
    with pytest.raises(SchedulerUnreachable):
        simulate(EMAILS, ["thompson"], horizon=10, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InvalidInput, match="tcp://host:port"):
        simulate(EMAILS, ["thompson"], horizon=10, scheduler="nonsense")
