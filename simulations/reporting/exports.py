"""A result as a file, its form told by the name: HTML, PNG, parquet or CSV."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pyarrow.csv as pa_csv

from bandits.errors import InvalidInput
from simulations.reporting.result import Result
from simulations.scenario import Scenario

_PNG_WIDTH, _PNG_HEIGHT, _PNG_SCALE = 1000, 560, 2


def check_path(path: Path) -> None:
    """Refuse, before anything is simulated, a file that could not be written after it.

    Raises:
        InvalidInput: of no known form, or in no folder.
    """
    if path.suffix.lower() not in FORMS:
        raise InvalidInput.at("", f"cannot write {path}: give it one of {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise InvalidInput.at("", f"cannot write {path}: no folder {str(path.parent)!r}")


def export(path: Path, result: Result, scenario: Scenario) -> None:
    """Write a result in the form that the file's name asks for.

    Raises:
        InvalidInput: it cannot be written.
    """
    check_path(path)
    try:
        FORMS[path.suffix.lower()](path, result, scenario)
    except OSError as error:
        raise InvalidInput.at("", f"cannot write {path}: {error.strerror or error}") from None


def _html(path: Path, result: Result, scenario: Scenario) -> None:
    from simulations.reporting.html_report import html_report  # noqa: PLC0415 - drawing is loaded when used

    title = scenario.question or "Simulation"
    text = html_report(result, title=title, about=scenario.about, source=scenario.source)
    path.write_text(text, "utf-8")


def _png(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - a picture has no room for it
    try:
        import kaleido  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise InvalidInput.at(
            "", "pictures need an extra, and Chromium: pip install 'email-bandits[png]'"
        ) from None
    figure = result.figure()
    figure.update_layout(paper_bgcolor="white")
    image = figure.to_image("png", width=_PNG_WIDTH, height=_PNG_HEIGHT, scale=_PNG_SCALE)
    path.write_bytes(image)


def _parquet(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - numbers only
    result.to_parquet(path)


def _csv(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - numbers only
    pa_csv.write_csv(result.replicated(), path)


FORMS: Mapping[str, Callable[[Path, Result, Scenario], None]] = MappingProxyType(
    {".html": _html, ".png": _png, ".parquet": _parquet, ".csv": _csv}
)
