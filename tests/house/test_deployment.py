"""Deployment examples: nobody is root, the root is read-only, and what they name is there."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from webapp.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
CONTAINER = (ROOT / "Containerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OBJECTS = {
    o["kind"]: o for o in yaml.safe_load_all((ROOT / "docs/deploy/kubernetes.yaml").read_text())
}
UNIT = (ROOT / "docs/deploy/bandits.service").read_text()
SETTINGS = {PREFIX + name.upper() for name in Settings.__struct_fields__}


@pytest.mark.parametrize(
    "text",
    [CONTAINER, msgspec.json.encode(COMPOSE).decode(), msgspec.json.encode(OBJECTS).decode(), UNIT],
)
def test_settings_that_are_named_exist(text):
    names = set(re.findall(r"BANDITS_[A-Z_]+", text)) - {"DATABASE_PASSWORD"}
    assert names
    assert names <= SETTINGS


def test_container_is_nobody_and_is_installed_by_hash():
    last = CONTAINER.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert "--require-hashes" in CONTAINER
    for line in re.findall(r"^COPY (?!--from)(\S+) ", CONTAINER, re.MULTILINE):
        assert (ROOT / line).exists(), line


def test_container_gets_what_the_package_needs_and_nothing_else():
    kept = [
        line[1:]
        for line in (ROOT / ".containerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert all((ROOT / name).exists() for name in kept)
    assert {"bandits", "policies", "simulations", "storage", "webapp"} <= set(kept)
    assert not {"tests", ".git", ".venv"} & set(kept)


def test_composed_server_may_do_nothing_that_it_need_not():
    server = COMPOSE["services"]["bandits"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "ports" not in COMPOSE["services"]["database"]


def test_pod_may_do_nothing_that_it_need_not():
    pod = OBJECTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["selector"] == labels


def test_unit_is_confined():
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "UMask=0077"):
        assert line in UNIT
    stop = int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1])
    assert stop > 30  # what the server takes to end its workers
