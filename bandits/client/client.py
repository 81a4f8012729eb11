"""Client of the API: choose and report, for one recipient or any number of them."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from msgspec import Struct
from msgspec.structs import replace

from bandits.client.batching import MAX_BATCH, halving, portions, too_large, with_ids
from bandits.client.pending_cancellations import PendingCancellations
from bandits.client.transport import ApiError, ConnectionFailed, Timeouts, Transport
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.features import Context
from bandits.ids import time_ordered_ids
from bandits.schemas import Decision, Request, Reward, RewardReceipt
from bandits.store.values import MarkResult, State

_log = logging.getLogger("bandits.client")


class DeclaredExperiment(Struct, frozen=True):
    """An experiment as the server has it."""

    key: str
    state: State
    declaration: Experiment


class _DecisionList(Struct):
    decisions: list[Decision]


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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to talk to the server at `url` with an API key; nothing is sent yet.

        Args:
            url: where the server is, without ``/api/v1``.
            token: an API key with the scopes ``choose`` and ``reward``.
            timeout_seconds: how long one try may take.
            deadline_seconds: how long to go on trying, from a call's first try.
            batch_timeout_seconds: how long one try of a batch may take; a batch's deadline is at
                least that.
            transport: carries requests; the network unless given.
            sleep: waits between tries.
        """
        self._transport = Transport(url, token, transport=transport, sleep=sleep)
        self._single = Timeouts(timeout_seconds, deadline_seconds)
        longest = max(deadline_seconds, batch_timeout_seconds)
        self._batch = Timeouts(batch_timeout_seconds, longest)
        self._pending = PendingCancellations(self._transport, self._single)

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
        self._pending.cancel()
        self._transport.close()

    def experiment(self, key: str) -> DeclaredExperiment:
        """Read an experiment; the API key needs the scope ``read``.

        Raises:
            ApiError: there is none of this key (404), or the API key may not read (403).
            ConnectionFailed: no answer came in time.
        """
        return self._transport.call(
            f"/experiments/{quote(key, safe='')}", DeclaredExperiment, self._single
        )

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
                where the server gives none, so that there is always an email to send. While the
                server is down, it is tried only once. Should it have decided after all, that
                decision is cancelled by a later call.

        Raises:
            ApiError: the server refused; only without `fallback`.
            ConnectionFailed: no answer came in time; only without `fallback`.
        """
        (request,) = with_ids(
            [_request(subject_id, context, decision_id, eligible, personalize=personalize)]
        )
        path = f"/experiments/{quote(experiment, safe='')}/choose"

        def ask(*, once: bool) -> list[Decision]:
            return [self._transport.call(path, Decision, self._single, body=request, once=once)]

        (decision,) = self._ask_or_fall_back(ask, [request], fallback)
        return decision

    def choose_many(
        self,
        experiment: str,
        requests: Iterable[Request],
        *,
        batch: int = MAX_BATCH,
        fallback: Mapping[str, str] | None = None,
    ) -> Iterator[Decision]:
        """Choose for any number of recipients, a batch at a time, in their order.

        Requests are taken from the iterable as the decisions are, so neither is held in memory.

        Args:
            experiment: its key.
            requests: those without a decision id get one before they are first sent.
            batch: how many to send at once; fewer where a batch would be too large a body.
            fallback: as `choose` has it, for every recipient of a batch that is not answered.

        Raises:
            ApiError: the server refused a batch; those before it were yielded.
            ConnectionFailed: no answer came in time; only without `fallback`.
        """
        path = f"/experiments/{quote(experiment, safe='')}/choose/batch"

        def send(part: Sequence[Request]) -> list[Decision]:
            def ask(*, once: bool) -> list[Decision]:
                body = {"requests": part}
                return self._transport.call(
                    path, _DecisionList, self._batch, body=body, once=once
                ).decisions

            return self._ask_or_fall_back(ask, part, fallback)

        for portion in portions(requests, batch):
            for decisions in halving(send, with_ids(portion)):
                yield from decisions

    def reward(
        self,
        decision_id: str,
        metric: str,
        value: float = 1.0,
        *,
        event_id: str | None = None,
        occurred_at: datetime | None = None,
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

        Raises:
            ApiError: the server refused: an unknown metric, a value out of bounds.
            ConnectionFailed: no answer came in time.
        """
        event_id = time_ordered_ids(1)[0] if event_id is None else event_id
        body = {"rewards": [Reward(decision_id, event_id, metric, value, occurred_at)]}
        return self._transport.call("/rewards", RewardReceipt, self._single, body=body)

    def reward_many(self, rewards: Iterable[Reward], *, batch: int = MAX_BATCH) -> RewardReceipt:
        """Report any number of events, a batch at a time; return the counts of all of them.

        Each names a declared metric, or an event that every experiment takes, such as ``open``.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            ConnectionFailed: no answer came in time; sending everything again counts nothing twice.
        """

        def send(part: Sequence[Reward]) -> RewardReceipt:
            body = {"rewards": part}
            return self._transport.call("/rewards", RewardReceipt, self._batch, body=body)

        total = RewardReceipt(0, 0, 0, [], [])
        for portion in portions(rewards, batch):
            for more in halving(send, portion):
                total = RewardReceipt(
                    total.accepted + more.accepted,
                    total.repeated + more.repeated,
                    total.late + more.late,
                    total.unknown + more.unknown,
                    total.early + more.early,
                    total.skewed + more.skewed,
                )
        return total

    def activate(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> MarkResult:
        """Activate decisions: their emails are sent now, where the experiment waits for that.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            ConnectionFailed: no answer came in time; a second report changes nothing.
        """
        return self._mark("/decisions/activate", decision_ids, batch)

    def cancel(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> MarkResult:
        """Cancel decisions: their emails were never sent, and nothing is learned from them.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            ConnectionFailed: no answer came in time; a second report changes nothing.
        """
        return self._mark("/decisions/cancel", decision_ids, batch)

    def _mark(self, path: str, decision_ids: Iterable[str], batch: int) -> MarkResult:
        total, first = MarkResult(0, 0, ()), 0
        for portion in portions(decision_ids, batch):
            more = self._transport.call(
                path, MarkResult, self._batch, body={"decision_ids": portion}
            )
            total = MarkResult(
                total.accepted + more.accepted,
                total.repeated + more.repeated,
                total.unknown + more.unknown,
                (*total.refused, *(replace(r, row=first + r.row) for r in more.refused)),
            )
            first += len(portion)
        return total

    def _ask_or_fall_back(
        self,
        ask: Callable[..., list[Decision]],
        requests: Sequence[Request],
        fallback: Mapping[str, str] | None,
    ) -> list[Decision]:
        """Ask for decisions, and return the fallback for each where no answer comes."""
        once = fallback is not None and self._pending.server_is_down
        try:
            decisions = ask(once=once)
        except (ApiError, InvalidInput, ConnectionFailed) as error:
            splits = too_large(error) and len(requests) > 1
            if fallback is None or splits:
                raise
            _log.warning("sending the fallback to %d: %s", len(requests), error)
            if isinstance(error, ConnectionFailed):
                self._pending.add(requests)
            slots = {slot: {"variant": variant} for slot, variant in fallback.items()}
            return [Decision(None, slots, 1.0, 0, fallback=True) for _ in requests]
        if self._pending:
            self._pending.cancel(answered=requests)
        return decisions


def _request(
    subject_id: str,
    context: Context | None,
    decision_id: str | None,
    eligible: Mapping[str, Sequence[str]] | None,
    *,
    personalize: bool,
) -> Request:
    return Request(
        subject_id,
        dict(context) if context is not None and personalize else None,
        decision_id,
        None if eligible is None else {slot: _as_list(v) for slot, v in eligible.items()},
        personalize,
    )


def _as_list(variants: Sequence[str]) -> list[str]:
    """List them, unless they are one text: its letters are no variants, and the server says so."""
    return variants if isinstance(variants, str) else list(variants)  # type: ignore[return-value]
