"""Sender: what both clients do, as exchanges that either of them carries out."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from bandits.client.batching import MAX_BATCH, Portions, as_structs, decision_ids, with_ids
from bandits.client.circuit_breaker import CircuitBreaker
from bandits.client.exchange import (
    ApiError,
    ConnectionFailed,
    Exchange,
    Persistence,
    Timeouts,
    exchange,
)
from bandits.client.pending_cancellations import PendingCancellations
from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.features import Context
from bandits.identifiers import pointer
from bandits.ids import time_ordered_ids
from bandits.schemas import (
    Decision,
    RefusedRow,
    Request,
    Reward,
    RewardReceipt,
    SlotChoice,
    missing_fields,
)
from bandits.store.values import MarkResult, State

_TOO_LARGE = 413

_log = logging.getLogger("bandits.client")

T = TypeVar("T")


class DeclaredExperiment(Struct, frozen=True):
    """An experiment as the server has it."""

    key: str
    state: State
    declaration: Experiment


class _DecisionList(Struct):
    decisions: list[Decision | None]
    refused: list[RefusedRow] = []


class Sender:
    """Operations of a client, and what it knows of the server: whether it answers."""

    def __init__(
        self,
        *,
        single: Timeouts,
        batch: Timeouts,
        recovery_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with a server that answers.

        Args:
            single: time-outs of calls for one decision or event.
            batch: time-outs of calls for many.
            recovery_seconds: how long the server is left alone that did not answer.
            clock: seconds that only grow.
        """
        self._single = single
        self._batch = batch
        self._clock = clock
        self._breaker = CircuitBreaker(recovery_seconds, clock)
        self._pending = PendingCancellations()

    def experiment(self, key: str) -> Exchange[DeclaredExperiment]:
        """Read an experiment."""
        return self._call(f"/experiments/{quote(key, safe='')}", DeclaredExperiment, self._single)

    def choose(
        self, experiment: str, request: Request, fallback: Mapping[str, str] | None
    ) -> Exchange[Decision]:
        """Choose for one recipient."""
        path = f"/experiments/{quote(experiment, safe='')}/choose"
        requests = with_ids([request])

        def ask(persistence: Persistence) -> Exchange[list[Decision]]:
            decision = yield from self._call(
                path, Decision, self._single, body=requests[0], persistence=persistence
            )
            return [decision]

        (decision,) = yield from self._ask_or_fall_back(ask, requests, fallback)
        return decision

    def choose_portion(
        self,
        experiment: str,
        portions: Portions[Request | Mapping[str, Any]],
        portion: Sequence[Request | Mapping[str, Any]],
        fallback: Mapping[str, str] | None,
    ) -> Exchange[list[Decision]]:
        """Choose for a portion of recipients; none of one that is split.

        Where there is a fallback, it is sent to those alone whose rows the server refuses.
        """
        path = f"/experiments/{quote(experiment, safe='')}/choose/batch"
        try:
            requests = with_ids(as_structs(Request, portion, "requests"))
        except InvalidInput as error:
            if fallback is None:
                raise
            return _fall_back(len(portion), fallback, error)

        def ask(persistence: Persistence) -> Exchange[list[Decision]]:
            body = {"requests": requests, "partial": fallback is not None}
            answer = yield from self._call(
                path, _DecisionList, self._batch, body=body, persistence=persistence
            )
            return _fill(answer, fallback or {})

        try:
            return (yield from self._ask_or_fall_back(ask, requests, fallback))
        except ApiError as error:
            if not _splits(error, portion):
                raise
            portions.split(portion)
            return []

    def reward(  # noqa: PLR0913, PLR0917 - the fields of a reward
        self,
        decision_id: str,
        metric: str,
        value: float,
        event_id: str | None,
        occurred_at: datetime | None,
        as_of: datetime | None,
    ) -> Exchange[RewardReceipt]:
        """Report one event."""
        event_id = time_ordered_ids(1)[0] if event_id is None else event_id
        reward = Reward(decision_id, event_id, metric, value, occurred_at, as_of=as_of)
        body = {"rewards": [reward]}
        return self._call("/rewards", RewardReceipt, self._single, body=body)

    def reward_portion(
        self,
        portions: Portions[Reward | Mapping[str, Any]],
        portion: Sequence[Reward | Mapping[str, Any]],
    ) -> Exchange[RewardReceipt]:
        """Report a portion of events; none of one that is split."""
        rewards = as_structs(Reward, portion, "rewards")
        if missing := missing_fields(rewards):
            raise InvalidInput(Fault(pointer("rewards", *at), "is required") for at in missing)
        body = {"rewards": rewards}
        try:
            return (yield from self._call("/rewards", RewardReceipt, self._batch, body=body))
        except ApiError as error:
            if not _splits(error, portion):
                raise
            portions.split(portion)
            return empty_receipt()

    def activate_portion(self, portion: Sequence[str | tuple[str, str]]) -> Exchange[MarkResult]:
        """Activate a portion of decisions, with the mailer's ids of emails where they are given."""
        rows = sorted(range(len(portion)), key=lambda row: not isinstance(portion[row], str))
        ids: list[str] = []
        emails: list[dict[str, str]] = []
        for sent in portion:
            if isinstance(sent, str):
                ids.append(sent)
            else:
                emails.append({"decision_id": sent[0], "message_id": sent[1]})
        body: dict[str, Any] = {"decision_ids": ids}
        if emails:  # a server of an earlier version takes no others
            body["decisions"] = emails
        marks = yield from self._call("/decisions/activate", MarkResult, self._batch, body=body)
        refused = (replace(refused, row=rows[refused.row]) for refused in marks.refused)
        return replace(marks, refused=tuple(sorted(refused, key=lambda r: r.row)))

    def cancel_portion(self, portion: Sequence[str]) -> Exchange[MarkResult]:
        """Cancel a portion of decisions."""
        return self._mark("/decisions/cancel", portion)

    def cancel_pending(self, answered: Sequence[Request] = ()) -> Exchange[None]:
        """Cancel decisions whose fallback was sent, if the server answers.

        Those that were `answered` since are no longer to be cancelled.
        """
        remaining = self._pending.take(answered=decision_ids(answered))
        try:
            while remaining:
                body = {"decision_ids": remaining[:MAX_BATCH]}
                yield from self._call(
                    "/decisions/cancel", MarkResult, self._single, body=body, persistence="once"
                )
                remaining = remaining[MAX_BATCH:]
        except (ApiError, ConnectionFailed) as error:
            _log.warning("%d decisions are still to be cancelled: %s", len(remaining), error)
        finally:
            self._pending.add(remaining)

    def _mark(self, path: str, portion: Sequence[str]) -> Exchange[MarkResult]:
        return self._call(path, MarkResult, self._batch, body={"decision_ids": portion})

    def _call(
        self,
        path: str,
        answer: type[T],
        timeouts: Timeouts,
        *,
        body: Any = None,
        persistence: Persistence = "until_deadline",
    ) -> Exchange[T]:
        """Call, and note whether the server answers."""
        call = exchange(
            path, answer, timeouts, clock=self._clock, body=body, persistence=persistence
        )
        try:
            answered = yield from call
        except ConnectionFailed:
            self._breaker.open()
            raise
        except ApiError:
            self._breaker.close()
            raise
        self._breaker.close()
        return answered

    def _ask_or_fall_back(
        self,
        ask: Callable[[Persistence], Exchange[list[Decision]]],
        requests: Sequence[Request],
        fallback: Mapping[str, str] | None,
    ) -> Exchange[list[Decision]]:
        """Ask for decisions, and return the fallback for each where no answer comes."""
        if fallback is None:
            decisions = yield from ask("until_deadline")
        else:
            state = self._breaker.enter()
            if state == "open":  # nothing is sent, so nothing has to be cancelled
                return _fallbacks(len(requests), fallback)
            try:
                decisions = yield from ask("until_timeout" if state == "closed" else "once")
            except (ApiError, InvalidInput) as error:
                if _splits(error, requests):
                    raise
                return _fall_back(len(requests), fallback, error)
            except ConnectionFailed as error:
                self._pending.add(decision_ids(requests))
                return _fall_back(len(requests), fallback, error)
            except GeneratorExit:  # the caller waits no longer
                self._pending.add(decision_ids(requests))
                raise
        if self._pending:
            yield from self.cancel_pending(requests)
        return decisions


def make_request(
    subject_id: str,
    context: Context | None,
    decision_id: str | None,
    eligible: Mapping[str, Sequence[str]] | None,
    *,
    personalize: bool,
) -> Request:
    """Make a request; a context that may not be used is left out."""
    return Request(
        subject_id,
        dict(context) if context is not None and personalize else None,
        decision_id,
        None if eligible is None else {slot: _as_list(v) for slot, v in eligible.items()},
        personalize,
    )


def empty_receipt() -> RewardReceipt:
    """Make a receipt of no events."""
    return RewardReceipt(0, 0, 0, [], [])


def add_receipts(one: RewardReceipt, other: RewardReceipt) -> RewardReceipt:
    """Add the counts of two receipts."""
    return RewardReceipt(
        one.accepted + other.accepted,
        one.repeated + other.repeated,
        one.late + other.late,
        one.unknown + other.unknown,
        one.early + other.early,
        one.skewed + other.skewed,
        unattributed=one.unattributed + other.unattributed,
        waiting=one.waiting + other.waiting,
        cancelled=one.cancelled + other.cancelled,
    )


def add_marks(one: MarkResult, other: MarkResult, first: int) -> MarkResult:
    """Add the counts of two results, of which the other's rows begin with row `first`."""
    return MarkResult(
        one.accepted + other.accepted,
        one.repeated + other.repeated,
        one.unknown + other.unknown,
        (*one.refused, *(replace(refused, row=first + refused.row) for refused in other.refused)),
    )


def _as_list(variants: Sequence[str]) -> list[str]:
    """List them, unless they are one text: its letters are no variants, and the server says so."""
    return variants if isinstance(variants, str) else list(variants)  # type: ignore[return-value]


def _fall_back(n: int, fallback: Mapping[str, str], error: Exception) -> list[Decision]:
    _log.warning("sending the fallback to %d: %s", n, error)
    return _fallbacks(n, fallback)


def _fill(answer: _DecisionList, fallback: Mapping[str, str]) -> list[Decision]:
    """Return the decisions of an answer, and the fallback in the rows that were refused."""
    if answer.refused:
        first = answer.refused[0]
        detail = f"{first.detail} ({first.id})"
        _log.warning("sending the fallback to %d: %s", len(answer.refused), detail)
    return [d or _fallbacks(1, fallback)[0] for d in answer.decisions]


def _fallbacks(n: int, fallback: Mapping[str, str]) -> list[Decision]:
    slots: dict[str, SlotChoice] = {slot: {"variant": v} for slot, v in fallback.items()}
    return [Decision(None, slots, 1.0, 0, fallback=True) for _ in range(n)]


def _splits(error: Exception, portion: Sequence[Any]) -> bool:
    """Return true for a portion that was refused for its length, and has halves."""
    return isinstance(error, ApiError) and error.status == _TOO_LARGE and len(portion) > 1
