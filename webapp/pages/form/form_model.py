"""The experiment form as it is typed: all text, right or wrong.

A field's name is its place: ``slots/0/variants/1/key``. A fault of the engine names its place in
the same way, so it is shown at its field. A row is added or removed without script: the whole form
is sent, and comes back with one row more or less.
"""

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from bandits.errors import InvalidInput
from bandits.machines import NEWEST_RULES

Kind = Literal["subject_line", "content", "discount", "other"]

KINDS: dict[Kind, str] = {
    "subject_line": "Subject line",
    "content": "Content block",
    "discount": "Discount",
    "other": "Other part",
}

# The field of a variant that says the most, by kind of part.
MAIN_FIELDS: dict[Kind, str] = {
    "subject_line": "text",
    "content": "html",
    "discount": "percent",
    "other": "name",
}


def slot_kind(typed: str) -> Kind:
    """Return the kind of slot that a form names, "other" for an unknown one."""
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
        """True while every field is empty."""
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
        """Name of the slot, or its kind while it has none."""
        return self.name.strip() or KINDS[slot_kind(self.kind)]


class TypedExclusion(Struct, frozen=True):
    """A combination to leave out: for each slot the position of a variant, or nothing for any."""

    levels: tuple[str, ...] = ()


class TypedMetric(Struct, frozen=True):
    """One kind of event and what it is worth; `count` is ``once``, ``sum`` or ``latest``.

    Attributes:
        margin: in per cent of the list price; where it is typed, it makes all weights.
        basis: whether values are told as ``paid`` or at ``list`` price.
        by: weights by variant that no margin makes, a line ``discount/d10 = 0.36`` for each.
    """

    name: str = ""
    weight: str = "1"
    count: str = "once"
    low: str = "0"
    high: str = "1"
    currency: str = ""
    margin: str = ""
    basis: str = "paid"
    by: str = ""


class TypedGuardrail(Struct, frozen=True):
    """A guardrail: its event, whether it is on, and its limit.

    Attributes:
        kind: ``limit``, a part of emails in per cent, or ``times``, a multiple of the control's.
    """

    event: str = ""
    on: str = ""
    amount: str = ""
    kind: str = "limit"
    action: str = "pause"
    scope: str = "arm"


class TypedFeature(Struct, frozen=True):
    """A feature of the context."""

    kind: str = "number"
    name: str = ""
    low: str = ""
    high: str = ""
    values: str = ""
    default: str = ""

    @property
    def blank(self) -> bool:
        """True while every field is empty."""
        return not any((self.name, self.low, self.high, self.values, self.default))


class TypedDuration(Struct, frozen=True):
    """A duration."""

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
    send_within: TypedDuration = TypedDuration("1", "days")
    strict: str = ""
    starts_at: TypedMoment = TypedMoment()
    ends_at: TypedMoment = TypedMoment()
    retention_days: str = ""
    machine_rules: str = ""
    policy: str = ""
    parameters: dict[str, dict[str, str]] = {}
    learn_every: TypedDuration = TypedDuration(unit="seconds")
    forgetting: str = "never"
    forgetting_time: TypedDuration = TypedDuration()
    version: str = ""
    attribution: str = ""
    guardrails: tuple[TypedGuardrail, ...] = ()
    paused: tuple[TypedExclusion, ...] = ()


class TypedAnswers(Struct, frozen=True):
    """The three questions that lead to a learning method."""

    differ: str = ""
    late: str = ""
    price: str = ""


class TypedPlan(Struct, frozen=True):
    """A plan: the emails, their waves, and the expected rates.

    Attributes:
        emails: number of emails.
        over: time from the first wave until the one after the last would leave.
        waves: number of equal waves.
        recipients: number of recipients, where each gets several of the emails.
        base: success rate of the worst arm, in per cent.
        better: lead of the best arm over that rate, in per cent.
        rates: success rate of each arm in per cent, instead of `base` and `better`.
        half: time after which half of the results are in.
        halves: that of each arm, as amounts in the unit of `half`.
        worth: mean reward of a success, where it varies.
        earlier: key of an earlier experiment with the expected rates.
    """

    emails: str = ""
    over: TypedDuration = TypedDuration()
    waves: str = ""
    base: str = ""
    better: str = "10"
    rates: tuple[str, ...] = ()
    worth: str = ""
    earlier: str = ""
    recipients: str = ""
    half: TypedDuration = TypedDuration(unit="hours")
    halves: tuple[str, ...] = ()


class TypedDraft(TypedExperiment, frozen=True):
    """The form of the five steps.

    Attributes:
        seen: steps that were saved at least once.
        edits: key of the experiment that it changes, "" for a new one.
        proposed_by: the program whose proposal it is, "" for a person's draft.
        reason: of that proposal, in the program's words.
    """

    answers: TypedAnswers = TypedAnswers()
    plan: TypedPlan = TypedPlan()
    seen: tuple[str, ...] = ()
    edits: str = ""
    proposed_by: str = ""
    reason: str = ""


METRICS = {
    "click": TypedMetric("click"),
    "open": TypedMetric("open"),
    "order": TypedMetric("order", "1", "sum", "0", "500"),
    "unsubscribe": TypedMetric("unsubscribe", "-5"),
    "other": TypedMetric(),
}

# Guardrails that every form offers, off until somebody wants them.
GUARDRAILS = (
    TypedGuardrail("complaint", amount="0.3"),
    TypedGuardrail("bounce", amount="1"),
    TypedGuardrail("unsubscribe", amount="1"),
)


def new_slot(kind: str) -> TypedSlot:
    """Make a part with two empty variants."""
    return TypedSlot(slot_kind(kind), variants=(TypedVariant(), TypedVariant()))


F = TypeVar("F", bound=TypedExperiment)


def new_form(kind: type[F]) -> F:
    """Return the form with which a new experiment starts."""
    return kind(
        slots=(new_slot("subject_line"),),
        metrics=(METRICS["click"],),
        window=TypedDuration("7", "days"),
        maturity=TypedDuration("1", "days"),
        holdout="5",
        machine_rules=str(NEWEST_RULES),
        policy="thompson",
        learn_every=TypedDuration("60", "seconds"),
    )


def read_fields(fields: Iterable[tuple[str, str]], kind: type[F]) -> F:
    """Build a form from the fields of a request.

    Raises:
        InvalidInput: the names are not those of this form.
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
        return msgspec.convert(_with_lists(tree), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput.at("", f"this is not the experiment form: {error}") from None


def _with_lists(branch: Any) -> Any:
    """Replace every branch with numbers as keys by a list, in the order of the numbers."""
    if not isinstance(branch, dict):
        return branch
    if branch and all(k.isascii() and k.isdigit() for k in branch):
        return [_with_lists(branch[k]) for k in sorted(branch, key=int)]
    return {k: _with_lists(v) for k, v in branch.items()}
