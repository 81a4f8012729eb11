"""Policies: pure functions to the simplex, in two steps, with declared parameters."""

from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.errors import Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.problem import Problem
from bandits.sampling import draw
from bandits.statistics import Statistic
from bandits.validation import refusal

S_contra = TypeVar("S_contra", bound=Statistic, contravariant=True)
P = TypeVar("P")


class Policy(Protocol[S_contra, P]):
    """Turn what is known into the probability of each arm.

    It holds parameters only. It never draws, learns, stores or looks at a clock: the engine applies
    the newcomer cap and the floor, draws, and logs the very probability it drew from.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    support: ClassVar[tuple[float, float]]

    @property
    def statistic(self) -> type[Statistic]:
        """The statistic family it reads; policies of one family can follow each other."""
        ...

    def prepare(self, known: S_contra, problem: Problem, upcoming: int, rng: Generator) -> P:
        """Do once per snapshot and eligible set what does not depend on the context.

        Args:
            known: the statistic of the eligible arms, leading axes broadcast.
            problem: what is chosen among, restricted alike.
            upcoming: sends expected before the next fold, at least 1.
            rng: for frozen posterior draws; the snapshot stores its seed.
        """
        ...

    def propensities(self, prepared: P, contexts: FloatArray) -> FloatArray:
        """Return the probability of each arm, (..., K), rows summing to 1.

        A contextual policy takes contexts (*lead, *batch, d) and returns (*lead, *batch, K). A
        policy whose family is not contextual ignores them and returns (*lead, K).
        """
        ...


class Sequential(Policy[S_contra, P], Protocol[S_contra, P]):
    """What a policy may offer on top, for simulation at speed; the law of its choices is the same.

    `sample_arms` uses `sample` where a policy has it; a simulation that learns after every decision
    uses `advance` where it has that, else it prepares anew.
    """

    def sample(self, prepared: P, contexts: FloatArray, rng: Generator) -> IntArray:
        """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch), independently."""
        ...

    def advance(self, prepared: P, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> P:
        """Learn one observation in each state: arms, rewards (*lead,), contexts (*lead, d).

        The result is what `prepare` would make of the statistic with these observations added, with
        weight 1. It takes `prepared` over and may write to its arrays: use the result only.
        """
        ...


class Contributions(Struct, frozen=True, eq=False):
    """What a linear model predicts for one recipient of each of K arms, term by term.

    Attributes:
        terms: (K, d), what each feature of the context adds; a row's sum is the prediction.
        widths: (K,), how far the policy looks beyond the prediction for how little is known: the
            bound's distance, or one standard deviation; 0 where it does not.
        log_odds: whether the terms add up to log odds of the reward, else to the reward itself.
    """

    terms: FloatArray
    widths: FloatArray
    log_odds: bool = False


class Explaining(Policy[S_contra, P], Protocol[S_contra, P]):
    """What a policy may offer on top whose rule rests on a linear score: receipts then show it."""

    def contributions(self, prepared: P, context: FloatArray) -> Contributions:
        """Take apart what is predicted for one context (d,), for a state without lead."""
        ...


class Predicting(Policy[S_contra, P], Protocol[S_contra, P]):
    """What a policy that decides by the context offers on top: what it expects, however unsure."""

    def predictions(self, prepared: P, contexts: FloatArray) -> FloatArray:
        """Return the reward to expect of each arm, (*lead, *batch, K), for (*lead, *batch, d).

        It is the posterior mean, without anything that is there to try arms out.
        """
        ...


def sample_arms(
    policy: Policy[Any, P], prepared: P, contexts: FloatArray, rng: Generator
) -> IntArray:
    """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch), independently."""
    sample: Callable[[P, FloatArray, Generator], IntArray] | None
    if sample := getattr(policy, "sample", None):
        return sample(prepared, contexts, rng)
    return draw_each(policy.propensities(prepared, contexts), contexts, rng)


def draw_each(propensities: FloatArray, contexts: FloatArray, rng: Generator) -> IntArray:
    """Draw arms from propensities (*lead, K) or (*lead, *batch, K): (*lead, *batch)."""
    shape = per_arm(propensities, contexts)[:-1]
    return draw(over_batch(propensities, contexts), rng.random(shape))


def over_batch(state: FloatArray, contexts: FloatArray) -> FloatArray:
    """Insert the batch axes of contexts (*lead, *batch, d) into state (*lead, K), as length 1."""
    *lead, n_arms = state.shape
    return state.reshape(*lead, *(1,) * (contexts.ndim - state.ndim), n_arms)


def per_arm(state: FloatArray, contexts: FloatArray) -> tuple[int, ...]:
    """Return (*lead, *batch, K) for state (*lead, K) and contexts (*lead or 1s, *batch, d)."""
    *lead, n_arms = state.shape
    return (*lead, *contexts.shape[len(lead) : -1], n_arms)


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a policy, each declared once, with its bounds and its help.

    ``Annotated[float, Meta(gt=0, description=...)]`` gives the check, the message, the JSON Schema,
    the web form's field and the documentation. Constructing a msgspec Struct checks nothing, so
    this does.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    support: ClassVar[tuple[float, float]]
    advised: ClassVar[str] = ""
    statistic: ClassVar[type[Statistic]]

    def __post_init__(self) -> None:
        """Check every field against its declaration.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        faults: list[Fault] = []
        for field in msgspec.structs.fields(self):
            given = _plain(getattr(self, field.name))
            try:
                value = msgspec.convert(given, field.type)
            except msgspec.ValidationError:
                faults += refusal(given, field.type).under(pointer(field.name)).faults
                continue
            if not _is_finite(value):
                faults.append(Fault(pointer(field.name), "must be a finite number"))
            msgspec.structs.force_setattr(self, field.name, value)
        if faults:
            raise InvalidInput(faults)


def _plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays into Python's, which is what declarations speak of."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def _is_finite(value: Any) -> bool:
    """Tell NaN and infinity, which pass comparisons with bounds or a missing bound."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isfinite(number) for number in numbers if isinstance(number, float))


AnyPolicy = Policy[Any, Any]


PriorSuccesses = Annotated[
    float,
    Meta(
        ge=0.1,
        le=1e6,
        title="Prior successes",
        description="Successes of each arm assumed before the first real one: the prior's α.",
    ),
]
PriorFailures = Annotated[
    float,
    Meta(
        ge=0.1,
        le=1e6,
        title="Prior failures",
        description="Failures of each arm assumed before the first real one: the prior's β.",
    ),
]
RidgePenalty = Annotated[
    float,
    Meta(
        ge=1e-3,
        le=1e6,
        title="Ridge penalty",
        description="λ: how many observations' worth of doubt each weight starts with.",
    ),
]
Spread = Annotated[
    float,
    Meta(
        ge=1e-6,
        le=100,
        title="Spread",
        description="How uncertain to be of weights: 1 is as the model says, less is bolder.",
    ),
]
