"""Asynchronous client of the API: the twin of `Client`, for programs that await."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from bandits.client.batching import MAX_BATCH, Portions
from bandits.client.exchange import Exchange, HttpCall, Timeouts, session_options
from bandits.client.sender import (
    DeclaredExperiment,
    Sender,
    add_marks,
    add_receipts,
    empty_receipt,
    make_request,
)
from bandits.features import Context
from bandits.schemas import Decision, Request, Reward, RewardReceipt
from bandits.store.values import MarkResult

T = TypeVar("T")


class AsyncClient:
    """Talk to a server; one object can be used by many tasks of one event loop.

    Methods, options, answers and errors are those of `Client`. Where a task is cancelled while it
    waits for a decision with a fallback, a later call cancels that decision.
    """

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 5.0,
        deadline_seconds: float = 15.0,
        batch_timeout_seconds: float = 60.0,
        recovery_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to talk to the server at `url` with an API key, as `Client` does."""
        self._http = httpx.AsyncClient(**session_options(url, token), transport=transport)
        self._sleep = sleep
        self._sender = Sender(
            single=Timeouts(timeout_seconds, deadline_seconds),
            batch=Timeouts(batch_timeout_seconds, max(deadline_seconds, batch_timeout_seconds)),
            recovery_seconds=recovery_seconds,
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel decisions whose fallback was sent, if the server answers; close connections."""
        await self._carry_out(self._sender.cancel_pending())
        await self._http.aclose()

    async def experiment(self, key: str) -> DeclaredExperiment:
        """Read an experiment: see `Client.experiment`."""
        return await self._carry_out(self._sender.experiment(key))

    async def choose(  # noqa: PLR0913 - options, by keyword
        self,
        experiment: str,
        subject_id: str,
        *,
        context: Context | None = None,
        decision_id: str | None = None,
        eligible: Mapping[str, Sequence[str]] | None = None,
        personalize: bool = True,
        fallback: Mapping[str, str] | None = None,
    ) -> Decision:
        """Choose the email for one recipient: see `Client.choose`."""
        request = make_request(subject_id, context, decision_id, eligible, personalize=personalize)
        return await self._carry_out(self._sender.choose(experiment, request, fallback))

    async def choose_many(
        self,
        experiment: str,
        requests: Iterable[Request | Mapping[str, Any]],
        *,
        batch: int = MAX_BATCH,
        fallback: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Decision]:
        """Choose for any number of recipients, to be read by `async for`: see `Client`."""
        portions = Portions(requests, batch)
        for portion in portions:
            for decision in await self._carry_out(
                self._sender.choose_portion(experiment, portions, portion, fallback)
            ):
                yield decision

    async def reward(  # noqa: PLR0913 - the fields of a reward
        self,
        decision_id: str,
        metric: str,
        value: float = 1.0,
        *,
        event_id: str | None = None,
        occurred_at: datetime | None = None,
        as_of: datetime | None = None,
    ) -> RewardReceipt:
        """Report an event: see `Client.reward`."""
        return await self._carry_out(
            self._sender.reward(decision_id, metric, value, event_id, occurred_at, as_of)
        )

    async def reward_many(
        self, rewards: Iterable[Reward | Mapping[str, Any]], *, batch: int = MAX_BATCH
    ) -> RewardReceipt:
        """Report any number of events: see `Client.reward_many`."""
        total = empty_receipt()
        portions = Portions(rewards, batch)
        for portion in portions:
            more = await self._carry_out(self._sender.reward_portion(portions, portion))
            total = add_receipts(total, more)
        return total

    async def activate(
        self, decision_ids: Iterable[str | tuple[str, str]], *, batch: int = MAX_BATCH
    ) -> MarkResult:
        """Activate decisions: see `Client.activate`."""
        total, first = MarkResult(0, 0, ()), 0
        for portion in Portions(decision_ids, batch):
            more = await self._carry_out(self._sender.activate_portion(portion))
            total, first = add_marks(total, more, first), first + len(portion)
        return total

    async def cancel(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> MarkResult:
        """Cancel decisions: see `Client.cancel`."""
        total, first = MarkResult(0, 0, ()), 0
        for portion in Portions(decision_ids, batch):
            more = await self._carry_out(self._sender.cancel_portion(portion))
            total, first = add_marks(total, more, first), first + len(portion)
        return total

    async def _carry_out(self, exchange: Exchange[T]) -> T:
        """Make the calls of an exchange, and return what it returns."""
        with closing(exchange):  # also where the task is cancelled
            try:
                call = next(exchange)
                while True:
                    try:
                        response = await self._send(call)
                    except httpx.RequestError as error:
                        call = exchange.throw(error)
                    else:
                        call = exchange.send(response)
            except StopIteration as done:
                answer: T = done.value
                return answer

    async def _send(self, call: HttpCall) -> httpx.Response:
        if call.delay_seconds:
            await self._sleep(call.delay_seconds)
        return await self._http.request(
            call.method,
            call.path,
            content=call.content,
            headers=call.headers,
            timeout=call.timeout_seconds,
        )
