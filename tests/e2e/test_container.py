"""The Containerfile without an engine: its server has no rights, and its root is read-only."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import SOAK
from tests.containerfile import Container, Image, build, make_base, read_image
from tests.patience import wait_until

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text()
# What a person does first, in the container: an experiment, and an email.
FIRST_EMAIL = """
import sys
import httpx
from bandits.client import Client
from webapp.api.experiments import EXAMPLE

url, token = "http://127.0.0.1:8000", sys.argv[1]
headers = {"Authorization": f"Bearer {token}"}
httpx.post(f"{url}/api/v1/experiments", json=EXAMPLE, headers=headers).raise_for_status()
httpx.post(f"{url}/api/v1/experiments/spring/start", headers=headers).raise_for_status()
with Client(url, token) as client:
    print(client.choose("spring", "anna").decision_id)
"""


@contextmanager
def running(image: Image, folder: Path, *, as_self: bool = False) -> Iterator[Container]:
    container = Container(image, folder, as_self=as_self)
    try:
        wait_until(container.is_healthy, "health, by the image's own check")
        yield container
    finally:
        status = container.stop()
    assert status == 0, container.log.read_text()


def check_rights(container: Container) -> None:
    """Hold the process to be nobody, without a capability, on a root that nobody can change."""
    lines = Path(f"/proc/{container.process.pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert {status[name][0] for name in ("CapEff", "CapPrm", "CapInh")} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]
    assert container.run("id", "-u").stdout.strip() == "10001"
    for place in ("/usr/bin/new", "/etc/new", "/var/new"):
        refused = container.run("touch", place, as_root=True)
        assert refused.returncode == 1
        assert "Read-only file system" in refused.stderr
    for place in ("/tmp/new", "/var/lib/bandits/new"):  # noqa: S108 - the container's own
        assert container.run("touch", place).returncode == 0


def check_work(container: Container, python: str) -> None:
    """Make a key and send an email; all of it is in the volume."""
    created = container.run("bandits", "key", "create", "--scopes", "manage,read,choose")
    assert created.returncode == 0, created.stderr
    sent = container.run(python, "-c", FIRST_EMAIL, created.stdout.strip())
    assert sent.returncode == 0, sent.stderr
    assert len(sent.stdout.strip()) == 36
    assert {"bandits.db", "bandits.db.lock"} <= {file.name for file in container.data.iterdir()}
    records = [json.loads(line) for line in container.log.read_text().splitlines()]
    warnings = [entry["message"] for entry in records if entry["level"] == "warning"]
    assert len(warnings) == 2, warnings
    assert warnings[0].startswith("http://0.0.0.0:8000 is open to other machines without TLS")
    assert warnings[1].startswith("nobody has an account yet")


MACHINES = ["this", "empty"] if SOAK else ["this"]  # to make an empty one takes a minute


@pytest.mark.parametrize("machine", MACHINES)
def test_container_serves_as_nobody_on_a_read_only_root(machine, tmp_path) -> None:
    python = "python"
    if machine == "empty":
        make_base(tmp_path / "base")
        image = build(TEXT, ROOT, tmp_path / "base", tmp_path)
    else:  # what is installed here stands for what the steps install
        python, image = sys.executable, read_image(TEXT, Path("/"))
        image.environment["PATH"] = f"{Path(python).parent}:{image.environment['PATH']}"
    with running(image, tmp_path, as_self=machine == "this") as container:
        check_rights(container)
        check_work(container, python)
