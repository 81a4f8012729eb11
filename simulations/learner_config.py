"""Configuration of learners: an entry of a scenario file, and the learner that it means."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.registry import make, policies
from simulations.ab_tests.procedures import PROCEDURES
from simulations.convert import convert_value
from simulations.learners.guarded import GuardrailRule
from simulations.learners.interfaces import LabelledLearner, LearnerFactory
from simulations.learners.memory import DecisionForgetting
from simulations.learners.policy_learner import PolicyLearnerFactory
from simulations.learners.remaining_value import ValueRemainingRule
from simulations.running.schedule import Run


class LearnerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One learner of a scenario.

    Attributes:
        name: of a registered policy, or of a procedure such as ``ab_test``.
        params: its parameters.
        floor: the least share of each arm.
        forgetting: ``{half_life = …}`` or ``{window = …}``, in decisions.
        greedy_last_batch: send the best arm in the last batch, or each recipient theirs.
        stop: ``{remaining = …, after = …}``: stop, and send the champion.
        guardrail: ``{limit = …}``: pause arms with too many events of `run.unwanted`.
        label: its name in tables; without one, its name and settings.
    """

    name: str
    params: dict[str, Any] = {}
    floor: Annotated[float, Meta(ge=0, le=1)] = 0.0
    forgetting: dict[str, Any] | None = None
    greedy_last_batch: bool = False
    stop: dict[str, Any] | None = None
    guardrail: dict[str, Any] | None = None
    label: Annotated[str, Meta(min_length=1, max_length=60)] | None = None

    def labelled_learner(self) -> LabelledLearner:
        """Make the learner's factory, with its label.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        label = self.label or self._default_label()
        if self.name in PROCEDURES:
            self._refuse_settings()
            return LabelledLearner(
                label, _at("/params", convert_value, PROCEDURES[self.name], self.params)
            )
        if self.name not in policies():
            names = ", ".join([*PROCEDURES, *policies()])
            raise InvalidInput.at("/name", f"unknown policy {self.name!r}; known are {names}")
        forgetting = None
        if self.forgetting is not None:
            forgetting = _at("/forgetting", convert_value, DecisionForgetting, self.forgetting)
        policy = make(self.name, self.params)
        stop = (
            None
            if self.stop is None
            else _at("/stop", convert_value, ValueRemainingRule, self.stop)
        )
        guardrail = (
            None
            if self.guardrail is None
            else _at("/guardrail", convert_value, GuardrailRule, self.guardrail)
        )
        factory = PolicyLearnerFactory(
            policy, self.floor, forgetting, self.greedy_last_batch, stop, guardrail
        )
        return LabelledLearner(label, factory)

    def _default_label(self) -> str:
        settings = {**self.params, **(self.forgetting or {})}
        if self.floor:
            settings["floor"] = self.floor
        if self.greedy_last_batch:
            settings["last_batch"] = "greedy"
        if self.stop is not None:
            settings["stop"] = self.stop.get("remaining", ValueRemainingRule().remaining)
        if self.guardrail is not None:
            settings["guardrail"] = self.guardrail.get("limit")
        return _label(self.name, settings)

    def _refuse_settings(self) -> None:
        plain = LearnerConfig(self.name)
        for setting in ("floor", "forgetting", "greedy_last_batch", "stop", "guardrail"):
            if getattr(self, setting) != getattr(plain, setting):
                raise InvalidInput.at(f"/{setting}", f"{self.name} has no {setting}")


def _at(prefix: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except InvalidInput as error:
        raise error.under(prefix) from None


LearnerSpec = str | Mapping[str, Any] | AnyPolicy | LearnerFactory

# Types whose instances are learner factories themselves; any other object is a policy.
_FACTORIES: Mapping[type, Callable[[Any], LearnerFactory]] = {
    factory: lambda spec: spec for factory in (*PROCEDURES.values(), PolicyLearnerFactory)
}


def label_learners(specs: Sequence[LearnerSpec]) -> list[LabelledLearner]:
    """Read learners: names, entries as in a scenario, policies or procedures.

    Raises:
        InvalidInput: at ``/policy/{position}/…``; all that are at fault are named.
    """
    learners: list[LabelledLearner] = []
    faults: list[Fault] = []
    for position, spec in enumerate(specs):
        try:
            learner = _labelled_learner(spec)
            if learner.label in {other.label for other in learners}:
                raise InvalidInput.at("/label", f"two are called {learner.label!r}")
            learners.append(learner)
        except InvalidInput as error:
            faults += error.under(pointer("policy", position)).faults
    if faults:
        raise InvalidInput(faults)
    if not learners:
        raise InvalidInput.at("/policy", "is missing; name at least one")
    return learners


def _labelled_learner(spec: LearnerSpec) -> LabelledLearner:
    if isinstance(spec, str):
        return LearnerConfig(spec).labelled_learner()
    if isinstance(spec, Mapping):
        return convert_value(LearnerConfig, dict(spec)).labelled_learner()
    create_factory = _FACTORIES.get(type(spec), PolicyLearnerFactory)
    return LabelledLearner(_label(spec.name, _changed_settings(spec)), create_factory(spec))


def _label(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])[:60]


def _changed_settings(parameters: Any) -> dict[str, Any]:
    """List the parameters that differ from their defaults, where any are declared."""
    fields = structs.fields(parameters) if isinstance(parameters, Struct) else ()
    return {f.name: value for f in fields if (value := getattr(parameters, f.name)) != f.default}


def check_learners(learners: Sequence[LabelledLearner], problem: Problem, run: Run) -> None:
    """Refuse a run that does not fit the problem, and learners that cannot play it.

    Raises:
        InvalidInput: at ``/run/…`` or ``/policy/{position}/…``; all that are at fault are named.
    """
    faults: list[Fault] = []
    if run.feedback is not None:
        try:
            run.feedback.check(problem)
        except InvalidInput as error:
            faults += error.under("/run/feedback").faults
    if run.unwanted is not None and len(run.unwanted) != problem.n_arms:
        detail = f"must have {problem.n_arms} chances, one for each arm"
        faults.append(Fault("/run/unwanted", detail))
    for position, learner in enumerate(learners):
        try:
            learner.factory.check(problem, run)
        except InvalidInput as error:
            faults += error.under(pointer("policy", position)).faults
    if faults:
        raise InvalidInput(faults)
