"""Rewards: events that a mailer or shop reports of decisions."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from bandits.engine import MAX_BATCH
from bandits.errors import Fault, IdReused, InvalidInput
from bandits.identifiers import pointer
from bandits.schemas import Reward, RewardReceipt, Withdrawal, WithdrawalReceipt
from bandits.validation import seconds_of
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
        time_unit: the unit in which times of rewards that are numbers count from 1970-01-01 UTC;
            without it they are texts.
    """

    rewards: Annotated[list[Reward], Meta(max_length=MAX_BATCH)]
    partial: bool = False
    time_unit: Literal["seconds", "milliseconds"] | None = None


_TIMES = ("occurred_at", "as_of")  # of a reward
_UNITS = ("seconds", "milliseconds")
_MOST_FAULTS = 100
_NO_UNIT = "must be a time as in RFC 3339, or a number whose unit `time_unit` of the request gives"


def times_of_numbers(content: Any) -> Any:
    """Write the times that are numbers in the JSON of a `RewardBatch` as texts.

    Returns:
        The changed JSON; None where no time is a number.

    Raises:
        InvalidInput: a number is no time in the unit that the request gives, or it gives none.
    """
    unit = content.get("time_unit") if isinstance(content, dict) else None
    if unit not in (None, *_UNITS):  # of any type: a set takes no lists
        return None
    numbers = list(_numbers(content))
    faults = []
    for row, name, number in numbers:
        if unit is None:
            faults.append(Fault(pointer("rewards", row, name), _NO_UNIT))
        elif (moment := _moment(number, unit)) is None:
            detail = f"must be {unit} since 1970, as time_unit says; {number} is no such time"
            faults.append(Fault(pointer("rewards", row, name), detail))
        else:
            content["rewards"][row][name] = moment.isoformat()
    if faults:
        raise InvalidInput(faults[:_MOST_FAULTS])
    return content if numbers else None


def _numbers(content: Any) -> Iterator[tuple[int, str, float]]:
    """Yield row, field and number of each time that is a number, of any JSON."""
    rows = content.get("rewards") if isinstance(content, Mapping) else None
    for row, reward in enumerate(rows if isinstance(rows, list) else ()):
        for name in _TIMES if isinstance(reward, Mapping) else ():
            number = reward.get(name)
            if isinstance(number, int | float) and not isinstance(number, bool):
                yield row, name, number


def _moment(number: float, unit: str) -> datetime | None:
    """Return the time that a number means in a unit; None where it can only be of another."""
    seconds = seconds_of(number)
    if number < 0 or (seconds != number) != (unit == "milliseconds" and number != 0):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@operations(
    "POST",
    "/rewards",
    scope="reward",
    body=Body(RewardBatch, example={"rewards": [_REWARD]}, amend=times_of_numbers),
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
