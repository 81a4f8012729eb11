"""Decisions: choosing an email, activating, cancelling and explaining what was chosen."""

from collections.abc import Callable, Sequence
from typing import Annotated

from msgspec import Meta, Struct, structs

from bandits.engine import MAX_BATCH
from bandits.errors import Fault, IdReused, InvalidInput, NotFound, WrongState
from bandits.ids import time_ordered_id
from bandits.schemas import Decision, DecisionReceipt, Id, MessageId, RefusedRow, Request
from bandits.store.values import MarkResult
from storage.accounts.api_keys import ApiKey
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.services import Services

operations = OperationGroup("decisions")

_FIRST = "/requests/0"
_REQUEST = {"subject_id": "u-1", "context": {"recency": 3, "channel": "Web"}}
_IDS = {"decision_ids": ["spring-u-1", "spring-u-2"]}
_EMAIL = {"decision_id": "spring-u-2", "message_id": "4f1c@mail.shop.example"}
_SENT = {"decision_ids": ["spring-u-1"], "decisions": [_EMAIL]}


class ChooseBatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Recipients to decide for.

    Attributes:
        dry_run: decide without recording.
        partial: refuse a row by itself where its id came before with another body, or where it has
            one more restriction than the key may introduce, and decide for the others.
    """

    requests: Annotated[list[Request], Meta(max_length=MAX_BATCH)]
    dry_run: bool = False
    partial: bool = False


class DecisionList(Struct, frozen=True):
    """The decisions, in the order of the requests; null in rows that are `refused`."""

    decisions: Sequence[Decision | None]
    refused: list[RefusedRow] = []


class DecisionIds(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions, by their ids."""

    decision_ids: Annotated[list[Id], Meta(max_length=MAX_BATCH)]


class SentEmail(Struct, frozen=True, forbid_unknown_fields=True):
    """An email that is sent now.

    Attributes:
        decision_id: the decision that it is sent for.
        message_id: the mailer's id of the email, with or without <>. Events of connections that
            name it are this decision's.
    """

    decision_id: Id
    message_id: MessageId


class SentDecisions(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions whose emails are sent now.

    Attributes:
        decision_ids: of decisions.
        decisions: those whose email has an id of the mailer, with it.
    """

    decision_ids: Annotated[list[Id], Meta(max_length=MAX_BATCH)] = []
    decisions: Annotated[list[SentEmail], Meta(max_length=MAX_BATCH)] = []


def _identify(body: Request, make_ids: Callable[[int], list[str]]) -> Request:
    """Give an id to a request without one."""
    return body if body.decision_id else structs.replace(body, decision_id=make_ids(1)[0])


def _identify_batch(body: ChooseBatch, make_ids: Callable[[int], list[str]]) -> ChooseBatch:
    """Give an id to each request without one; a dry run records none."""
    if body.dry_run:
        return body
    ids = make_ids(len(body.requests))
    requests = [
        r if r.decision_id else structs.replace(r, decision_id=i)
        for r, i in zip(body.requests, ids, strict=True)
    ]
    return structs.replace(body, requests=requests)


@operations(
    "POST",
    "/experiments/<key:key>/choose",
    scope="choose",
    body=Body(Request, example=_REQUEST),
    gives={"decision_id": "$response.body#/decision_id"},
    answers={201: Decision, 200: Decision},
    refusals=(NotFound, WrongState, IdReused),
    takes_caller=True,
    fast=True,
    idempotent=True,
    repeatable=True,
    identify=_identify,
)
def choose(services: Services, key: str, body: Request, caller: ApiKey) -> OperationResponse:
    """Decide which email to send to one recipient.

    Answers 201 for a new decision and 200 for an earlier one: of the same `decision_id`, or of the
    same subject where the experiment decides once per subject.
    """
    try:
        if caller.dry_run:
            return OperationResponse(_dry_choice(services, key, [body])[0], 201)
        (decision,) = services.engine.choose(key, [body], actor=caller.actor)
    except InvalidInput as error:
        faults = [Fault(f.pointer.removeprefix(_FIRST), f.detail) for f in error.faults]
        raise InvalidInput(faults) from None
    services.metrics.count_decisions(key, [decision])
    return OperationResponse(decision, 200 if decision.repeat else 201)


@operations(
    "POST",
    "/experiments/<key:key>/choose/batch",
    scope="choose",
    body=Body(ChooseBatch, example={"requests": [_REQUEST, {"subject_id": "u-2"}]}),
    answers={201: DecisionList, 200: DecisionList},
    refusals=(NotFound, WrongState, IdReused),
    idempotent=True,
    repeatable=True,
    identify=_identify_batch,
    takes_caller=True,
    rows=("requests",),
)
def choose_batch(
    services: Services, key: str, body: ChooseBatch, caller: ApiKey
) -> OperationResponse:
    """Decide for up to 10,000 recipients; all decisions are recorded, or none.

    With `partial`, rows that others' ids stand against are refused by themselves. Answers 201 if
    every decision is new, else 200.
    """
    if body.partial and body.dry_run:
        raise InvalidInput.at("/partial", "must not be true in a dry run: that refuses no row")
    if caller.dry_run and not body.dry_run:
        return OperationResponse(DecisionList(_dry_choice(services, key, body.requests)), 201)
    if body.partial:
        answer = services.engine.choose_partial(key, body.requests, actor=caller.actor)
        content = DecisionList(answer.decisions, answer.refused)
        decisions = [d for d in answer.decisions if d is not None]
    else:
        decisions = services.engine.choose(
            key, body.requests, actor=caller.actor, dry_run=body.dry_run
        )
        content = DecisionList(decisions)
    if not body.dry_run:
        services.metrics.count_decisions(key, decisions)
    new = bool(decisions) and not body.dry_run and not any(d.repeat for d in decisions)
    return OperationResponse(content, 201 if new and not content.refused else 200)


@operations(
    "POST",
    "/decisions/activate",
    scope="choose",
    body=Body(SentDecisions, example=_SENT),
    answers={200: MarkResult},
    idempotent=True,
    repeatable=True,
    takes_caller=True,
    rows=("decision_ids", "decisions"),
)
def activate_decisions(
    services: Services, body: SentDecisions, caller: ApiKey
) -> OperationResponse:
    """Activate decisions whose emails are sent now, for experiments that wait for it.

    Of every experiment, it takes the mailer's ids of the emails, by which events find their
    decisions. Those that another key chose are listed in `refused`, unless this one has the scope
    `manage`.
    """
    ids = [*body.decision_ids, *(email.decision_id for email in body.decisions)]
    if len(ids) > MAX_BATCH:
        raise InvalidInput.at("/decisions", f"must be at most {MAX_BATCH:,} with decision_ids")
    if caller.dry_run:
        return OperationResponse(_dry_marks(ids))
    messages = [(e.decision_id, e.message_id.strip("<>")) for e in body.decisions]
    marks = services.engine.activate(
        ids, messages=messages, actor=caller.actor, own_only="manage" not in caller.scopes
    )
    return OperationResponse(marks)


@operations(
    "POST",
    "/decisions/cancel",
    scope="choose",
    body=Body(DecisionIds, example=_IDS),
    answers={200: MarkResult},
    idempotent=True,
    repeatable=True,
    takes_caller=True,
    rows=("decision_ids",),
)
def cancel_decisions(services: Services, body: DecisionIds, caller: ApiKey) -> OperationResponse:
    """Cancel decisions whose emails were never sent: nothing is learned from them.

    Their subjects may be decided for again. Those that another key chose are listed in `refused`,
    unless this one has the scope `manage`, and so are those whose time to send is over.
    """
    if caller.dry_run:
        return OperationResponse(_dry_marks(body.decision_ids))
    own_only = "manage" not in caller.scopes
    marks = services.engine.cancel(body.decision_ids, actor=caller.actor, own_only=own_only)
    return OperationResponse(marks)


def _dry_choice(services: Services, key: str, requests: Sequence[Request]) -> list[Decision]:
    """Decide without recording, under the ids that the decisions would have."""
    decisions = services.engine.choose(key, requests, dry_run=True)
    return [
        structs.replace(decision, decision_id=request.decision_id or time_ordered_id())
        for decision, request in zip(decisions, requests, strict=True)
    ]


def _dry_marks(ids: Sequence[str]) -> MarkResult:
    """Answer as if all were new; nobody knows which a dry run has made."""
    return MarkResult(accepted=len(set(ids)), repeated=len(ids) - len(set(ids)), unknown=())


@operations(
    "GET",
    "/decisions/<decision_id:decision_id>",
    scope="read",
    answers={200: DecisionReceipt},
    refusals=(NotFound,),
)
def read_decision(services: Services, decision_id: str) -> OperationResponse:
    """Explain one decision: why this email?"""
    return OperationResponse(services.engine.receipt(decision_id))
