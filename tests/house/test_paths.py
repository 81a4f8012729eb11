"""The paths that every email goes through stay short."""

import runpy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

CHOOSE_CALLS = 70
CHOOSE_FILES = 20
FOLD_CALLS = 900

paths = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("paths.py"))))


@pytest.fixture(scope="module")
def recordings():
    return paths.recordings()


def test_choose_runs_through_few_functions_and_files(recordings) -> None:
    calls, files = len(recordings["choose"].calls), len(recordings["choose"].files)
    assert calls <= CHOOSE_CALLS
    assert files <= CHOOSE_FILES


def test_fold_runs_through_few_functions(recordings) -> None:
    calls = len(recordings["fold"].calls)
    assert calls <= FOLD_CALLS


@pytest.mark.parametrize(
    "title", ["fold", "fold of late rewards", "fold of closed windows", "first fold, of due"]
)
def test_fold_measures_the_reward_of_each_set_of_rows_once(recordings, title: str) -> None:
    record = recordings[title]
    assert record.measured_rows  # else a method of another name would pass
    assert record.measured_again == 0


def test_recording_counts_functions_and_generators_of_ours(recordings) -> None:
    names = [call.name for call in recordings["fold"].calls]
    assert "RewardRule.measure" in names
    assert any("<genexpr>" in name for name in names)
    for record in recordings.values():
        depths = [call.depth for call in record.calls]
        assert depths[0] == 0
        assert all(below <= above + 1 for above, below in pairwise(depths))  # as in a tree
        assert {file.split("/")[0] for file in record.files} <= set(paths.PACKAGES)


def test_trace_writes_every_call() -> None:
    names = {"a": 0, "b": 1, "c": 2, "d": 1, "e": 1}
    record = paths.Recording("path", [paths.Call("x.py", n, names[n]) for n in "abcbcdedee"])
    assert paths.trace(record).splitlines() == [
        "path: 10 calls in 1 files",
        "a  x.py",
        "  b  x.py  × 2",
        "    c  x.py",
        "  d  x.py  × 2",
        "  e  x.py  × 2",
        "  e  x.py",
    ]
