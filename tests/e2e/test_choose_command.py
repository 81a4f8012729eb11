"""`bandits choose`: a file of recipients in, a file of choices out, nobody decided for twice."""

import csv
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.patience import LIMIT_SECONDS, wait_until
from tests.workbooks import number, sheet, text, write_workbook
from webapp.api.experiments import EXAMPLE

BANDITS = Path(sys.executable).with_name("bandits")
PEOPLE = 30_000


class Sending:
    """The command, on a server with an experiment of its own."""

    def __init__(self, server, folder, key: str) -> None:
        self.server = server
        self.folder = folder
        self.key = key
        self.people = folder / "people.csv"
        with server.client() as api:
            declared = EXAMPLE | {"key": key, "holdout": 0.1}
            assert api.post("/api/v1/experiments", json=declared).status_code == 201
            assert api.post(f"/api/v1/experiments/{key}/start").status_code == 200

    def write(self, n: int) -> None:
        rows = (f"u-{i},{i % 24},{'Web' if i % 3 else 'Phone'}\n" for i in range(n))
        self.people.write_text("subject_id,recency,channel\n" + "".join(rows))

    def command(self, out: str, *more: str, token: str | None = None) -> list[str]:
        made = ["choose", str(self.people), "--experiment", self.key, "--url", self.server.url]
        made += ["--out", str(self.folder / out), "--key", token or self.server.token]
        return [*made, *more]

    def run(self, out: str, *more: str, **given) -> subprocess.CompletedProcess:
        return self.server.bandits(*self.command(out, *more, **given), check=False)

    def decisions(self) -> int:
        """Count the experiment's decisions in the database."""
        query = (
            "SELECT count(*) FROM decisions JOIN batches ON batches.id = decisions.serial >> 20"
            " JOIN experiments ON experiments.id = batches.experiment_id WHERE key = ?"
        )
        with closing(sqlite3.connect(self.server.database)) as connection:
            return connection.execute(query, (self.key,)).fetchone()[0]


@pytest.fixture
def sending(server, tmp_path, request) -> Sending:
    return Sending(server, tmp_path, f"file-{abs(hash(request.node.name)) % 10**9}")


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_killed_command_goes_on_and_decides_for_nobody_twice(sending, server, tmp_path) -> None:
    sending.write(PEOPLE)
    part = tmp_path / "choices.csv.part"
    command = [BANDITS, *sending.command("choices.csv")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def written() -> int:
        assert process.poll() is None
        return part.stat().st_size if part.exists() else 0

    wait_until(written, "choices", lambda size: size > 100_000)
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_SECONDS)
    with part.open("r+b") as file:  # as after a crash in the middle of a write
        file.truncate(part.stat().st_size - 1000)
    assert not (tmp_path / "choices.csv").exists()
    again = sending.run("choices.csv")
    assert again.returncode == 0, again.stderr
    assert f"{PEOPLE:,} choices are in" in again.stderr
    assert "had been decided before" in again.stderr  # what was torn off was asked for again
    assert sending.decisions() == PEOPLE
    assert not part.exists()
    chosen = rows_of(tmp_path / "choices.csv")
    assert [row["subject_id"] for row in chosen] == [f"u-{i}" for i in range(PEOPLE)]
    assert len({row["decision_id"] for row in chosen}) == PEOPLE
    assert {row["subject_line"] for row in chosen} == {"plain", "question"}
    assert {row["discount.percent"] for row in chosen} == {"0", "10"}
    held = sum(row["holdout"] == "true" for row in chosen)
    assert 0.09 < held / PEOPLE < 0.11
    assert all(row["propensity"] == "1" for row in chosen if row["holdout"] == "true")


def test_file_again_gets_the_same_choices_and_another_run_its_own(sending, tmp_path) -> None:
    sending.write(500)
    assert sending.run("first.csv").returncode == 0
    second = sending.run("second.parquet")
    assert "500 had been decided before" in second.stderr
    assert sending.decisions() == 500
    table = pq.read_table(tmp_path / "second.parquet").to_pylist()
    first = rows_of(tmp_path / "first.csv")
    assert [r["decision_id"] for r in first] == [r["decision_id"] for r in table]
    assert [r["subject_line"] for r in first] == [r["subject_line"] for r in table]
    third = sending.run("third.csv", "--run", "week-2")
    assert "before" not in third.stderr
    assert sending.decisions() == 1000
    assert rows_of(tmp_path / "third.csv")[7]["decision_id"] == "week-2-0000000007"


def test_columns_may_be_named_and_parquet_may_come_in(sending, tmp_path) -> None:
    people = {"email": ["a@example.com", "b@example.com"], "months": [3, None]}
    sending.people = tmp_path / "people.parquet"
    pq.write_table(pa.table(people), sending.people)
    named = ("--subject", "email", "--context", "recency=months", "--context", "channel=")
    done = sending.run("choices.csv", *named)
    assert done.returncode == 0, done.stderr
    subjects = [row["subject_id"] for row in rows_of(tmp_path / "choices.csv")]
    assert subjects == people["email"]


def break_row(sending) -> list[str]:
    lines = sending.people.read_text().splitlines()
    lines[20_000] = "u-x,often,Web"
    sending.people.write_text("\n".join(lines))
    return []


def drop_column(sending) -> list[str]:
    sending.people.write_text("subject_id,recency\nu,1\n")
    return []


def tear_row(sending) -> list[str]:
    with sending.people.open("a") as file:
        file.write("u-x,1\n")
    return []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (break_row, "people.csv, line 20001, column 'recency': 'often' is not a number"),
        (drop_column, "no column 'channel' for the feature 'channel'"),
        (tear_row, "line 20002: has 2 fields, the header has 3"),
        (lambda _: ["--context", "age=recency"], "unknown feature 'age'; declared are recency"),
        (lambda _: ["--context", "recency"], "'recency' is not FEATURE=COLUMN"),
        (lambda _: ["--run", "two words"], "a run is 1 to 100 printable"),
        (lambda _: ["--experiment", "nobodys"], "there is no experiment 'nobodys'"),
        (lambda _: ["--url", "localhost:8000"], "protocol"),
        (lambda _: ["--out", "choices.xlsx"], "give it one of .parquet, .csv"),
    ],
)
def test_input_that_does_not_fit_is_told_before_anybody_is_decided_for(
    sending, spoil: Callable[..., list[str]], said
) -> None:
    sending.write(20_000)
    done = sending.run("choices.csv", *spoil(sending))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sending.decisions() == 0


def test_a_key_must_be_allowed_to_choose_and_to_read(sending, server) -> None:
    sending.write(10)
    made = server.bandits("key", "create", "--scopes", "choose").stdout.strip()
    refused = sending.run("choices.csv", token=made)
    assert refused.returncode == 2
    assert "lacks the scope 'read'" in refused.stderr


def test_a_run_that_the_server_refuses_goes_on_when_it_no_longer_does(sending, server) -> None:
    sending.write(10)
    with server.client() as api:
        assert api.post(f"/api/v1/experiments/{sending.key}/pause").status_code == 200
        refused = sending.run("choices.csv")
        assert refused.returncode == 2
        assert "is paused" in refused.stderr
        assert "the same command goes on from there" in refused.stderr
        other = sending.run("choices.csv", "--run", "another")
        assert "choices.csv.part is of another run" in other.stderr
        assert api.post(f"/api/v1/experiments/{sending.key}/start").status_code == 200
    assert sending.run("choices.csv").returncode == 0
    again = sending.run("choices.csv")
    assert "choices.csv is there already" in again.stderr


def test_a_named_run_that_broke_off_does_not_go_on_with_other_recipients(sending, server) -> None:
    sending.write(500)
    with server.client() as api:
        api.post(f"/api/v1/experiments/{sending.key}/pause")
    assert sending.run("choices.csv", "--run", "weekly").returncode == 2
    whole = sending.people.read_text()
    sending.people.write_text(whole.replace("u-1,", "somebody-else,", 1))
    with server.client() as api:
        api.post(f"/api/v1/experiments/{sending.key}/start")
    other = sending.run("choices.csv", "--run", "weekly")
    assert other.returncode == 2
    assert "is of another run, or of recipients that have changed" in other.stderr
    assert sending.decisions() == 0
    sending.people.write_text(whole)
    assert sending.run("choices.csv", "--run", "weekly").returncode == 0
    assert sending.decisions() == 500


def test_list_as_people_have_it_is_understood(sending) -> None:
    """Workbooks, decimal commas, somebody twice, a row without an id, and all columns back."""
    head = [text(name) for name in ("subject_id", "recency", "channel", "City")]
    rows = [
        [text("007 "), text("1.003,5"), text("web"), text("Köln")],
        [text("u"), number(3), text("Fax"), text("=x")],
        [None, number(3), text("Web"), text("Ulm")],
        [text("u"), number(4), text("Web"), text("Bonn")],
    ]
    sending.people = sending.folder / "people.xlsx"
    write_workbook(sending.people, {"List": sheet([head, *rows])})
    refused = sending.run("choices.csv")
    assert refused.returncode == 2
    assert "people.xlsx, row 4, column 'subject_id': is empty" in refused.stderr
    assert sending.decisions() == 0
    report = sending.folder / "left-out.csv"
    ended = sending.run("choices.csv", "--left-out", str(report))
    assert ended.returncode == 0, ended.stderr
    assert "1 rows are of recipients who came before in the list (rows 5)" in ended.stderr
    assert "1 of 4 rows are left out" in ended.stderr
    assert "column 'channel': 1 cells are none of" in ended.stderr
    chosen = rows_of(sending.folder / "choices.csv")
    assert [row["subject_id"] for row in chosen] == ["007 ", "u", "u"]
    assert [row["City"] for row in chosen] == ["Köln", "=x", "Bonn"]
    assert chosen[1]["decision_id"] == chosen[2]["decision_id"]
    assert rows_of(report) == [
        {"row": "4", "column": "subject_id", "value": "", "reason": "is empty"}
    ]
    assert sending.decisions() == 2
    more = ("--left-out", str(report), "--repeats", "each", "--no-own-columns", "--run", "again")
    assert sending.run("each.csv", *more).returncode == 0
    chosen = rows_of(sending.folder / "each.csv")
    assert len({row["decision_id"] for row in chosen}) == 3
    assert "City" not in chosen[0]


def test_text_file_is_read_as_somebody_says(sending) -> None:
    sending.people.write_bytes("subject_id;recency;channel\nŁ;1,250;Web\n".encode("cp1250"))
    words = ("--encoding", "windows-1250", "--delimiter", ";", "--decimal", ",")
    assert sending.run("choices.csv", "--delimiter", "ab").returncode == 2
    assert sending.run("choices.csv").returncode == 2, "1,250 may be two numbers"
    ended = sending.run("choices.csv", *words)
    assert ended.returncode == 0, ended.stderr
    assert rows_of(sending.folder / "choices.csv")[0]["subject_id"] == "Ł"
