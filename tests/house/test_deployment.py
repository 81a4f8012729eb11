"""Deployment examples: nobody is root, the root is read-only, and what they name is there."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from tests.patience import LIMIT_SECONDS
from webapp.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
CONTAINER = (ROOT / "Containerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OBJECTS = {
    o["kind"]: o for o in yaml.safe_load_all((ROOT / "docs/deploy/kubernetes.yaml").read_text())
}
SERVERS = OBJECTS["StatefulSet"]["spec"]
UNITS = ROOT / "docs/deploy/bandits.service", ROOT / "docs/deploy/bandits.socket"
UNIT, PORT = (path.read_text() for path in UNITS)
SETTINGS = {PREFIX + name.upper() for name in Settings.__struct_fields__}


@pytest.mark.parametrize(
    "text",
    [CONTAINER, msgspec.json.encode(COMPOSE).decode(), msgspec.json.encode(OBJECTS).decode(), UNIT],
)
def test_settings_that_are_named_exist(text):
    names = set(re.findall(r"BANDITS_[A-Z_]+", text)) - {"DATABASE_PASSWORD"}
    assert names
    assert names <= SETTINGS


def entries(unit: str) -> dict[str, dict[str, list[str]]]:
    """Read the sections of a unit; a line that is neither an entry nor a comment is refused."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in unit.splitlines():
        if not line or line.startswith("#"):
            continue
        if section := re.fullmatch(r"\[(\w+)\]", line):
            entry = sections.setdefault(section[1], {})
            continue
        name, value = re.fullmatch(r"(\w+)=(.*)", line).groups()
        entry.setdefault(name, []).append(value)
    return sections


def test_units_belong_together_and_the_port_is_of_this_machine_alone():
    service, port = entries(UNIT), entries(PORT)
    assert port["Socket"]["ListenStream"] == ["127.0.0.1:8000"]
    assert service["Unit"]["Requires"] == ["bandits.socket"]
    assert "bandits.socket" in service["Unit"]["After"][0].split()
    assert service["Install"]["Also"] == ["bandits.socket"]
    (command,) = service["Service"]["ExecStart"]
    assert not {"--host", "--port"} & set(command.split()), "the address is the socket's"


def test_units_are_what_systemd_takes(tmp_path):
    program = tmp_path / "bandits"
    program.touch(mode=0o755)
    for path in UNITS:
        (tmp_path / path.name).write_text(
            path.read_text().replace("/opt/bandits/bin/bandits", str(program))
        )
    if verify := shutil.which("systemd-analyze"):  # else the entries are read above
        command = [verify, "verify", *(tmp_path / path.name for path in UNITS)]
        options = {"capture_output": True, "text": True, "timeout": LIMIT_SECONDS}
        verified = subprocess.run(command, check=False, **options)
        assert (verified.returncode, verified.stderr) == (0, "")


def test_events_that_are_answered_outlive_a_container():
    (volume,) = re.findall(r"^VOLUME (.*)$", CONTAINER, re.MULTILINE)
    for setting in ("BANDITS_FILES_FOLDER", "BANDITS_SPOOL_FOLDER"):
        folder = re.search(rf"{setting}=(\S+)", CONTAINER)[1]
        assert folder.startswith(f"{volume}/")
    assert COMPOSE["services"]["bandits"]["volumes"] == [f"files:{volume}"]


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
    pod = SERVERS["template"]["spec"]
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
    volumes |= {claim["metadata"]["name"] for claim in SERVERS["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    labels = SERVERS["template"]["metadata"]["labels"]
    assert OBJECTS["Service"]["spec"]["selector"] == labels == SERVERS["selector"]["matchLabels"]


def test_pods_share_uploaded_files_and_nothing_else():
    pod = SERVERS["template"]["spec"]
    (container,) = pod["containers"]
    assert SERVERS["replicas"] == 3
    assert SERVERS["updateStrategy"] == {"type": "RollingUpdate"}
    assert OBJECTS["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    assert settings["BANDITS_FILES_FOLDER"].startswith(f"{mounts['files']}/")
    assert settings["BANDITS_SPOOL_FOLDER"].startswith(f"{mounts['spool']}/")
    (claim,) = SERVERS["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "spool"
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > 30 + 10, "what ends the workers, after the balancer was waited for"


def test_unit_is_confined():
    for line in ("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", "UMask=0077"):
        assert line in UNIT
    stop = int(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1])
    assert stop > 30  # what the server takes to end its workers
