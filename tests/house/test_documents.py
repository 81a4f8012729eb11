"""What exists is documented, and what is documented exists."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bandits.cli import group
from tests.patience import LIMIT_SECONDS

ROOT = Path(__file__).parents[2]
PACKAGES = ("bandits", "policies", "simulations", "storage", "webapp")
PAGES = sorted(
    p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/*.md")]
)
ADRS = sorted(ROOT.glob("docs/adr/*.md"))
VARIABLE = re.compile(r"\bBANDITS_[A-Z0-9_]+\b")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fenced(path: Path) -> Iterator[str]:
    """Go through the commands in a page's shell blocks, continued lines joined."""
    for block in re.findall(
        r"^```(?:sh|bash|console)\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL
    ):
        yield from block.replace("\\\n", " ").splitlines()


def bandits_commands() -> list[tuple[str, list[str]]]:
    """List every `bandits …` that a page tells its reader to type."""
    typed = re.compile(r"(?:^|[\s(]|bin/)bandits +([^|&>)#]*)")
    return [
        (name_of(path), shlex.split(words))
        for path in PAGES
        for line in fenced(path)
        for words in typed.findall(line)
    ]


def variables_in_code() -> set[str]:
    """Find every environment variable of ours that the code or a setting reads."""
    from webapp.settings import PREFIX, Settings  # noqa: PLC0415 - documents need no web server

    text = "".join(p.read_text() for name in PACKAGES for p in (ROOT / name).rglob("*.py"))
    settings = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    return settings | {v for v in VARIABLE.findall(text) if not v.endswith("_")}


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository's folder."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, cwd=ROOT
    )


def test_the_command_line_page_is_what_the_commands_say() -> None:
    script = [sys.executable, ROOT / "tests/house/command_line.py"]
    made = run(script)
    assert made.returncode == 0, made.stderr
    assert (ROOT / "docs/command-line.md").read_text() == made.stdout, "run `make docs`"


def test_the_simulations_page_lists_every_key_of_a_scenario_file() -> None:
    script = [sys.executable, ROOT / "tests/house/scenario_keys.py", "--check"]
    made = run(script)
    assert made.returncode == 0, made.stderr + made.stdout


def test_the_policies_page_is_what_the_policies_declare() -> None:
    command = [sys.executable, "-m", "simulations.policy_docs", "--check"]
    made = run(command)
    assert made.returncode == 0, made.stderr + made.stdout


def test_the_pages_of_connections_are_what_their_kinds_declare() -> None:
    made = run([sys.executable, "-m", "webapp.signals.kind_docs", "--check"])
    assert made.returncode == 0, made.stderr + made.stdout


@pytest.mark.parametrize(("page", "words"), bandits_commands())
def test_a_command_in_a_page_exists_with_its_options(page: str, words: list[str]) -> None:
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        below = command.get_command(context, words[0])
        assert below is not None, f"{page}: there is no command {words[0]!r}"
        command, words = below, words[1:]
    known = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
    known |= {"-h", "--help"}
    unknown = {w.split("=")[0] for w in words if w.startswith("-")} - known
    assert not unknown, f"{page}: {command.name} has no {unknown}"


def test_every_command_is_shown_in_use_somewhere() -> None:
    shown = {" ".join(words) for _, words in bandits_commands()}
    for name in group.list_commands(click.Context(group)):
        assert any(f"{line} ".startswith(f"{name} ") for line in shown), f"show bandits {name}"


def test_every_setting_is_documented_for_the_person_who_runs_a_server() -> None:
    documented = set(VARIABLE.findall((ROOT / "docs/operations.md").read_text()))
    assert variables_in_code() - documented == set()


def test_every_variable_that_a_page_names_is_read_by_the_code() -> None:
    known = variables_in_code()
    for path in PAGES:
        assert set(VARIABLE.findall(path.read_text())) <= known, name_of(path)


def test_every_make_target_is_told_to_contributors() -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for target in targets[1].split():
        assert f"make {target}" in text, target


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", ADRS, ids=name_of)
def test_adr_is_one_page_with_its_context_and_its_cost(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"# \d+\. .+", lines[0])
    assert [line for line in lines if line.startswith("## ")] == [
        "## Context",
        "## Decision",
        "## Cost",
    ]
    assert len(lines) <= 60


def test_the_threat_model_is_one_page_that_users_and_operators_find() -> None:
    assert "(docs/threat-model.md)" in (ROOT / "README.md").read_text()
    assert "(threat-model.md)" in (ROOT / "docs/operations.md").read_text()
    text = (ROOT / "docs/threat-model.md").read_text()
    assert "(../tests/integration/test_api_security.py)" in text
    assert len(text.splitlines()) <= 60


def test_adr_numbers_are_distinct() -> None:
    numbers = [int(p.name[:4]) for p in ADRS]
    assert len(set(numbers)) == len(numbers) >= 10
    for number, path in zip(numbers, ADRS, strict=True):
        assert path.read_text().startswith(f"# {number}. ")


def test_the_changelog_has_a_place_for_what_is_not_released_yet() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", h) for h in headings[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_test_folders_are_described() -> None:
    text = (ROOT / "tests/README.md").read_text()
    for folder in (p for p in (ROOT / "tests").iterdir() if p.is_dir() and any(p.glob("*.py"))):
        assert f"`{folder.name}/`" in text, folder.name


def test_modules_have_docstrings() -> None:
    for name in PACKAGES:
        for path in (ROOT / name).rglob("*.py"):
            documented = ast.get_docstring(ast.parse(path.read_text())) or ""
            assert documented not in {"", "Placeholder."}, name_of(path)
