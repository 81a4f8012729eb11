"""The generated clients: they compile, and choose and report at a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE

ROOT = Path(__file__).parents[2]
EXAMPLES = dict(
    re.findall(
        r"^```(ts|php)\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL
    )
)
PROGRAMS = Path(__file__).with_name("clients")
COMPILE = ("tsc", "--strict", "--target", "es2020", "--module", "commonjs", "--lib", "es2020,dom")


def run(*command: object, folder: Path, **variables: str) -> str:
    """Run a program in a folder, and return what it prints."""
    words = [str(shutil.which(str(command[0])) or command[0]), *map(str, command[1:])]
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


@pytest.fixture(scope="module")
def clients(tmp_path_factory) -> Path:
    """A folder with the client of each language."""
    folder = tmp_path_factory.mktemp("clients")
    run(sys.executable, ROOT / "tests/clients.py", folder, folder=ROOT)
    return folder


@pytest.fixture(scope="module")
def check(server) -> Callable[..., None]:
    """Run a program at a server, and check what it did there."""
    with server.client() as api:
        declared = EXAMPLE | {"key": "generated"}
        assert api.post("/api/v1/experiments", json=declared).status_code == 201
        assert api.post("/api/v1/experiments/generated/start").status_code == 200

    def at_server(*command: object, folder: Path, **variables: str) -> None:
        printed = run(*command, folder=folder, API=server.url, TOKEN=server.token, **variables)
        result = json.loads(printed)
        decision_id, variant = result.pop("id"), result.pop("variant")
        assert result == {"name": "thompson", "batch": 1, "accepted": 1, "erased": 1}
        with server.client() as api:
            receipt = api.get(f"/api/v1/decisions/{decision_id}").json()
        assert receipt["slots"]["subject_line"]["variant"] == variant
        assert receipt["context"] == {"recency": 3, "channel": "Web"}
        assert [e["event_id"] for e in receipt["events"]] == ["click-1"]

    return at_server


def test_typescript_client_compiles_chooses_and_reports(clients, check, tmp_path) -> None:
    shutil.copytree(clients / "typescript", tmp_path / "typescript")
    shutil.copy(PROGRAMS / "send.ts", tmp_path)
    imports, _, example = EXAMPLES["ts"].partition("\n\n")
    wrapped = f"{imports}\nexport async function page(token: string) {{\n{example}}}\n"
    (tmp_path / "page.ts").write_text(wrapped)
    options = ("--noEmitOnError", "--outDir", "compiled")
    run(*COMPILE, *options, "send.ts", "page.ts", folder=tmp_path)
    check("node", "compiled/send.js", folder=tmp_path)


def test_php_client_compiles_chooses_and_reports(clients, check, tmp_path) -> None:
    files = sorted((clients / "php/lib").rglob("*.php"))
    assert len(files) > 50
    example = tmp_path / "page.php"
    example.write_text("<?php\n" + EXAMPLES["php"])
    for file in (*files, example):
        assert "No syntax errors" in run("php", "-l", file, folder=tmp_path)
    check("php", PROGRAMS / "send.php", folder=tmp_path, CLIENT=str(clients / "php"))
