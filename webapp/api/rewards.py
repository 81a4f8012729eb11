"""Rewards: events that a mailer or shop reports of decisions."""

from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine import MAX_BATCH
from bandits.errors import IdReused
from bandits.schemas import Reward, RewardReceipt, Withdrawal, WithdrawalReceipt
from storage.accounts.api_keys import ApiKey
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.services import Services

operations = OperationGroup("decisions")

_REWARD = {
    "decision_id": "spring-u-1",
    "event_id": "click-1",
    "metric": "click",
    "value": 1,
    "occurred_at": "2026-11-22T09:00:00Z",
    "tracking": {
        "ip": "203.0.113.7",
        "user_agent": "Mozilla/5.0 …",
        "url": "https://shop.example/",
    },
}


class RewardBatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Events of recipients.

    Attributes:
        partial: list the rows that do not fit as `refused`, and record the others.
    """

    rewards: Annotated[list[Reward], Meta(max_length=MAX_BATCH)]
    partial: bool = False


@operations(
    "POST",
    "/rewards",
    scope="reward",
    body=Body(RewardBatch, example={"rewards": [_REWARD]}),
    answers={200: RewardReceipt},
    refusals=(IdReused,),
    takes_caller=True,
    rows=("rewards",),
    fast=True,
    idempotent=True,
    repeatable=True,
)
def record_rewards(services: Services, body: RewardBatch, caller: ApiKey) -> OperationResponse:
    """Record what up to 10,000 recipients did.

    Doubled, late, early and unknown rewards are normal: they are counted and listed. Early ones
    and those of decisions that do not exist yet wait for a day. One that does not fit refuses all
    of them, or with `partial` itself alone.
    """
    if caller.dry_run:
        tried = services.engine.try_rewards(
            body.rewards, actor=caller.actor, partial=body.partial, wait=True
        )
        return OperationResponse(tried)
    receipt = services.engine.reward(
        body.rewards, actor=caller.actor, partial=body.partial, wait=True
    )
    services.metrics.count_rewards(receipt)
    return OperationResponse(receipt)


_WITHDRAWAL = {"decision_id": "spring-u-1", "event_id": "order-1001"}


class WithdrawalBatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Events that are taken back.

    Attributes:
        partial: list the rows that may not be withdrawn as `refused`, and withdraw the others.
    """

    withdrawals: Annotated[list[Withdrawal], Meta(max_length=MAX_BATCH)]
    partial: bool = False


@operations(
    "POST",
    "/rewards/withdraw",
    scope="reward",
    body=Body(WithdrawalBatch, example={"withdrawals": [_WITHDRAWAL]}),
    answers={200: WithdrawalReceipt},
    takes_caller=True,
    rows=("withdrawals",),
    idempotent=True,
    repeatable=True,
)
def withdraw_rewards(
    services: Services, body: WithdrawalBatch, caller: ApiKey
) -> OperationResponse:
    """Take events back, such as a cancelled order: results are as if they were never reported.

    An event may be withdrawn before it is reported. A key withdraws what it reported itself, and
    with the scope `manage` anything; nothing is withdrawn once an experiment's result is final.
    """
    if caller.dry_run:
        distinct = len(set(body.withdrawals))
        return OperationResponse(WithdrawalReceipt(distinct, len(body.withdrawals) - distinct, []))
    receipt = services.engine.withdraw(
        body.withdrawals,
        actor=caller.actor,
        own_only="manage" not in caller.scopes,
        partial=body.partial,
    )
    return OperationResponse(receipt)
