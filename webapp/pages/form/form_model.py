"""What a person has typed into the experiment form so far: all text, right or wrong.

A field's name is its place: ``slots/0/variants/1/key``. So a fault of the engine, which names its
place in the same way, finds its field, and a row is added or removed without script by sending the
whole form and getting it back with one row more or less.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from bandits.errors import InvalidInput

Kind = Literal["subject_line", "content", "discount", "other"]

KINDS: dict[Kind, str] = {
    "subject_line": "Subject line",
    "content": "Content block",
    "discount": "Discount",
    "other": "Other part",
}


def kind_of(typed: str) -> Kind:
    """Return the kind of part that was chosen."""
    return next((kind for kind in KINDS if kind == typed), "other")


class TypedVariant(Struct, frozen=True):
    """A variant's row; which of `text`, `html` and `percent` is shown depends on the kind."""

    key: str = ""
    name: str = ""
    text: str = ""
    html: str = ""
    percent: str = ""
    more: str = ""
    paused: str = ""
    cost: str = ""

    @property
    def blank(self) -> bool:
        """Whether nothing was typed."""
        return not any(getattr(self, f).strip() for f in self.__struct_fields__)


class TypedSlot(Struct, frozen=True):
    """A part of the email; `control` is the position of the variant it is compared with."""

    kind: str = "other"
    key: str = ""
    name: str = ""
    variants: tuple[TypedVariant, ...] = ()
    control: str = "0"
    paste: str = ""

    @property
    def title(self) -> str:
        """What to call it while it may not have a name yet."""
        return self.name.strip() or KINDS[kind_of(self.kind)]


class TypedExclusion(Struct, frozen=True):
    """A combination to leave out: for each slot the position of a variant, or nothing for any."""

    levels: tuple[str, ...] = ()


class TypedMetric(Struct, frozen=True):
    """One kind of event and what it is worth."""

    name: str = ""
    weight: str = "1"
    count: str = "once"
    low: str = "0"
    high: str = "1"


class TypedFeature(Struct, frozen=True):
    """Something known of a recipient."""

    kind: str = "number"
    name: str = ""
    low: str = ""
    high: str = ""
    values: str = ""
    default: str = ""

    @property
    def blank(self) -> bool:
        """Whether nothing was typed."""
        return not any((self.name, self.low, self.high, self.values, self.default))


class TypedDuration(Struct, frozen=True):
    """A length of time."""

    amount: str = ""
    unit: str = "days"


class TypedMoment(Struct, frozen=True):
    """A date and time as a browser types it: 2026-12-01T09:00.

    Attributes:
        local: in a zone whose clocks show `offset` minutes more than UTC at that moment; the page's
            script makes that the viewer's zone, without script it is UTC.
        offset: minutes.
    """

    local: str = ""
    offset: str = "0"


class TypedExperiment(Struct, frozen=True):
    """The whole form. `version` is the configuration an edit was made from."""

    name: str = ""
    key: str = ""
    slots: tuple[TypedSlot, ...] = ()
    exclude: tuple[TypedExclusion, ...] = ()
    metrics: tuple[TypedMetric, ...] = ()
    window: TypedDuration = TypedDuration()
    maturity: TypedDuration = TypedDuration()
    goal: str = "maximise"
    context: tuple[TypedFeature, ...] = ()
    assignment: str = "per_decision"
    holdout: str = ""
    floor: str = ""
    await_activation: str = ""
    strict: str = ""
    starts_at: TypedMoment = TypedMoment()
    ends_at: TypedMoment = TypedMoment()
    retention_days: str = ""
    policy: str = ""
    parameters: dict[str, dict[str, str]] = {}
    learn_every: TypedDuration = TypedDuration(unit="seconds")
    forgetting: str = "never"
    forgetting_time: TypedDuration = TypedDuration()
    version: str = ""


class TypedAnswers(Struct, frozen=True):
    """The three questions that lead to a learning method."""

    differ: str = ""
    late: str = ""
    price: str = ""


class TypedPlan(Struct, frozen=True):
    """What is to be sent, and what is expected of it.

    Attributes:
        emails: how many.
        over: how long from the first wave until the one after the last would leave.
        waves: in how many equal waves.
        base: the success rate of the weakest version, in per cent.
        better: by how many per cent the best version beats that one.
        rates: instead of those two, the rate of each version in per cent.
        worth: what a success brings, where that is not always the same.
        earlier: the campaign whose results to expect.
    """

    emails: str = ""
    over: TypedDuration = TypedDuration()
    waves: str = ""
    base: str = ""
    better: str = "10"
    rates: tuple[str, ...] = ()
    worth: str = ""
    earlier: str = ""


class TypedDraft(TypedExperiment, frozen=True):
    """Everything that is typed on the way to an experiment.

    Attributes:
        seen: the steps that were saved at least once.
        edits: the key of the experiment that it changes, "" for a new one.
    """

    answers: TypedAnswers = TypedAnswers()
    plan: TypedPlan = TypedPlan()
    seen: tuple[str, ...] = ()
    edits: str = ""


METRICS = {
    "click": TypedMetric("click"),
    "open": TypedMetric("open"),
    "order": TypedMetric("order", "1", "sum", "0", "500"),
    "unsubscribe": TypedMetric("unsubscribe", "-5"),
    "other": TypedMetric(),
}


def new_slot(kind: str) -> TypedSlot:
    """Make a part with two empty variants."""
    return TypedSlot(kind_of(kind), variants=(TypedVariant(), TypedVariant()))


F = TypeVar("F", bound=TypedExperiment)


def fresh(kind: type[F]) -> F:
    """Make the form that a new experiment starts from."""
    return kind(
        slots=(new_slot("subject_line"),),
        metrics=(METRICS["click"],),
        window=TypedDuration("7", "days"),
        maturity=TypedDuration("1", "days"),
        holdout="5",
        policy="thompson",
        learn_every=TypedDuration("60", "seconds"),
    )


def read(fields: Iterable[tuple[str, str]], kind: type[F]) -> F:
    """Put the fields of a submitted form together.

    Raises:
        InvalidInput: the names are none of this form's.
    """
    tree: dict[str, Any] = {}
    for name, value in fields:
        *path, leaf = name.split("/")
        branch: Any = tree
        for part in path:
            branch = branch.setdefault(part, {}) if isinstance(branch, dict) else {}
        if isinstance(branch, dict):
            branch[leaf] = value.replace("\r\n", "\n")
    try:
        return msgspec.convert(_listed(tree), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput.at("", f"this is not the experiment form: {error}") from None


def _listed(branch: Any) -> Any:
    """Turn every branch whose keys are numbers into a list, in the order of the numbers."""
    if not isinstance(branch, dict):
        return branch
    if branch and all(k.isascii() and k.isdigit() for k in branch):
        return [_listed(branch[k]) for k in sorted(branch, key=int)]
    return {k: _listed(v) for k, v in branch.items()}
