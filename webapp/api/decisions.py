"""Decisions and rewards: which email to send, and what became of it."""

from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine import MAX_BATCH, Engine
from bandits.errors import Fault, IdReused, InvalidInput, NotFound, WrongState
from bandits.schemas import Decision, DecisionReceipt, Id, Request, Reward, RewardReceipt
from bandits.store.values import MarkResult
from webapp.api.bodies import Body
from webapp.api.health import work
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.services import services

operations = OperationGroup("decisions")

_FIRST = "/requests/0"
_REQUEST = {"subject_id": "u-1", "context": {"recency": 3, "channel": "Web"}}
_REWARD = {
    "decision_id": "spring-u-1",
    "event_id": "click-1",
    "metric": "click",
    "value": 1,
    "occurred_at": "2026-11-22T09:00:00Z",
}
_IDS = {"decision_ids": ["spring-u-1", "spring-u-2"]}


class ChooseBatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Recipients to decide for; a dry run decides without recording."""

    requests: Annotated[list[Request], Meta(max_length=MAX_BATCH)]
    dry_run: bool = False


class DecisionList(Struct, frozen=True):
    """The decisions, in the order of the requests."""

    decisions: list[Decision]


class RewardBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What recipients did."""

    rewards: Annotated[list[Reward], Meta(max_length=MAX_BATCH)]


ONE = Body(Request, example=_REQUEST)
FEW = Body(RewardBatch, example={"rewards": [_REWARD]})


class DecisionIds(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions, by their ids."""

    decision_ids: Annotated[list[Id], Meta(max_length=MAX_BATCH)]


@operations(
    "POST",
    "/experiments/<key:key>/choose",
    scope="choose",
    body=ONE,
    gives={"decision_id": "$response.body#/decision_id"},
    answers={201: Decision, 200: Decision},
    refusals=(NotFound, WrongState, IdReused),
)
def choose(key: str, body: Request) -> OperationResponse:
    """Decide which email to send to one recipient.

    Answers 201 for a new decision and 200 for one that was made before: by the same `decision_id`,
    or for the same subject where the experiment decides once per subject.
    """
    decision = decide_one(services().engine, key, body)
    work().decided(key, [decision])
    return OperationResponse(decision, 200 if decision.repeat else 201)


def decide_one(engine: Engine, key: str, request: Request) -> Decision:
    """Decide for one recipient; places of faults are those of the lone request."""
    try:
        (decision,) = engine.choose(key, [request])
    except InvalidInput as error:
        faults = [Fault(f.pointer.removeprefix(_FIRST), f.detail) for f in error.faults]
        raise InvalidInput(faults) from None
    return decision


@operations(
    "POST",
    "/experiments/<key:key>/choose/batch",
    scope="choose",
    body=Body(ChooseBatch, example={"requests": [_REQUEST, {"subject_id": "u-2"}]}),
    answers={201: DecisionList, 200: DecisionList},
    refusals=(NotFound, WrongState, IdReused),
)
def choose_batch(key: str, body: ChooseBatch) -> OperationResponse:
    """Decide for up to 10,000 recipients; all of it is recorded, or nothing.

    Answers 201 where every decision is new, else 200.
    """
    decisions = services().engine.choose(key, body.requests, dry_run=body.dry_run)
    if not body.dry_run:
        work().decided(key, decisions)
    new = bool(decisions) and not body.dry_run and not any(d.repeat for d in decisions)
    return OperationResponse(DecisionList(decisions), 201 if new else 200)


@operations(
    "POST",
    "/decisions/activate",
    scope="choose",
    body=Body(DecisionIds, example=_IDS),
    answers={200: MarkResult},
)
def activate_decisions(body: DecisionIds) -> OperationResponse:
    """Tell that emails are sent now, where the experiment waits for that: their clocks start."""
    return OperationResponse(services().engine.activate(body.decision_ids))


@operations(
    "POST",
    "/decisions/cancel",
    scope="choose",
    body=Body(DecisionIds, example=_IDS),
    answers={200: MarkResult},
)
def cancel_decisions(body: DecisionIds) -> OperationResponse:
    """Tell that emails were never sent: they leave what is learned, and their subjects are free."""
    return OperationResponse(services().engine.cancel(body.decision_ids))


@operations(
    "GET",
    "/decisions/<decision_id:decision_id>",
    scope="read",
    answers={200: DecisionReceipt},
    refusals=(NotFound,),
)
def read_decision(decision_id: str) -> OperationResponse:
    """Explain one decision: why this email?"""
    return OperationResponse(services().engine.receipt(decision_id))


@operations(
    "POST",
    "/rewards",
    scope="reward",
    body=FEW,
    answers={200: RewardReceipt},
    refusals=(IdReused,),
)
def record_rewards(body: RewardBatch) -> OperationResponse:
    """Record what up to 10,000 recipients did.

    Doubled, late, early and unknown rewards are normal: they are counted and listed.
    """
    receipt = services().engine.reward(body.rewards)
    work().rewarded(receipt)
    return OperationResponse(receipt)
