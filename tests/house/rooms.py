"""Write the tree of `docs/architecture.md`: a line for each module, from its docstring."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/architecture.md"
PACKAGES = ("bandits", "policies", "storage", "simulations", "webapp")
BEGIN, END = "<!-- tree -->", "<!-- end of tree -->"


def summary(path: Path) -> str:
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return docstring.split("\n")[0]


def folder_lines(folder: Path) -> list[str]:
    """List the modules of a folder, then its folders, as Markdown."""
    modules = sorted(p for p in folder.glob("*.py") if p.name != "__init__.py")
    lines = [f"**`{folder.relative_to(ROOT)}/`** {summary(folder / '__init__.py')}", ""]
    lines += [f"- `{p.name}`: {summary(p)}" for p in modules]
    lines += [""] if modules else []
    for below in sorted(p.parent for p in folder.glob("*/__init__.py")):
        if below.name != "versions":  # of migrations: each file is one change
            lines += folder_lines(below)
    return lines


def tree() -> str:
    """Return the section between the marks."""
    lines = [line for package in PACKAGES for line in folder_lines(ROOT / package)]
    return "\n".join([BEGIN, "", *lines, END])


def page() -> str:
    """Return the page with its tree made anew."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + tree() + rest.partition(END)[2]


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit("run `make docs`" if text != PAGE.read_text("utf-8") else 0)
    PAGE.write_text(text, "utf-8")
