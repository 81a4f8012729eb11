"""Client of the API: choose and report, for one recipient or any number of them."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class Client:
    """Talk to a server; one object can be used from many threads, and keeps connections open."""

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 5.0,
        deadline_seconds: float = 15.0,
        batch_timeout_seconds: float = 60.0,
        recovery_seconds: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to talk to the server at `url` with an API key; nothing is sent yet.

        Args:
            url: where the server is, without ``/api/v1``.
            token: an API key with the scopes ``choose`` and ``reward``.
            timeout_seconds: how long one try may wait for the server, to connect, to take the
                request, and to answer.
            deadline_seconds: how long to go on trying, from a call's first try.
            batch_timeout_seconds: as `timeout_seconds`, of a batch, whose deadline is at least
                that.
            recovery_seconds: how long calls with a fallback leave a server alone that did not
                answer; then one of them tries it.
            transport: carries requests; the network unless given.
            sleep: waits between tries.
            clock: seconds that only grow.

        Raises:
            InvalidInput: `token` has characters that no token has.
        """
        self._http = httpx.Client(**session_options(url, token), transport=transport)
        self._sleep = sleep
        self._sender = Sender(
            single=Timeouts(timeout_seconds, deadline_seconds),
            batch=Timeouts(batch_timeout_seconds, max(deadline_seconds, batch_timeout_seconds)),
            recovery_seconds=recovery_seconds,
            clock=clock,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel decisions whose fallback was sent, if the server answers; close connections."""
        self._carry_out(self._sender.cancel_pending())
        self._http.close()

    def experiment(self, key: str) -> DeclaredExperiment:
        """Read an experiment; the API key needs the scope ``read``.

        Raises:
            ApiError: there is none of this key (404), or the API key may not read (403).
            ConnectionFailed: no answer came in time.
        """
        return self._carry_out(self._sender.experiment(key))

    def choose(  # noqa: PLR0913 - options, by keyword
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
        """Choose the email for one recipient.

        Args:
            experiment: its key.
            subject_id: the recipient.
            context: values by declared feature; NaN and infinity are sent as null, a missing value.
            decision_id: to get the same answer again later; made here unless given.
            eligible: for a slot, the variants that they may get.
            personalize: whether the context may be used; if not, it is not even sent.
            fallback: a variant for each slot, answered (with ``fallback`` true and no decision id)
                where the server gives none, so that there is always an email to send. A server
                that takes a request and does not answer costs one time-out; after that, or after
                a deadline of other failures, the fallback is answered at once, and every
                `recovery_seconds` one call tries the server. Should it have decided after all,
                that decision is cancelled by a later call.

        Raises:
            ApiError: the server refused; only without `fallback`.
            ConnectionFailed: no answer came in time; only without `fallback`.
        """
        request = make_request(subject_id, context, decision_id, eligible, personalize=personalize)
        return self._carry_out(self._sender.choose(experiment, request, fallback))

    def choose_many(
        self,
        experiment: str,
        requests: Iterable[Request | Mapping[str, Any]],
        *,
        batch: int = MAX_BATCH,
        fallback: Mapping[str, str] | None = None,
    ) -> Iterator[Decision]:
        """Choose for any number of recipients, a batch at a time, in their order.

        Requests are taken from the iterable as the decisions are, so neither is held in memory.

        Args:
            experiment: its key.
            requests: `Request`s, or dicts of their fields; those without a decision id get one
                before they are first sent.
            batch: how many to send at once; fewer where a batch would be too large a body.
            fallback: as `choose` has it, for every recipient of a batch that is not answered.

        Raises:
            ApiError: the server refused a batch; those before it were yielded.
            InvalidInput: a dict has other fields than a request; only without `fallback`.
            ConnectionFailed: no answer came in time; only without `fallback`.
        """
        portions = Portions(requests, batch)
        for portion in portions:
            yield from self._carry_out(
                self._sender.choose_portion(experiment, portions, portion, fallback)
            )

    def reward(  # noqa: PLR0913 - the fields of a reward
        self,
        decision_id: str,
        metric: str,
        value: float = 1.0,
        *,
        event_id: str | None = None,
        occurred_at: datetime | None = None,
        as_of: datetime | None = None,
    ) -> RewardReceipt:
        """Report an event: something that a recipient did.

        Args:
            decision_id: the decision whose email it answers.
            metric: a metric of the experiment's reward rule, or an event that every experiment
                takes by name, such as ``open``, ``unsubscribe`` or ``refund``.
            value: its value.
            event_id: the mailer's own id of the event, so that a second report counts once; made
                here unless given, so that retries of this call do.
            occurred_at: when it happened, with its time zone; now unless given.
            as_of: when the value became the current one, with its time zone; needed where the
                metric counts the latest value.

        Raises:
            ApiError: the server refused: an unknown metric, a value out of bounds.
            ConnectionFailed: no answer came in time.
        """
        return self._carry_out(
            self._sender.reward(decision_id, metric, value, event_id, occurred_at, as_of)
        )

    def reward_many(
        self, rewards: Iterable[Reward | Mapping[str, Any]], *, batch: int = MAX_BATCH
    ) -> RewardReceipt:
        """Report any number of events, a batch at a time; return the counts of all of them.

        Each is a `Reward` or a dict of its fields, and names a declared metric, or an event that
        every experiment takes, such as ``open``. One whose decision is not known has `subject_id`
        and `occurred_at` in place of `decision_id`.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            InvalidInput: a dict has other fields than a reward; batches before it are recorded.
            ConnectionFailed: no answer came in time; sending everything again counts nothing twice.
        """
        total = empty_receipt()
        portions = Portions(rewards, batch)
        for portion in portions:
            more = self._carry_out(self._sender.reward_portion(portions, portion))
            total = add_receipts(total, more)
        return total

    def activate(
        self, decision_ids: Iterable[str | tuple[str, str]], *, batch: int = MAX_BATCH
    ) -> MarkResult:
        """Activate decisions: their emails are sent now, where the experiment waits for that.

        Args:
            decision_ids: of the decisions; or pairs of such an id and the mailer's id of the email,
                by which the mailer's events find the decision.
            batch: how many to send at once.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            ConnectionFailed: no answer came in time; a second report changes nothing.
        """
        total, first = MarkResult(0, 0, ()), 0
        for portion in Portions(decision_ids, batch):
            more = self._carry_out(self._sender.activate_portion(portion))
            total, first = add_marks(total, more, first), first + len(portion)
        return total

    def cancel(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> MarkResult:
        """Cancel decisions: their emails were never sent, and nothing is learned from them.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            ConnectionFailed: no answer came in time; a second report changes nothing.
        """
        total, first = MarkResult(0, 0, ()), 0
        for portion in Portions(decision_ids, batch):
            more = self._carry_out(self._sender.cancel_portion(portion))
            total, first = add_marks(total, more, first), first + len(portion)
        return total

    def _carry_out(self, exchange: Exchange[T]) -> T:
        """Make the calls of an exchange, and return what it returns."""
        with closing(exchange):  # also where it is interrupted
            try:
                call = next(exchange)
                while True:
                    try:
                        response = self._send(call)
                    except httpx.RequestError as error:
                        call = exchange.throw(error)
                    else:
                        call = exchange.send(response)
            except StopIteration as done:
                answer: T = done.value
                return answer

    def _send(self, call: HttpCall) -> httpx.Response:
        if call.delay_seconds:
            self._sleep(call.delay_seconds)
        return self._http.request(
            call.method,
            call.path,
            content=call.content,
            headers=call.headers,
            timeout=call.timeout_seconds,
        )
