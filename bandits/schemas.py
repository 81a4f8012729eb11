"""Schemas: requests of senders and the answers to them; the API validates with these types."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta, Struct

from bandits.features import Scalar
from bandits.identifiers import Key

_ID = r"^[\x21-\x7e]{1,128}\Z"
_LONGEST_ID = 128
_PRINTABLE = bytes(range(ord("!"), ord("~") + 1))
ID_TOLD = "1 to 128 printable ASCII characters without spaces"
Id = Annotated[str, Meta(pattern=_ID, description=ID_TOLD)]
# For thousands of ids at once: a pattern takes most of the time to read them, so the receiver
# checks the characters of all of them together: `misfits`.
OneOfManyIds = Annotated[
    str,
    Meta(min_length=1, max_length=128, description=ID_TOLD, extra_json_schema={"pattern": _ID}),
]


def misfits(ids: Sequence[str]) -> list[int]:
    """Find the positions of texts that are no `Id`, all at once."""
    joined = "".join(ids)
    fine = joined.isascii() and not joined.encode().translate(None, _PRINTABLE)
    if fine and all(ids) and max(map(len, ids), default=0) <= _LONGEST_ID:
        return []
    return [i for i, text in enumerate(ids) if re.search(_ID, text) is None]


MessageId = Annotated[
    str,
    Meta(
        pattern=r"^<?[!-;=?-~]{1,254}>?\Z",
        description="1 to 254 printable ASCII characters without spaces, < and >, or so in <>",
    ),
]
SubjectId = Annotated[str, Meta(min_length=1, max_length=256, description="who is decided for")]


class Request(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One recipient to decide for.

    Attributes:
        context: values of the recipient by declared feature.
        decision_id: made by the engine unless given; the same id again gets the same answer.
        eligible: for a slot, the variants that this recipient may get.
        personalize: false where the context may not be used; it is then not stored either.
    """

    subject_id: SubjectId
    context: dict[str, Scalar] | None = None
    decision_id: Id | None = None
    eligible: dict[str, Annotated[list[str], Meta(min_length=1)]] | None = None
    personalize: bool = True


class SlotChoice(TypedDict):
    """The variant that a slot of the email has.

    Attributes:
        variant: its key.
        payload: as it is declared; absent in a fallback that a client answered by itself.
    """

    variant: str
    payload: NotRequired[dict[str, Any]]


class Decision(Struct, frozen=True, gc=False):
    """The email to send.

    Attributes:
        decision_id: the id that rewards refer to; None for a dry run, which records nothing.
        slots: by slot, the chosen ``variant`` and its ``payload``.
        propensity: the very probability that it was drawn with.
        policy_version: the snapshot's version that it was drawn from.
        holdout: the subject is held out: gets the control, is never learned from.
        fallback: a stand-in, never learned from: the policy failed, or the request's `eligible`
            rules out what the subject has to get. It is the control, or where `eligible` rules that
            out, the first combination that it leaves.
        repeat: it was decided before, and this is the earlier answer.
        shipped: the experiment is stopped, and goes on sending this to all subjects, or the control
            to those held out, where it keeps its control group; never learned from.
    """

    decision_id: str | None
    slots: dict[str, SlotChoice]
    propensity: float
    policy_version: int
    holdout: bool = False
    fallback: bool = False
    repeat: bool = False
    shipped: bool = False


class Tracking(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Request behind an open or a click, by which machines are told from people.

    None of these texts is stored: of an address the keyed hash of its network is, of a link its
    keyed hash, of a program and of a mailbox the class.

    Attributes:
        kind: what it was; unless given, an open where the metric's name is one, else a click.
        ip: the address that it came from; what is none tells nothing.
        user_agent: the program that made it, as its request says.
        url: the link that was followed.
        recipient: the e-mail address that it was sent to, or its domain alone.
        machine: the sender itself says that no person did this.
        head: it asked for the head of the page alone.
        honeypot: nobody can see this link in the email.
        unsubscribe: this link unsubscribes; one whose address says so need not be marked.
    """

    kind: Literal["open", "click"] | None = None
    ip: Annotated[str, Meta(max_length=100)] | None = None
    user_agent: Annotated[str, Meta(max_length=4_000)] | None = None
    url: Annotated[str, Meta(max_length=8_000)] | None = None
    recipient: Annotated[str, Meta(max_length=320)] | None = None
    machine: bool = False
    head: bool = False
    honeypot: bool = False
    unsubscribe: bool = False


class Reward(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An event of a recipient: a click, an order. It names its decision, or its subject and time.

    Attributes:
        decision_id: the decision that it is of; left out where it has a `subject_id`.
        event_id: the sender's id of this event, required; the same again counts once. It must
            not begin with ``connection:`` or ``tracking:``, as those of mailers and links do.
        metric: a declared metric, or the name of a listed event, which earns nothing; required.
        occurred_at: when it happened, with its offset; now unless given. Required with
            `subject_id`.
        subject_id: who did it, where the sender does not know the decision: the event is credited
            to the newest decision of theirs at that time, among experiments that declare
            `attribution`.
        experiment: with `subject_id`: credit this experiment alone.
        original_event_id: with `subject_id`: the event that this one corrects, such as the order
            of a refund. It goes where that went.
        as_of: when this value became the current one, by the sender's clock, with its offset.
            Required where the metric counts the latest value; kept, and without effect, elsewhere.
        tracking: of an open or a click, the request behind it. Where the campaign leaves machines
            out, only events with it are judged; all others count.
    """

    # Empty where it is not given: fields without a default cannot follow one that has some.
    decision_id: OneOfManyIds = ""
    event_id: OneOfManyIds = ""
    metric: str = ""
    value: float = 1.0
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None
    tracking: Tracking | None = None
    subject_id: SubjectId | None = None
    experiment: Key | None = None
    original_event_id: OneOfManyIds | None = None
    as_of: Annotated[datetime, Meta(tz=True)] | None = None


def missing_fields(rewards: Sequence[Reward]) -> list[tuple[int, str]]:
    """Find the required fields that rewards lack, by position and name."""
    columns = {"event_id": [r.event_id for r in rewards], "metric": [r.metric for r in rewards]}
    return [
        (row, name)
        for name, texts in columns.items()
        if "" in texts
        for row, text in enumerate(texts)
        if not text
    ]


RefusalReason = Literal["another_key", "too_late", "id_reused", "eligible_sets", "invalid"]


class RefusedRow(Struct, frozen=True):
    """A row of a call that was refused alone; nothing of it was stored.

    Attributes:
        row: its position in the call, from 0.
        id: of its decision; null where the call gave it none.
        reason: ``another_key``: another key chose this decision, or reported this event.
            ``too_late``: its time to send is over, or the result is final. ``id_reused``: its id
            came before with another body, maybe of another key. ``eligible_sets``: its restriction
            is one more than the key may introduce. ``invalid``: a value does not fit.
        detail: the same in words.
    """

    row: int
    id: str | None
    reason: RefusalReason
    detail: str


class PartialDecisions(Struct, frozen=True):
    """Decisions in the order of their requests, null where the row is among the `refused`."""

    decisions: list[Decision | None]
    refused: list[RefusedRow]


class RewardReceipt(Struct, frozen=True):
    """Counts of recorded rewards; each is counted in exactly one of the first five, or refused.

    One by subject that counts in several experiments is counted for each of them.

    Attributes:
        accepted: stored, and inside their window.
        repeated: there before; counted once.
        late: stored, but after their window, or after a stopped experiment's result was final:
            they never count.
        unknown: the decision ids of those whose decision does not exist, or no longer.
        early: the decision ids of those that came before their decision was made or activated.
        skewed: of the first three, those from more than five minutes in the future: they count as
            of when they were reported, and the sender's clock, or this server's, is wrong.
        refused: those that did not fit, where others were to be taken all the same (`partial`).
        unattributed: the event ids of those by subject that belong to no decision; not stored.
        waiting: number of the unknown and early ones that wait: each counts once its decision is
            made and activated, if that is within a day. The others are not stored.
        cancelled: number of those whose decision was cancelled before it was activated: not
            stored. These are in none of the first five.
    """

    accepted: int
    repeated: int
    late: int
    unknown: list[str]
    early: list[str]
    skewed: int = 0
    refused: list[RefusedRow] = []
    unattributed: list[str] = []
    waiting: int = 0
    cancelled: int = 0


class Withdrawal(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Event that is taken back: an order that was cancelled, a click that was none.

    Attributes:
        decision_id: the decision that it is of.
        event_id: its id, as it was reported or will be.
    """

    decision_id: OneOfManyIds
    event_id: OneOfManyIds


class WithdrawalReceipt(Struct, frozen=True):
    """Counts of withdrawn events; each is counted in exactly one field.

    Attributes:
        accepted: they do not count any more, or never will.
        repeated: withdrawn before.
        unknown: the decision ids of those whose decision does not exist, or no longer: nothing was
            withdrawn.
        refused: those that may not be withdrawn, where others were to be all the same (`partial`).
    """

    accepted: int
    repeated: int
    unknown: list[str]
    refused: list[RefusedRow] = []


class Prediction(Struct, frozen=True):
    """Prediction of a linear model for one arm and one recipient.

    Attributes:
        features: the term of each feature of the encoded context, by its label: ``recency``,
            ``channel=Web``, and ``always 1`` for the term that all recipients share.
        total: their sum, which is the prediction.
        width: how far the policy looked beyond it, being unsure; 0 where it does not.
    """

    features: dict[str, float]
    total: float
    width: float


class Predictions(Struct, frozen=True):
    """Predictions of a linear model for one recipient: the reward of each arm, or its log odds.

    Attributes:
        scale: the unit of totals.
        arms: by arm (variant keys joined by `` · ``).
    """

    scale: Literal["reward", "log odds"]
    arms: dict[str, Prediction]


DerivationSource = Literal["snapshot", "shares", "kept", "log"]


class DecisionReceipt(Struct, frozen=True):
    """One decision, explained: why this email?

    Attributes:
        context: the values that the policy saw, by feature.
        propensities: by arm (variant keys joined by `` · ``), the probability of each eligible arm,
            derived again from the snapshot; None where it cannot be.
        uniform: the number in [0, 1) that drew, from the decision's id.
        derived: true where deriving it again gives the same arm and propensity.
        not_derivable: why it cannot be derived again, None where it was.
        started_at: when its clock started; null while it waits to be reported as sent.
        cancelled_at: when it was cancelled, null where that is void.
        events: those reported since, with those that never count: ``late``, or ``void``. Where the
            request behind one was reported, `tracking` is what is kept of it, and `set_aside` why
            it does not count.
        reward: the sum so far.
        shipped: the experiment was stopped, and went on sending this to all subjects.
        predictions: the contribution of each feature, where the policy's rule rests on a linear
            score and can be derived again.
        actor: who asked for it: an API key (``key:3``), a person or a program; None where that was
            not noted yet.
        void: the void that it is part of, since when and by whom: it counts for nothing; null where
            it counts.
        former_id: the id that it was drawn with, where that is a later decision's now.
        derived_from: what `propensities` rest on: ``snapshot`` `policy_version` itself, ``shares``
            of everybody at that snapshot, this decision's own that were ``kept`` with it, or the
            ``log``, summed anew as of then; null where they cannot be derived.
        weights: by metric, what one unit of it adds to the reward of these variants.
    """

    decision_id: str
    experiment: str
    configuration_version: int
    policy_version: int
    policy: str
    slots: dict[str, SlotChoice]
    propensity: float
    holdout: bool
    fallback: bool
    made_at: datetime
    started_at: datetime | None
    cancelled_at: datetime | None
    context: dict[str, Any]
    propensities: dict[str, float] | None
    uniform: float | None
    derived: bool | None
    not_derivable: str | None
    events: list[dict[str, Any]]
    reward: float
    shipped: bool = False
    predictions: Predictions | None = None
    actor: str | None = None
    void: "VoidEntry | None" = None
    former_id: str | None = None
    derived_from: DerivationSource | None = None
    weights: dict[str, float] = {}


class SubjectDecision(Struct, frozen=True):
    """One decision as it is stored of a subject.

    Attributes:
        context: the values that the policy saw, by feature.
        eligible: the restriction of the request, if any.
        events: those reported since, with those that never count.
        void: the number of the void that it is part of; null where it counts.
        former_id: the id that it had before a later decision got that one.
        message_ids: the mailer's ids of the email, where they were told.
    """

    decision_id: str
    experiment: str
    made_at: datetime
    started_at: datetime | None
    cancelled_at: datetime | None
    slots: dict[str, SlotChoice]
    propensity: float
    holdout: bool
    fallback: bool
    context: dict[str, Any]
    eligible: dict[str, list[str]] | None
    events: list[dict[str, Any]]
    void: int | None = None
    former_id: str | None = None
    message_ids: list[str] = []


class SubjectSignal(Struct, frozen=True):
    """Event that a connection received of a subject, and that no decision has.

    Attributes:
        connection: the key of the connection.
        reason: why it did not fit; null while it waits for its decision.
        content: as it is stored.
    """

    connection: str
    received_at: datetime
    reason: str | None
    content: str


class SubjectDecisions(Struct, frozen=True):
    """All that is stored of a subject, the oldest first; `next` continues, null at the end.

    Attributes:
        signals: events from connections that no decision has; on the first page alone.
        other_spellings: number of decisions that are not listed here, of subjects whose ids
            attribution takes for this one: in another case, with spaces around them, or in another
            form of Unicode.
        opted_out_at: when the subject asked that no choice uses its data, on the page that emails
            link to; null where it did not.
    """

    decisions: list[SubjectDecision]
    next: int | None
    signals: list[SubjectSignal] = []
    other_spellings: int = 0
    opted_out_at: datetime | None = None


class ErasureReceipt(Struct, frozen=True):
    """Receipt of an erasure: the number of decisions, and their experiments.

    Attributes:
        signals: number of events from connections that no decision had.
        other_spellings: number of decisions that are left, of subjects whose ids attribution takes
            for this one: in another case, with spaces around them, or in another form of Unicode.
    """

    decisions: int
    experiments: list[str]
    signals: int = 0
    other_spellings: int = 0


class VoidedArm(Struct, frozen=True):
    """Part of a void: decisions of one combination, by slot, and events of such."""

    variants: dict[str, str]
    decisions: int
    events: int


class VoidedExperiment(Struct, frozen=True):
    """What leaves an experiment with a void.

    Attributes:
        decisions: decisions that the actor had asked for, all arms and the control group.
        events: events of these decisions, or reported by the actor.
        activated: decisions of others that the actor had reported as sent.
        cancelled: decisions of others that the actor had cancelled: they count again.
        cancelled_before: decisions that the actor had asked for and that were cancelled: they
            count for nothing already, and give their ids and eligible sets back.
        held_out: how many of `decisions` are in the control group.
        arms: decisions and events by arm, without the control group.
        void: by which it is restored; null where nothing was done.
        refused: why nothing can be done; null where it can.
        withdrawn: events of decisions of others that the actor had taken back: they count again.
    """

    experiment: str
    decisions: int = 0
    events: int = 0
    activated: int = 0
    cancelled: int = 0
    cancelled_before: int = 0
    held_out: int = 0
    arms: list[VoidedArm] = []
    void: int | None = None
    refused: str | None = None
    withdrawn: int = 0


class VoidReceipt(Struct, frozen=True):
    """Receipt of a void, or with `dry_run` what it would take."""

    actor: str
    since: datetime
    until: datetime
    dry_run: bool
    experiments: list[VoidedExperiment]


class VoidEntry(Struct, frozen=True):
    """One void.

    Attributes:
        decisions: decisions that left by it.
        restored_at: when they came back; null while it is in force.
        given_on: decisions of the actor then whose ids later decisions have.
    """

    id: int
    experiment: str
    actor: str
    since: datetime
    until: datetime
    decisions: int
    at: datetime
    by: str
    restored_at: datetime | None
    restored_by: str | None
    given_on: int = 0
