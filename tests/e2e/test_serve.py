"""The server as a process: how it starts, survives, refuses to start, and ends."""

import io
import json
import os
import re
import signal
import sqlite3
import threading
import time
from importlib.metadata import version
from pathlib import Path

import httpx
from msgspec.structs import replace

from storage.settings import data_folder
from tests.patience import LIMIT_SECONDS, join, wait_until
from webapp.api.experiments import EXAMPLE
from webapp.files.recipients import RecipientColumns
from webapp.jobs.uploads import Uploads
from webapp.jobs.waves import Wave


def alive(number: int) -> bool:
    """Tell whether a process runs; one that waits for its parent to notice does not."""
    try:
        with open(f"/proc/{number}/stat", encoding="ascii") as stat:  # noqa: PTH123 - a device
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=LIMIT_SECONDS).status_code == 200
    except httpx.HTTPError:
        return False


def test_server_is_ready_alive_and_measured(server, api) -> None:
    with httpx.Client(base_url=server.url, timeout=LIMIT_SECONDS) as anybody:
        assert anybody.get("/healthz").json() == {
            "status": "alive",
            "version": version("email-bandits"),
        }
        assert anybody.get("/readyz").json() == {
            "status": "ready",
            "version": version("email-bandits"),
        }
        assert anybody.get("/metrics").status_code == 401
    told = api.get("/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'bandits_requests_total{route="/healthz",method="GET",status="200"' in told.text


def test_a_worker_tells_what_the_learner_beside_it_has_done(server, api) -> None:
    def folds() -> int:
        told = api.get("/metrics").text
        return int(re.search(r"^bandits_fold_seconds_count (\d+)$", told, re.MULTILINE)[1])

    before = folds()
    key = "counted"
    made = api.post("/api/v1/experiments", json=EXAMPLE | {"key": key, "learn_every_seconds": 1})
    assert made.status_code == 201, made.text
    api.post(f"/api/v1/experiments/{key}/start")
    assert api.post(f"/api/v1/experiments/{key}/choose", json={"subject_id": "u"}).is_success
    wait_until(folds, "fold", lambda count: count > before)


def test_server_prepares_a_wave_when_its_time_has_come(server, api) -> None:
    key, uploads = "in-waves", Uploads(data_folder(server.database_url, "files"))
    assert api.post("/api/v1/experiments", json=EXAMPLE | {"key": key}).status_code == 201
    api.post(f"/api/v1/experiments/{key}/start")
    now = time.time()
    file = io.BytesIO(b"email\na@x.example\nb@x.example\nc@x.example\n")
    upload = uploads.add(key, "recipients", file, "list.csv", at=now, by="ann@x.example")
    waves = (Wave(recipients=2, at=now), Wave(recipients=1, at=now + 86_400))
    columns = RecipientColumns("email", {feature["name"]: None for feature in EXAMPLE["context"]})
    uploads.save(replace(upload, stage="waves", columns=columns, waves=waves))
    stages = lambda: [wave.stage for wave in uploads.find(key, upload.id).waves]  # noqa: E731
    wait_until(stages, "first wave", lambda stages: stages == ["ready", "waiting"])
    assert len(uploads.answer(upload, 0).read_text().splitlines()) == 3


def test_worker_threads_are_scheduled_as_a_batch(server) -> None:
    assert os.sched_getscheduler(server.worker) == os.SCHED_BATCH
    threads = [int(folder.name) for folder in Path(f"/proc/{server.worker}/task").iterdir()]
    asked = [os.sched_getscheduler(thread) for thread in threads]  # those begun before are not
    assert asked.count(os.SCHED_BATCH) > len(threads) / 2


def test_sigterm_ends_the_server_in_order_with_nothing_on_standard_output(start_server) -> None:
    server = start_server()
    worker = server.worker
    server.process.send_signal(signal.SIGTERM)
    out, _ = server.process.communicate(timeout=LIMIT_SECONDS)
    assert (server.process.returncode, out) == (0, b"")
    assert not alive(worker)
    assert "stopped" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_sigint_ends_the_server_in_order_and_logs_may_be_json(start_server) -> None:
    server = start_server("--log-format", "json", "--access-log")
    worker = server.worker
    asked = {"X-Request-ID": "mine"}
    httpx.get(f"{server.url}/healthz", headers=asked, timeout=LIMIT_SECONDS)
    assert server.stop(signal.SIGINT) == 0
    assert not alive(worker)
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
    (entry,) = [e for e in entries if e.get("request_id") == "mine"]
    assert entry["message"] == "GET /healthz 200"


def test_request_under_way_is_answered_before_the_server_ends(start_server) -> None:
    server = start_server()
    rows = [{"subject_id": f"u-{i}"} for i in range(10_000)]
    with server.client() as api:
        api.post("/api/v1/experiments", json=EXAMPLE)
        api.post("/api/v1/experiments/spring/start")
        answered: list[httpx.Response] = []

        def send() -> None:
            path = "/api/v1/experiments/spring/choose/batch"
            answered.append(api.post(path, json={"requests": rows}))

        sender = threading.Thread(target=send)
        sender.start()
        log = server.database.with_name("bandits.db-wal")
        enough = log.stat().st_size + 100_000
        wait_until(lambda: log.stat().st_size, "write", lambda size: size > enough or answered)
        assert server.stop() == 0
        join(sender)
    assert answered[0].status_code == 201
    with sqlite3.connect(server.database) as connection:
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (10_000,)
    connection.close()


def test_a_killed_worker_is_replaced_and_none_outlives_the_launcher(start_server) -> None:
    server = start_server()
    first = server.worker
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: answers(server.url) and server.worker != first, "second worker")
    second = server.worker
    server.stop(signal.SIGKILL)
    wait_until(lambda: not alive(second), "end of the second worker")
    assert not answers(server.url)  # an orphan would, beside its successor
    again = start_server(folder=server.folder)
    assert answers(again.url)


def test_a_second_server_on_one_sqlite_file_fails_and_names_the_holder(server) -> None:
    second = server.bandits_process("serve", "--port", "0", check=False)
    assert second.returncode == 1
    lines = second.stderr.strip().splitlines()
    assert lines == [f"Error: process {server.worker} already serves {server.database}"]


def test_a_port_in_use_is_one_clear_line(server, tmp_path) -> None:
    port = server.url.rpartition(":")[2]
    other = f"sqlite:///{tmp_path}/other.db"
    second = server.bandits_process("serve", "--port", port, "--database", other, check=False)
    assert second.returncode == 1
    assert second.stderr.strip() == f"Error: port {port} of 127.0.0.1 is in use"


def test_a_key_from_the_command_line_works_until_it_is_revoked(server) -> None:
    made = server.bandits("key", "create", "--scopes", "read,choose", "--name", "one of mine")
    token = made.stdout.strip()
    assert made.stdout == f"{token}\n"
    with server.client(token) as client:
        assert client.get("/api/v1/experiments").status_code == 200
        assert client.get("/api/v1/keys").status_code == 403
        listed = server.bandits("key", "list").stdout
        (row,) = [line for line in listed.splitlines() if "one of mine" in line]
        assert token not in listed
        assert "read, choose" in row
        server.bandits("key", "revoke", row.split()[0])
        answered = lambda: client.get("/api/v1/experiments").status_code  # noqa: E731
        wait_until(answered, "refusal of the key", lambda status: status == 401)


def test_a_person_is_added_with_a_hashed_password(server) -> None:
    command = ("user", "add", "Ann@Example.com", "--role", "manager", "--password-stdin")
    password = "four words in a row"
    server.bandits(*command, typed=f"{password}\n")
    connection = sqlite3.connect(server.database)
    query = "SELECT password_hash, role FROM users WHERE email = 'ann@example.com'"
    hashed, role = connection.execute(query).fetchone()
    connection.close()
    assert hashed.startswith("$argon2id$")
    assert role == "manager"
