"""What `make` installs: what the locks name, file by file, in step with what is declared."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = {p.stem: p for p in (ROOT / "requirements").iterdir()}
TOGETHER = ("run", "postgres", "test", "check", "bench")  # in one folder, one after the other
BY_HAND = {"postgres"}  # as docs/operations.md has it
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"))
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][A-Za-z0-9.]*)(?: ; (?P<marker>[^\\]+?))?"
    r"(?: --hash=sha256:[0-9a-f]{64})+"
)


class Pin(NamedTuple):
    """One version of one package, where its marker holds."""

    name: str
    version: str
    marker: Marker | None

    def holds(self, python: str, platform: tuple[str, str]) -> bool:
        """Tell whether it is installed there."""
        here = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": platform[0],
            "platform_machine": platform[1],
        }
        return self.marker is None or self.marker.evaluate(here)


def lines(lock: str) -> list[str]:
    """List what a lock says, without its comments, continued lines joined."""
    text = LOCKS[lock].read_text().replace("\\\n", " ")
    words = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in words if line and not line.startswith("#")]


def pins(lock: str) -> list[Pin]:
    """List what a lock names."""
    found = [match for line in lines(lock) if (match := PIN.fullmatch(line))]
    return [
        Pin(m["name"], m["version"], Marker(m["marker"]) if m["marker"] else None) for m in found
    ]


def group(name: str) -> list[str]:
    """List the requirements of a dependency group, and of those that it includes."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return [
        line
        for entry in groups[name]
        for line in (group(entry["include-group"]) if isinstance(entry, dict) else [entry])
    ]


def declared(lock: str) -> list[Requirement]:
    """List what a lock has to have, as setup.cfg and pyproject.toml declare it."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    always = setup["options"]["install_requires"].split("\n")
    extras = setup["options.extras_require"]
    texts = {
        "run": [*always, *group("build")],
        **{extra: [*always, *extras[extra].split("\n")] for extra in TOGETHER[1:]},
        **{tool: group(tool) for tool in ("lock", "audit", "obp")},
    }
    return [Requirement(text) for text in texts[lock] if text]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_each_declared_requirement_within_its_range(lock: str) -> None:
    pinned: dict[str, list[Pin]] = {}
    for pin in pins(lock):
        pinned.setdefault(pin.name, []).append(pin)
    for requirement in declared(lock):
        name = canonicalize_name(requirement.name)
        for python, platform in product(PYTHONS, PLATFORMS):
            versions = [p.version for p in pinned.get(name, []) if p.holds(python, platform)]
            assert len(versions) == 1, f"run `make lock`: {name} for {python} on {platform}"
            assert versions[0] in requirement.specifier, f"run `make lock`: {requirement}"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_every_line_and_names_no_place(lock: str) -> None:
    assert [line for line in lines(lock) if not PIN.fullmatch(line)] == []
    text = LOCKS[lock].read_text()
    assert re.findall(r"://|^-|--(?:index|extra|find)|\.whl|(?<=\s)/\S+", text, re.MULTILINE) == []


def test_locks_that_are_installed_together_agree() -> None:
    versions: dict[str, set[str]] = {}
    for pin in (pin for lock in TOGETHER for pin in pins(lock)):
        versions.setdefault(pin.name, set()).add(pin.version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_python_versions_are_those_that_the_locks_cover() -> None:
    setup = (ROOT / "setup.cfg").read_text()
    assert re.findall(r":: Python :: (3\.\d+)", setup) == list(PYTHONS)
    assert f"python_requires = >={PYTHONS[0]}\n" in setup
    makefile = (ROOT / "Makefile").read_text()
    assert f"--python-version {PYTHONS[0]} " in makefile
    for python in PYTHONS:
        assert f"python{python} " in makefile


# What make runs


def recipes(*targets: str) -> str:
    """Return what make would run, everything anew."""
    words = [str(shutil.which("make")), "--dry-run", "--always-make", "--no-print-directory"]
    command = [*words, f"PYTHON={sys.executable}", *targets]
    # make itself passes flags and targets on by these
    inherited = {
        k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    run = subprocess.run(
        command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=True
    )
    return run.stdout.replace("\\\n", " ")


def installing(text: str) -> Iterator[str]:
    """Go through the commands that install something which is not in this folder."""
    for line in text.splitlines():
        ours = "--no-deps" in line and re.search(r"--editable \.(?!\S)| dist/\*\.whl$", line)
        if re.search(r"\bpip3?\b.* install\b", line) and not ours:
            yield line


def test_make_installs_from_locks_alone() -> None:
    commands = list(
        installing(recipes("demo", "test", "check", "bench", "soak", "audit", "lock", "docs"))
    )
    installed = {
        name for line in commands for name in re.findall(r"-r requirements/(\w+)\.txt", line)
    }
    assert installed == set(LOCKS) - BY_HAND
    for line in commands:
        rest = re.sub(r"-r requirements/\w+\.txt|--target \S+", "", line)
        assert "--require-hashes" in rest
        assert "--only-binary :all:" in rest
        words = rest.split()
        assert [
            w for w in words[words.index("install") + 1 :] if not w.startswith(("-", ":"))
        ] == []


def test_make_canary_alone_installs_without_a_lock() -> None:
    unlocked = [line for line in installing(recipes("canary")) if "--require-hashes" not in line]
    assert unlocked
    assert all(line.startswith(".venv/canary/bin/") for line in unlocked)


# An index in which somebody has put something newer


def wheel(folder: Path, name: str, version: str, content: str) -> str:
    """Make a wheel of one module; return its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pip(*words: str | Path, index: Path) -> list[str] | None:
    """List what pip would install from an index, None where it refuses; nothing is installed."""
    command = [sys.executable, "-m", "pip", *words, "--dry-run", "--ignore-installed"]
    command += ["--report", "-", "--no-index", "--find-links", index]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    run = subprocess.run(
        command,
        env=own | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        return None
    report = json.loads(run.stdout)["install"]
    return [f"{e['metadata']['name']} {e['metadata']['version']}" for e in report]


@pytest.fixture(scope="module")
def locked() -> list[str]:
    """How make installs a lock."""
    (line,) = (line for line in installing(recipes(".venv/installed")) if "requirements/" in line)
    words = line.split()
    return words[words.index("install") : words.index("-r")]


def test_locked_install_does_not_take_a_newer_release(tmp_path: Path, locked: list[str]) -> None:
    index, lock = tmp_path / "index", tmp_path / "lock.txt"
    digest = wheel(index, "parcel", "1.0", "")
    wheel(index, "parcel", "99.0", "raise SystemExit('broken')")
    lock.write_text(f"parcel==1.0 --hash=sha256:{digest}\n")
    assert pip("install", "--quiet", "parcel>=1.0", index=index) == ["parcel 99.0"]
    assert pip(*locked, "-r", lock, index=index) == ["parcel 1.0"]


def test_locked_install_refuses_another_file_of_the_same_version(
    tmp_path: Path, locked: list[str]
) -> None:
    index = tmp_path / "index"
    (pin,) = (p for p in pins("run") if p.name == "msgspec")
    wheel(index, "msgspec", pin.version, "raise SystemExit('poisoned')")
    (hashed,) = (line for line in lines("run") if line.startswith("msgspec=="))
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{hashed}\n")
    same = f"msgspec {pin.version}"
    assert pip("install", "--quiet", f"msgspec=={pin.version}", index=index) == [same]
    assert pip(*locked, "-r", lock, index=index) is None
