"""What a policy is: a pure function to the simplex, in two steps, with declared parameters."""

from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
from msgspec import Struct
from numpy.random import Generator

from bandits.arrays import FloatArray
from bandits.errors import Fault, InvalidInput
from bandits.problem import Problem
from bandits.statistics import Statistic

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

        A contextual policy takes contexts (..., d) and broadcasts their leading axes against the
        prepared state's. A policy whose family is not contextual ignores them and returns the
        prepared state's own shape, (..., K).
        """
        ...


class Parameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of a policy, each declared once, with its bounds and its help.

    ``Annotated[float, Meta(gt=0, description=...)]`` gives the check, the message, the JSON Schema,
    the web form's field and the documentation. Constructing a msgspec Struct checks nothing, so
    this does.
    """

    def __post_init__(self) -> None:
        """Check every field against its declaration.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        faults = []
        for field in msgspec.structs.fields(self):
            try:
                value = msgspec.convert(getattr(self, field.name), field.type)
            except msgspec.ValidationError as error:
                faults.append(Fault(f"/{field.name}", str(error)))
            else:
                msgspec.structs.force_setattr(self, field.name, value)
        if faults:
            raise InvalidInput(faults)


AnyPolicy = Policy[Any, Any]
