"""Who takes part: what a scenario says of a contestant, and the contestant it means."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from msgspec import Meta, Struct, structs

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.registry import make, policies
from simulations.ab_tests.procedures import PROCEDURES
from simulations.convert import read
from simulations.learners.forgetting import DecisionForgetting
from simulations.learners.interfaces import LabelledLearner, LearnerFactory
from simulations.learners.policy_learner import PolicyLearnerFactory
from simulations.learners.value_remaining import ValueRemainingRule
from simulations.running.schedule import Run


class LearnerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What a scenario says of one contestant.

    Attributes:
        name: of a registered policy, or of a procedure such as ``ab_test``.
        params: its parameters.
        floor: the least share of each arm.
        forgetting: ``{half_life = …}`` or ``{window = …}``, in decisions.
        greedy_last_batch: send the best arm in the last batch, or each recipient theirs.
        stop: ``{remaining = …, after = …}``: stop, and send the champion.
        label: what tables call it; without one, its name and settings.
    """

    name: str
    params: dict[str, Any] = {}
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.0
    forgetting: dict[str, Any] | None = None
    greedy_last_batch: bool = False
    stop: dict[str, Any] | None = None
    label: Annotated[str, Meta(min_length=1, max_length=60)] | None = None

    def entrant(self) -> LabelledLearner:
        """Make what it means.

        Raises:
            InvalidInput: naming what does not fit.
        """
        label = self.label or self._described()
        if self.name in PROCEDURES:
            self._refuse_settings()
            return LabelledLearner(label, _at("/params", read, PROCEDURES[self.name], self.params))
        if self.name not in policies():
            known = ", ".join([*PROCEDURES, *policies()])
            raise InvalidInput.at("/name", f"unknown policy {self.name!r}; known are {known}")
        forgetting = None
        if self.forgetting is not None:
            forgetting = _at("/forgetting", read, DecisionForgetting, self.forgetting)
        policy = make(self.name, self.params)
        stop = None if self.stop is None else _at("/stop", read, ValueRemainingRule, self.stop)
        adaptive = PolicyLearnerFactory(
            policy, self.floor, forgetting, self.greedy_last_batch, stop
        )
        return LabelledLearner(label, adaptive)

    def _described(self) -> str:
        settings = {**self.params, **(self.forgetting or {})}
        if self.floor:
            settings["floor"] = self.floor
        if self.greedy_last_batch:
            settings["last_batch"] = "greedy"
        if self.stop is not None:
            settings["stop"] = self.stop.get("remaining", ValueRemainingRule().remaining)
        return _described(self.name, settings)

    def _refuse_settings(self) -> None:
        plain = LearnerConfig(self.name)
        for setting in ("floor", "forgetting", "greedy_last_batch", "stop"):
            if getattr(self, setting) != getattr(plain, setting):
                raise InvalidInput.at(f"/{setting}", f"{self.name} has no {setting}")


def _at(prefix: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except InvalidInput as error:
        raise error.under(prefix) from None


Given = str | Mapping[str, Any] | AnyPolicy | LearnerFactory


def lineup(policies: Sequence[Given]) -> list[LabelledLearner]:
    """Read who takes part: names, entries as in a scenario, policies or procedures.

    Raises:
        InvalidInput: at ``/policy/{position}/…``; all that are at fault are named.
    """
    found: list[LabelledLearner] = []
    faults: list[Fault] = []
    for position, given in enumerate(policies):
        try:
            entrant = _entrant(given)
            if entrant.label in {other.label for other in found}:
                raise InvalidInput.at("/label", f"two are called {entrant.label!r}")
            found.append(entrant)
        except InvalidInput as error:
            faults += error.under(pointer("policy", position)).faults
    if faults:
        raise InvalidInput(faults)
    if not found:
        raise InvalidInput.at("/policy", "is missing; name at least one")
    return found


def _entrant(given: Given) -> LabelledLearner:
    if isinstance(given, str):
        return LearnerConfig(given).entrant()
    if isinstance(given, Mapping):
        return read(LearnerConfig, dict(given)).entrant()
    if hasattr(given, "enter"):
        contestant = cast("LearnerFactory", given)
        name = getattr(given, "name", type(given).__name__)
        return LabelledLearner(_described(name, _changed(given)), contestant)
    return LabelledLearner(_described(given.name, _changed(given)), PolicyLearnerFactory(given))


def _described(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])[:60]


def _changed(parameters: Any) -> dict[str, Any]:
    """List the parameters that differ from their defaults, of what has declared any."""
    fields = structs.fields(parameters) if isinstance(parameters, Struct) else ()
    return {f.name: value for f in fields if (value := getattr(parameters, f.name)) != f.default}


def check(entrants: Sequence[LabelledLearner], problem: Problem, run: Run) -> None:
    """Refuse a run that does not fit the problem, and contestants that cannot play it.

    Raises:
        InvalidInput: at ``/run/…`` or ``/policy/{position}/…``; all that are at fault are named.
    """
    faults: list[Fault] = []
    if run.feedback is not None:
        try:
            run.feedback.check(problem)
        except InvalidInput as error:
            faults += error.under("/run/feedback").faults
    for position, entrant in enumerate(entrants):
        try:
            entrant.contestant.check(problem, run)
        except InvalidInput as error:
            faults += error.under(pointer("policy", position)).faults
    if faults:
        raise InvalidInput(faults)
