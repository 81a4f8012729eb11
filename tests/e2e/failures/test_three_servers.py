"""Three servers on one PostgreSQL answer as one under load, also where one is killed."""

import csv
import io
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from bandits.client import Client
from tests.conftest import SOAK
from tests.patience import CLIENT_LIMITS, LIMIT_SECONDS, wait_until

EXPERIMENTS = ("spring", "once", "waits")
EMAIL, PASSWORD = "anna@shop.example", "a long enough password"
ROUNDS = 3 if SOAK else 1
IDS = 40  # that every server is asked for
ROWS = 20_000  # of an uploaded file: many transactions, so that a kill comes between them


class Servers:
    """Three servers with a folder of uploads in common."""

    def __init__(self, start_server, folder, database_url) -> None:
        self._start_server = start_server
        self._folder = folder
        self.files = folder / "files"
        self._options = {
            "database_url": database_url,
            "BANDITS_FILES_FOLDER": str(self.files),
        }
        self.urls: dict[int, str] = {}
        with ThreadPoolExecutor(3) as pool:  # on an empty database, all at once
            self.all = list(pool.map(self.start, range(3)))

    def start(self, number: int):
        """Start a server, again at its port."""
        folder = self._folder / f"server-{number}"
        folder.mkdir(exist_ok=True)
        port = self.urls.get(number, ":0").rpartition(":")[2]
        server = self._start_server("--port", port, folder=folder, **self._options)
        self.urls[number] = server.url
        return server

    def freeze(self, number: int) -> None:
        """Stop the workers of a server where they are."""
        for worker in self._workers(number):
            os.kill(worker, signal.SIGSTOP)

    def kill(self, number: int) -> None:
        """Kill a server with its workers."""
        server = self.all[number]
        workers = self._workers(number)
        server.process.kill()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        server.process.wait(LIMIT_SECONDS)
        server.process.stdout.close()

    def _workers(self, number: int) -> list[int]:
        tasks = Path(f"/proc/{self.all[number].process.pid}/task").glob("*/children")
        return [int(worker) for task in tasks for worker in task.read_text().split()]

    def rows_done(self) -> int:
        """Read in the folder that all share how far the newest upload has come."""
        newest = max(self.files.glob("*/upload.json"), key=lambda file: file.stat().st_mtime)
        return int(re.search(r'"done":(\d+)', newest.read_text())[1])

    def restart(self, number: int) -> None:
        self.all[number] = self.start(number)


@pytest.fixture
def servers(start_server, tmp_path, postgresql) -> Servers:
    return Servers(start_server, tmp_path, postgresql.empty())


class Desk:
    """Somebody who signs in once and sends a file of recipients."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(timeout=LIMIT_SECONDS)
        self.post(f"{url}/sign-in", email=EMAIL, password=PASSWORD)

    def post(self, address: str, page: str = "", files=None, **fields: str) -> httpx.Response:
        """Send the form of a page, which is at the same address unless told otherwise."""
        text = self.client.get(page or address).text
        fields["csrf_token"] = re.search(r'name="csrf_token" value="([^"]+)"', text)[1]
        answer = self.client.post(address, data=fields, files=files)
        assert answer.status_code == 302, answer.text
        return answer

    def upload(self, url: str) -> str:
        """Send a file and begin to choose for it; return the path of its page."""
        text = "subject_id\n" + "".join(f"row-{n}\n" for n in range(ROWS))
        address = f"{url}/experiments/spring/files"
        answer = self.post(address, files={"file": ("people.csv", text)}, kind="recipients")
        path = answer.headers["Location"]
        self.post(f"{url}{path}", who="subject_id", by="subject")
        return path

    def look(self, url: str, path: str) -> str:
        """Read the heading of the file's progress, and how many rows are done."""
        page = self.client.get(f"{url}{path}").text
        heading = re.search(r'<h2 id="far">([^<]*)</h2>', page)[1].strip()
        done = re.search(r'<progress max="\d+" value="(\d+)"', page)
        return f"{heading} {done[1] if done else 0}"


def versions(api: httpx.Client) -> int:
    """Count the snapshots of all experiments."""
    answers = [api.get(f"/api/v1/experiments/{key}") for key in EXPERIMENTS]
    return sum(answer.json()["policy_version"] for answer in answers)


def folds(api: httpx.Client) -> int:
    """Count the folds of a server's learner."""
    counted = re.search(
        r"^bandits_fold_seconds_count (\d+)$", api.get("/metrics").text, re.MULTILINE
    )
    return int(counted[1])


def await_fold(server, token: str) -> None:
    with server.client(token) as api:
        before = versions(api)
        wait_until(lambda: versions(api), "fold", lambda newest: newest > before)


def check_answers(servers: Servers, token: str) -> list[str]:
    """Ask all servers for the same decisions at the same time: one makes each, and all say it."""
    ids = [f"of-all-{number}" for number in range(IDS)]

    def ask(decision_id: str, url: str) -> tuple[int, dict]:
        body = {"subject_id": decision_id, "decision_id": decision_id}
        answer = client.post(f"{url}/api/v1/experiments/spring/choose", json=body)
        return answer.status_code, answer.json()

    headers = {"Authorization": f"Bearer {token}"}
    with (
        httpx.Client(headers=headers, timeout=LIMIT_SECONDS) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        for decision_id in ids:
            answers = list(pool.map(partial(ask, decision_id), servers.urls.values()))
            assert Counter(status for status, _ in answers) == {201: 1, 200: 2}
            first = answers[0][1]
            for _, body in answers:
                assert (body["slots"], body["propensity"]) == (first["slots"], first["propensity"])
    return ids


def check_upload(servers: Servers, desk: Desk) -> list[str]:
    """Kill the server that works through a file; another goes on, and all show its answer."""
    urls = servers.urls
    path = desk.upload(urls[1])
    wait_until(servers.rows_done, "rows that are done")
    servers.freeze(1)
    assert desk.look(urls[2], path).startswith("Choosing"), "another server sees it under way"
    servers.kill(1)
    wait_until(lambda: desk.look(urls[2], path), "end", lambda seen: seen.startswith("Cut off"))
    desk.post(f"{urls[2]}{path}")
    wait_until(lambda: desk.look(urls[0], path), "answer", lambda seen: seen.startswith("Chosen"))
    answers = {desk.client.get(f"{urls[number]}{path}/answer.csv").text for number in (0, 2)}
    rows = list(csv.DictReader(io.StringIO(answers.pop())))
    assert answers == set()
    assert {row["subject_id"] for row in rows} == {f"row-{number}" for number in range(ROWS)}
    assert len(rows) == ROWS
    return [row["decision_id"] for row in rows]


def test_three_servers_answer_as_one_also_where_one_is_killed(servers, start_load, gentle) -> None:
    first, _, third = servers.all
    token = first.token
    load = start_load(*servers.all, pace=gentle)
    first.bandits(
        "user", "add", EMAIL, "--role", "manager", "--password-stdin", typed=f"{PASSWORD}\n"
    )
    desk = Desk(first.url)
    ids = check_answers(servers, token)
    load.ledger.asked.update(ids)
    for _ in range(ROUNDS):
        load.ledger.asked.update(check_upload(servers, desk))  # which kills the second
        await_fold(third, token)  # by one of those who are left
        servers.restart(1)
        load.await_more(30)
    load.stop()
    desk.client.close()
    check_folds(servers, token, partial(report_click, load, servers.urls[1], token, ids[0]))
    for server in servers.all:
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    load.check()
    verified = third.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def report_click(load, url: str, token: str, decision_id: str) -> None:
    with Client(url, token, **CLIENT_LIMITS) as client:
        client.reward(decision_id, "click", event_id="last")
    for events in (load.ledger.reported, load.ledger.events):
        events[decision_id, "last"] = 1.0


def check_folds(servers: Servers, token: str, report: Callable[[], object]) -> None:
    """Report something: each snapshot is made by one of the three learners alone."""
    with ExitStack() as stack:
        apis = [stack.enter_context(server.client(token)) for server in servers.all]

        def state() -> tuple[int, int]:
            return versions(apis[0]), sum(map(folds, apis))

        at_rest = wait_until(state, "rest", lambda now: now == state())
        report()
        added = lambda: tuple(n - b for n, b in zip(state(), at_rest, strict=True))  # noqa: E731
        wait_until(added, "folds by one each", lambda now: now[0] >= 1 and now[0] == now[1])
