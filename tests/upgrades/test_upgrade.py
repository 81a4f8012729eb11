"""What a release stored, the code of today reads: same answers, same emails, the same learning.

Each folder here is a release: its databases, its uploads, and what it answered, all written by
`make_database.py` with the release's own code.
"""

import lzma
import re
import sqlite3
import sys
import tarfile
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from bandits.allocation import AllocationRule
from bandits.engine import Engine, fold
from storage.log.activations import MarkCall

HERE = Path(__file__).parent
RELEASES = sorted(path for path in HERE.iterdir() if (path / "expected.json.xz").exists())
CHANGED = (  # places of answers that are other ones on purpose
    "/gain/over_control_group",  # emails of one recipient count together,
    "/guarantees/randomised/",  # as its text says
    "/guarantees/overlap: more",  # which lifts are weighted by now,
    "/lift/reason: 'Not enough yet",  # so that either arm needs conversions
    "holdout,fallback,email,x",  # choices have the columns of the list, unless somebody says no
    "/signals: more",
    "/health/resummed: more",
    "/health/left_out: more",
    "/health/levels: more",
    "/health/lifts: more",
    "/events: more",
    "/interactions: more",
    "/verdict: more",
    "/statements: more",
    "/statements_reset: more",
    "/keep_control_group: more",
    "/lead/uncompared: more",
    "/lead/rivals",  # of those that are compared, which is at most
    "/lead/at_most",  # known then,
    "rates/results'}/1/lead/arm: 0 became 1",  # and leads where one version is not compared yet
    "/family/comparisons",  # arms that a counted decision could have got
    "_family/comparisons",
    "/guarantees/rate/conditions",  # worded by what requests narrow
    "/guarantees/lift/conditions",
    "/events: more",
    "/health/split/p_values",  # of a check that holds at every look
    "/health/split/level",
    "/health/split/alarmed",
    "/health/drift/",  # of each version by itself
    "/late_rewards/so_far: more",
    "/actor: more",
    "/derived_from: more",
    "/declaration/send_within_seconds: more",
    "/declaration/attribution: more",
    "/unattributed: more",
    "/message_ids: more",
    "/declaration/machine_rules: more",
    "/health/eligible_sets: more",
    "/health/voided: more",
    "/health/senders: more",
    "/refused: more",
    "/void: more",
    "/withdrawn: more",
    "/waiting: more",
    "/cancelled: more",
    "/latest: more",
    "/health/excluded_bounces: more",
    "/excludes_bounces: more",
    "/opted_out_at: more",
    "/other_spellings: more",
    "/former_id: more",
    "/not_derivable: 'what personal had learned at version",  # names another reason besides
    "no email to this recipient that it can count for",  # was: no email was chosen for it
    "/rows_per_minute: more",
    "/dry_run: more",
    "/guardrails: more",
    "/declaration/paused: more",
    "/by: more",
    "/currency: more",
    "/weight_by: more",
    "/weights: more",
)
NOT_OURS = {"alembic_version", "sqlite_sequence"}

# Chances to be best have another prior since (ADR 41), and say so; there are as many as before.
REVISED = re.compile(
    r"/(chance_best|expected_loss): [-\d.e]+ became [-\d.e]+$"
    r"|/outlook/note: .Chances to be best take "
)


def imported(name: str) -> Any:
    """Import a module of this folder, which is no package."""
    spec = spec_from_file_location(f"upgrades_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


installation = imported("installation")
differences, filled_in = installation.differences, installation.filled_in


def load(release: Path, url: str) -> None:
    """Fill an empty database with a release's."""
    if url.startswith("sqlite"):
        content = lzma.decompress((release / "sqlite.db.xz").read_bytes())
        Path(url.removeprefix("sqlite:///")).write_bytes(content)
        return
    with psycopg.connect(url) as connection:
        connection.execute(lzma.decompress((release / "postgresql.sql.xz").read_bytes()))


class Upgraded:
    """A release's database after the upgrade, and what the release answered."""

    def __init__(self, release: Path, url: str, files: Path, clock: Any) -> None:
        self.url, self.files, self.clock = url, files, clock
        self.expected = msgspec.json.decode(
            lzma.decompress((release / "expected.json.xz").read_bytes())
        )

    def differences(self, part: str) -> list[str]:
        """Do every step of a part; list where the answers are not those of then, by mistake."""
        found: list[str] = []
        with installation.Installation(self.url, self.files, self.clock) as server:
            for step in self.expected[part]:
                self.clock.now = step["at"]
                answer = getattr(server, step["do"])(**step["with"])
                given = {k: v for k, v in step["with"].items() if k not in {"token", "password"}}
                place = f"{step['do']} {given}"[:200]
                compare = filled_in if step["do"] == "form" else differences
                found += [
                    d for d in compare(step["answer"], answer, place) if not REVISED.search(d)
                ]
        return [d for d in found if not any(place in d for place in CHANGED)]


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request) -> Path:
    return request.param


@pytest.fixture
def upgraded(release, empty_url, tmp_path, monkeypatch) -> Upgraded:
    load(release, empty_url)
    installation.command(empty_url, "db", "upgrade")
    with tarfile.open(release / "uploads.tar.xz") as archive:
        archive.extractall(tmp_path / "files", filter="data")
    clock = installation.Clock(0.0)
    monkeypatch.setattr(time, "time", clock)  # by which browsers' cookies grow old
    return Upgraded(release, empty_url, tmp_path / "files", clock)


def test_upgrade_leaves_what_was_learned_in_step_with_the_log(upgraded):
    assert installation.verify(upgraded.url) == upgraded.expected["verified"] != []


def test_upgrade_changes_no_answer(upgraded):
    assert upgraded.differences("reading") == []


def test_upgraded_database_goes_on_as_it_would_have(upgraded, monkeypatch):
    # By the rule of these releases; the newest shares what newcomers leave in another way.
    monkeypatch.setattr(fold, "NEWEST_RULE", AllocationRule.RENORMALIZED)
    # Its emails could be cancelled at any time; now they can for the time to send.
    monkeypatch.setattr(MarkCall, "_refusal", lambda *_: None)
    # Its files gave a row to its recipient's newest email, also where that was chosen later.
    match = Engine.match_subjects
    newest = lambda engine, key, names, _: match(engine, key, names, [None] * len(names))  # noqa: E731
    monkeypatch.setattr(Engine, "match_subjects", newest)
    assert upgraded.differences("going_on") == []
    assert len(installation.verify(upgraded.url)) > len(upgraded.expected["verified"])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("a,0.3333333333333333,b", True),
        ("a,0.33333334,b", False),
        ("b,0.33333333333333337,b", False),
    ],
)
def test_answers_are_compared_but_for_rounding_also_in_texts(found, expected):
    assert installation.alike("a,0.33333333333333337,b", found) is expected


def test_releases_are_there():
    assert RELEASES != []


def test_release_has_rows_in_each_of_its_tables(release, tmp_path):
    load(release, f"sqlite:///{tmp_path}/old.db")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = {name for (name,) in tables} - NOT_OURS
        filled = {n for n in names if connection.execute(f"SELECT 1 FROM {n}").fetchone()}  # noqa: S608
    connection.close()
    assert filled == names != set()


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {}),
        ({}, {"a": 1}),
        ([1, 2], [1]),
        ([1], [1, 2]),
        (0.1, 0.1 + 1e-9),
        (3.0, 3.0 + 1e-9),
        (0.5, None),
        (None, 0.0),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y"}]}),
    ],
)
def test_differences_are_found(expected, found):
    assert len(list(differences(expected, found))) == 1


def test_differences_by_rounding_are_none():
    assert list(differences({"a": [0.1, 0.0, 2]}, {"a": [0.1 + 1e-12, 1e-17, 2.0]})) == []


def test_filled_in_finds_what_is_lost_or_out_of_order():
    assert list(filled_in([200, ["a", "b"]], [200, ["a", "new", "b"]], "")) == []
    assert list(filled_in([200, ["a", "b"]], [200, ["b", "a"]], "")) == [": 'b' is lost"]
    assert list(filled_in([200, ["a", "a"]], [200, ["a"]], "")) == [": 'a' is lost"]
