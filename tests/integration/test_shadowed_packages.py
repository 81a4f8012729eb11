"""Somebody else's package that has the name of one of ours, and comes first on Python's path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bandits

OURS = Path(bandits.__file__).parents[1]
BANDITS = Path(sys.executable).with_name("bandits")


def run(*words: str | Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with a folder first on Python's path."""
    return subprocess.run(
        words,
        cwd=path,
        env=os.environ | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "file", "command"),
    [
        ("policies", "policies/__init__.py", "simulate"),
        ("policies", "policies.py", "serve"),
        ("webapp", "webapp/__init__.py", "serve"),
        ("webapp", "webapp/__init__.py", "--help"),
        ("storage", "storage/__init__.py", "db"),
        ("simulations", "simulations/notes.txt", "simulate"),
    ],
)
def test_command_names_the_package_that_stands_before_ours(tmp_path, name, file, command) -> None:
    stranger = tmp_path / file
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("raise SystemExit('the stranger was imported')\n")
    ran = run(BANDITS, command, path=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"error: another package is called {name!r}: ")
    assert ran.stderr.count("\n") == 1
    shown = stranger if stranger.suffix == ".py" else stranger.parent  # a folder is a package too
    assert f" {shown} " in ran.stderr
    assert f" {OURS / name / '__init__.py'} " in ran.stderr


def test_policies_names_the_package_that_stands_before_ours(tmp_path) -> None:
    stranger = tmp_path / "policies/__init__.py"
    stranger.parent.mkdir()
    stranger.touch()
    ran = run(
        sys.executable, "-c", "from bandits.registry import make; make('thompson')", path=tmp_path
    )
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("bandits.errors.ShadowedPackage: another package is called 'policies'")
    assert str(stranger) in last


def test_command_runs_beside_packages_of_other_names(tmp_path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/__init__.py").touch()
    ran = run(BANDITS, "simulate", "--list", path=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
