"""What is installed is whole: the working tree here, and the wheel by `make test`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distribution, entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.patience import LIMIT_SECONDS

PACKAGES = ("bandits", "policies", "simulations", "storage", "webapp")
LARGEST = 300_000  # bytes
KINDS = {".py", ".typed", ".html", ".css", ".js", ".svg", ".toml", ".mako", ".txt", ".json"}
BANDITS = Path(sys.executable).with_name("bandits")


def installed_in() -> Path:
    """Return the folder that the packages should come from."""
    ours = distribution("email-bandits")
    origin = json.loads(ours.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(unquote(urlsplit(origin["url"]).path))
    return Path(str(ours.locate_file("")))


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command in an empty folder."""
    return subprocess.run(
        [BANDITS, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )


def walk(folder: Traversable) -> Iterator[Traversable]:
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from walk(entry)
        elif not entry.name.endswith(".pyc"):
            yield entry


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_comes_from_where_it_was_installed(package: str) -> None:
    found = Path(str(import_module(package).__file__)).resolve()
    assert found.is_relative_to(installed_in().resolve())


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_has_only_code_and_small_pieces_and_declares_types(package: str) -> None:
    content = [Path(str(e)) for e in walk(files(package))]
    assert "py.typed" in {p.name for p in content}
    assert {p.suffix for p in content} <= KINDS
    assert [p.name for p in content if p.stat().st_size > LARGEST] == []


@pytest.mark.parametrize(
    ("package", "folder", "suffix"),
    [
        ("webapp", "templates", ".html"),
        ("webapp", "templates/experiment", ".html"),
        ("webapp", "templates/mails", ".html"),
        ("webapp", "templates/experiment/live", ".html"),
        ("webapp", "static", ".css"),
        ("webapp", "static/styles", ".css"),
        ("webapp", "static", ".js"),
        ("simulations", "scenarios", ".toml"),
        ("storage", "migrations", ".mako"),
        ("storage", "migrations/versions", ".py"),
    ],
)
def test_wheel_has_templates_styles_and_scenarios_too(
    package: str, folder: str, suffix: str
) -> None:
    names = [e.name for e in files(package).joinpath(folder).iterdir()]
    assert any(n.endswith(suffix) for n in names), names


def test_commands_load() -> None:
    commands = entry_points(group="bandits.commands")
    names = {entry.name for entry in commands}
    assert names == {
        "choose",
        "serve",
        "demo",
        "key",
        "user",
        "connection",
        "simulate",
        "mcp",
        "replay",
        "listmonk",
        "mautic",
        "keila",
        "tracking",
        "void",
        "db",
        "verify",
        "log",
        "evaluate",
    }
    for entry in commands:
        assert entry.load().name


def test_policies_are_found_by_themselves() -> None:
    registry = import_module("bandits.registry")
    modules = {e.name for e in files("policies").iterdir() if e.name.endswith(".py")}
    assert len(registry.policies()) == len(modules) - 1  # without __init__


def test_help_lists_every_command(tmp_path: Path) -> None:
    shown = run("--help", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for entry in entry_points(group="bandits.commands"):
        assert f"\n  {entry.name} " in shown.stdout


def test_a_ready_scenario_is_simulated_by_its_name(tmp_path: Path) -> None:
    listed = run("simulate", "--list", folder=tmp_path)
    assert listed.returncode == 0, listed.stderr
    scenarios = [e.name for e in files("simulations").joinpath("scenarios").iterdir()]
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert sorted(f"{n}.toml" for n in names) == sorted(n for n in scenarios if n.endswith(".toml"))
    ran = run("simulate", names[0], "--replications", "2", "--json", folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    policies = json.loads(ran.stdout)["policies"]
    assert policies
    assert all(p["regret"]["mean"] >= 0 for p in policies)


def test_a_database_is_made_by_its_migrations_and_verified(tmp_path: Path) -> None:
    for words in (["db", "upgrade"], ["db", "current"], ["verify"]):
        ran = run(*words, folder=tmp_path)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "bandits.db").stat().st_size > 0


def test_input_that_does_not_fit_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[environment]\nkind = "bernouli"\n')
    ran = run("simulate", wrong, folder=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr
