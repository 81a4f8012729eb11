"""`docs/architecture.md` keeps to the code: its tree, its paths, and the files it names."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
rooms = SimpleNamespace(**runpy.run_path(str(HERE / "rooms.py")))
paths = SimpleNamespace(**runpy.run_path(str(HERE / "paths.py")))

TEXT = rooms.PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))
# Named for the reader, and on no path that is recorded: another database, and who calls a fold.
BESIDE = {"storage/databases/postgresql.py", "webapp/fold_worker.py"}


def named(text: str) -> set[str]:
    """Return the files and folders that a text names by their paths."""
    return set(re.findall(r"`((?:[a-z_]+/)+(?:\w+\.\w+)?)`", text))


def test_tree_is_made_from_the_modules() -> None:
    assert rooms.page() == TEXT, "run `make docs`"


def test_named_files_and_folders_exist() -> None:
    assert len(named(TEXT)) > 60
    assert {name for name in named(TEXT) if not (rooms.ROOT / name).exists()} == set()


@pytest.fixture(scope="module")
def files() -> dict[str, set[str]]:
    return {title: set(record.files) for title, record in paths.recordings().items()}


def test_path_of_choose_names_each_of_its_files(files) -> None:
    assert named(SECTIONS["Choose"]) - BESIDE == files["choose"]


@pytest.mark.parametrize(("section", "title"), [("Reward", "reward"), ("Fold", "fold of sent")])
def test_path_names_only_files_that_it_runs_through(files, section: str, title: str) -> None:
    code = {name for name in named(SECTIONS[section]) if name.endswith(".py")}
    assert len(code) > 5
    assert code - BESIDE <= files[title]
