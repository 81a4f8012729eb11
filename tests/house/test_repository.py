"""What is in the repository, and what is not."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from tests.patience import LIMIT_SECONDS

ROOT = Path(__file__).parents[2]
LARGEST = 300_000  # bytes
DATA = {".csv", ".parquet", ".npz", ".npy", ".pkl", ".gz", ".xz", ".zip", ".db", ".sqlite"}
RELEASES = ROOT / "tests/upgrades"  # what each of them stored, made by itself
PACKAGES = ("bandits", "policies", "simulations", "storage", "webapp")


def tracked() -> list[Path]:
    """List what git keeps, as it stands in the folder."""
    listed = subprocess.run(
        [str(shutil.which("git")), "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    paths = [ROOT / p for p in listed.stdout.split("\0") if p]
    return [p for p in paths if p.exists()]


def test_files_are_small() -> None:
    large = {p.name: p.stat().st_size for p in tracked() if p.stat().st_size > LARGEST}
    assert large == {}


def test_data_sets_are_not_kept() -> None:
    kept = [p for p in tracked() if p.suffix in DATA]
    assert [p.name for p in kept if RELEASES not in p.parents] == []


def test_scripts_and_fonts_of_others_are_not_copied_in() -> None:
    assert [p.name for p in tracked() if p.name.endswith((".min.js", ".min.css", ".woff2"))] == []


def test_packages_of_the_simulator_have_few_modules() -> None:
    rooms = [p.parent for p in (ROOT / "simulations").rglob("__init__.py")]
    modules = {r.name: [m for m in r.glob("*.py") if m.name != "__init__.py"] for r in rooms}
    assert len(modules) > 1
    assert {name: len(found) for name, found in modules.items() if len(found) > 10} == {}


def test_tests_are_found_without_packages() -> None:
    assert [p for p in tracked() if p.name == "__init__.py" and "tests" in p.parts] == []


def test_tests_are_never_skipped() -> None:
    tests = [p for p in tracked() if p.name.startswith("test_") and p.suffix == ".py"]
    assert tests
    words = ("mark." + "skip", "pytest." + "skip(", "mark." + "xfail", "import" + "orskip")
    # The real log is no part of the project: a test that needs it says so in its name.
    text = {
        p.name: p.read_text().replace("needs_hillstrom = pytest.mark.skipif", "") for p in tests
    }
    assert {name: w for name, t in text.items() for w in words if w in t} == {}


def imported(path: Path) -> set[str]:
    """Find the top-level modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_imports_are_declared_in_setup_cfg() -> None:
    of_flask = {"itsdangerous", "jinja2", "markupsafe", "werkzeug"}  # which it declares
    ours = {*PACKAGES, *sys.stdlib_module_names, *of_flask}
    declared = {re.split(r"[^\w.-]", r)[0].lower() for r in requires("email-bandits") or ()}
    providers = packages_distributions()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for module in imported(path) - ours:
                names = {name.lower() for name in providers.get(module, ())}
                assert names & declared, f"{path.name} imports {module}"


def asked_for(tree: ast.AST) -> set[str]:
    """Find the strings that code compares with, matches, or looks up in a dict it spells out."""
    found: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare():
                found += [node.left, *node.comparators]
            case ast.Dict():
                found += node.keys
            case ast.MatchValue():
                found.append(node.value)
    parts = [n for f in found if f is not None for n in ast.walk(f)]
    return {n.value for n in parts if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_policies_are_never_asked_for_by_name() -> None:
    # A newcomer writes one file; nothing else may have to learn its name.
    names = {p.stem for p in (ROOT / "policies").glob("*.py")} - {"__init__"}
    assert len(names) > 5
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert asked_for(ast.parse(path.read_text())) & names == set(), path.name


def test_dispatch_guard_finds_dispatch_by_name() -> None:
    for code in ('x == "ucb1"', 'x in ("a", "ucb1")', '{"ucb1": 1}', 'match x:\n case "ucb1": 1'):
        assert "ucb1" in asked_for(ast.parse(code))
    assert asked_for(ast.parse('policy = make("ucb1")')) == set()


def test_a_policy_fits_on_a_page() -> None:
    for path in (ROOT / "policies").glob("*.py"):
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(code) <= 110, path.name


def words_asked(tree: ast.AST) -> set[int]:
    """Find the lines where a caught error is recognised by what it says."""
    lines = set()
    for handler in (n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.name):
        asking = (
            n for n in ast.walk(handler) if isinstance(n, ast.Compare | ast.Attribute | ast.Call)
        )
        for node in asking:
            match node:
                case ast.Compare():
                    parts = [node.left, *node.comparators]
                case ast.Attribute():  # a method of the text
                    parts = [node.value]
                case ast.Call(func=ast.Attribute(value=ast.Name(id="re"))):
                    parts = node.args
                case _:
                    parts = []
            if any(is_text_of(part, str(handler.name)) for part in parts):
                lines.add(node.lineno)
    return lines


def is_text_of(node: ast.AST, error: str) -> bool:
    """Tell whether an expression is the text, or the arguments, of the error of this name."""
    match node:
        case ast.Call(func=ast.Name(id="str" | "repr"), args=[inner]):
            return any(isinstance(n, ast.Name) and n.id == error for n in ast.walk(inner))
        case ast.Attribute(attr="args", value=ast.Name(id=name)):
            return name == error
        case ast.Subscript():
            return is_text_of(node.value, error)
    return False


def test_no_error_is_recognised_by_its_words() -> None:
    # They are a library's, or for people; both change. Errors differ by type, or carry a code.
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert words_asked(ast.parse(path.read_text())) == set(), path.name


def test_words_asked_finds_each_way_to_read_an_error() -> None:
    for asked in (
        '"locked" in str(e)',
        '"locked" not in str(e.orig)',
        'str(e).startswith("no")',
        'str(e).partition(" at ")',
        're.search("x", str(e))',
        '"x" in e.args[0]',
        'repr(e) == "x"',
    ):
        code = f"try:\n    f()\nexcept OSError as e:\n    g({asked})"
        assert words_asked(ast.parse(code)) == {4}, asked
    assert words_asked(ast.parse("try:\n    f()\nexcept OSError as e:\n    g(str(e))")) == set()
