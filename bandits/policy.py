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
    """Turn a statistic into the probability of each arm.

    A policy holds parameters only. It never draws, learns, stores or reads a clock: the engine
    applies the newcomer cap and the floor, draws, and logs the very probability it drew from.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    support: ClassVar[tuple[float, float]]

    @property
    def statistic(self) -> type[Statistic]:
        """The statistic's family; policies of one family can follow each other."""
        ...

    def prepare(self, statistic: S_contra, problem: Problem, upcoming: int, rng: Generator) -> P:
        """Compute once per snapshot and eligible set the part that does not depend on the context.

        Args:
            statistic: the sums of the eligible arms, leading axes broadcast.
            problem: the arms, restricted alike.
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

    # Methods that a policy may offer on top; None where it does not.

    @property
    def sample(self) -> Callable[[P, FloatArray, Generator], IntArray] | None:
        """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch), independently.

        The law is that of the propensities, drawn faster than from them.
        """
        ...

    @property
    def advance(self) -> Callable[[P, IntArray, FloatArray, FloatArray], P] | None:
        """Learn one observation in each state: arms, rewards (*lead,), contexts (*lead, d).

        The result is what `prepare` would return for the statistic with these observations added,
        with weight 1, for a simulation that learns after every decision. It takes `prepared` over
        and may write to its arrays: use the result only.
        """
        ...

    @property
    def predictions(self) -> Callable[[P, FloatArray], FloatArray] | None:
        """Return the expected reward of each arm, (*lead, *batch, K), for (*lead, *batch, d).

        It is the posterior mean, without a width or draw for exploration.
        """
        ...

    @property
    def contributions(self) -> Callable[[P, FloatArray], "Contributions"] | None:
        """Split the prediction for one context (d,) by feature, for a state without lead.

        Receipts show it, of a policy whose rule rests on a linear score.
        """
        ...


class Contributions(Struct, frozen=True, eq=False):
    """Predictions of a linear model for one recipient of each of K arms, term by term.

    Attributes:
        terms: (K, d), the term of each feature of the context; a row's sum is the prediction.
        widths: (K,), the distance of the policy's bound from the prediction, or one standard
            deviation; 0 where the policy has neither.
        log_odds: true where the terms add up to log odds of the reward, else to the reward itself.
    """

    terms: FloatArray
    widths: FloatArray
    log_odds: bool = False


class OnlineState(Protocol):
    """A prepared state that learns one observation at a time."""

    def update(self, arms: IntArray, rewards: FloatArray) -> "OnlineState":
        """Add one observation to each state: arms, rewards (*lead,). Use the result only."""
        ...


def advance_online(
    policy: object,  # noqa: ARG001 - a method of policies
    prepared: OnlineState,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,  # noqa: ARG001 - no arm here depends on the recipient
) -> OnlineState:
    """Add one observation to each state: arms, rewards (*lead,)."""
    return prepared.update(arms, rewards)


def sample_arms(
    policy: Policy[Any, P], prepared: P, contexts: FloatArray, rng: Generator
) -> IntArray:
    """Draw an arm for each of contexts (*lead, *batch, d): (*lead, *batch), independently."""
    if policy.sample is not None:
        return policy.sample(prepared, contexts, rng)
    return draw_from_propensities(policy.propensities(prepared, contexts), contexts, rng)


def draw_from_propensities(
    propensities: FloatArray, contexts: FloatArray, rng: Generator
) -> IntArray:
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
    """Fields of a policy, each declared once, with its bounds and its help.

    ``Annotated[float, Meta(gt=0, description=...)]`` gives the check, the message, the JSON Schema,
    the web form's field and the documentation. Constructing a msgspec Struct checks nothing, so
    this one does.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    support: ClassVar[tuple[float, float]]
    advised: ClassVar[str] = ""
    statistic: ClassVar[type[Statistic]]
    sample: ClassVar[Callable[..., IntArray] | None] = None
    advance: ClassVar[Callable[..., Any] | None] = None
    predictions: ClassVar[Callable[..., FloatArray] | None] = None
    contributions: ClassVar[Callable[..., Contributions] | None] = None

    def __post_init__(self) -> None:
        """Check every field against its declaration.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        faults: list[Fault] = []
        for field in msgspec.structs.fields(self):
            raw = _plain(getattr(self, field.name))
            try:
                value = msgspec.convert(raw, field.type)
            except msgspec.ValidationError:
                faults += refusal(raw, field.type).under(pointer(field.name)).faults
                continue
            if not _is_finite(value):
                faults.append(Fault(pointer(field.name), "must be a finite number"))
            msgspec.structs.force_setattr(self, field.name, value)
        if faults:
            raise InvalidInput(faults)


def _plain(value: Any) -> Any:
    """Turn numpy's numbers and arrays into Python's, which declarations are about."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def _is_finite(value: Any) -> bool:
    """Return False for NaN and infinity, which pass comparisons with bounds."""
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
PosteriorDraws = Annotated[
    int,
    Meta(
        ge=1_000,
        le=100_000,
        title="Posterior draws",
        description="M: how many draws are frozen at each update.",
    ),
]
