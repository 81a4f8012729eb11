"""Scenario files: an environment, a run and its learners, in TOML."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct

from bandits.errors import InvalidInput
from bandits.identifiers import pointer
from simulations.convert import convert_value
from simulations.environments import KINDS, Environment
from simulations.learner_config import check_learners, label_learners
from simulations.running.delays import Feedback
from simulations.running.schedule import Run

_READY = files("simulations") / "scenarios"
_SUFFIX = ".toml"


class _ScenarioFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The sections of a scenario file."""

    environment: dict[str, Any]
    run: dict[str, Any]
    policy: list[dict[str, Any]]
    question: str = ""
    about: str = ""


class Scenario(Struct, frozen=True):
    """A question put to the simulator.

    Attributes:
        environment: the recipients.
        run: the run's settings.
        policies: the learners, as `label_learners` reads them.
        question: its question, in a marketer's words.
        about: a hint for reading the answer.
        source: the file's text.
    """

    environment: Environment
    run: Run
    policies: tuple[dict[str, Any], ...]
    question: str = ""
    about: str = ""
    source: str = ""


def parse(text: str) -> Scenario:
    """Read a scenario and check all of it.

    Raises:
        InvalidInput: it is not TOML, or at the place of each fault, such as
            ``/policy/1/params/share``.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput.at("", f"not TOML: {error}") from None
    except RecursionError:
        raise InvalidInput.at(
            "", "not a scenario: lists or tables lie too deep in each other"
        ) from None
    sections = convert_value(_ScenarioFile, raw)
    environment = _environment(sections.environment)
    run = _run(sections.run)
    learners = label_learners(sections.policy)
    check_learners(learners, environment.problem, run)
    policies = tuple(sections.policy)
    return Scenario(environment, run, policies, sections.question, sections.about, text)


def _environment(raw: dict[str, Any]) -> Environment:
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(KINDS)}
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        fault = f"unknown kind {kind!r}" if "kind" in raw else "is missing"
        raise InvalidInput.at("/environment/kind", f"{fault}; known are {', '.join(kinds)}")
    environment: Environment = _convert_section("environment", kinds[kind], raw)
    return environment


def _run(raw: dict[str, Any]) -> Run:
    if isinstance(feedback := raw.get("feedback"), dict):  # refused as a whole at its place
        try:
            convert_value(Feedback, feedback)
        except InvalidInput as error:
            raise error.under(pointer("run", "feedback")) from None
    run: Run = _convert_section("run", Run, raw)
    return run


def _convert_section(section: str, kind: Any, raw: dict[str, Any]) -> Any:
    try:
        return convert_value(kind, raw)
    except InvalidInput as error:
        raise error.under(pointer(section)) from None


def ready_scenarios() -> dict[str, str]:
    """Return the text of every ready scenario by name."""
    entries = [entry for entry in _READY.iterdir() if entry.name.endswith(_SUFFIX)]
    return {
        entry.name.removesuffix(_SUFFIX): entry.read_text("utf-8")
        for entry in sorted(entries, key=lambda entry: entry.name)
    }


def load(source: str) -> Scenario:
    """Read the scenario in a file, or the ready one of this name.

    Raises:
        InvalidInput: there is none, or a part of it does not fit.
    """
    path = Path(source)
    if path.is_file():
        try:
            return parse(path.read_text("utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput.at("", f"cannot read {source}: {error}") from None
    scenarios = ready_scenarios()
    if source not in scenarios:
        raise InvalidInput.at(
            "", f"no file {source!r}, and no ready scenario; ready are {', '.join(scenarios)}"
        )
    return parse(scenarios[source])
