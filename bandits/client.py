"""A small client for senders: retries that cannot decide or count twice, and always an email.

::

    with Client("http://127.0.0.1:8000", token) as client:
        email = client.choose("spring", "u-1", fallback={"subject_line": "a"})
        client.reward(email.decision_id, "click", event_id="click-1")

Every request carries ids made here before its first try, so a retry after a lost answer gets the
same decision, and an event counts once.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec
from msgspec import Struct

from bandits.context import Context
from bandits.draw import time_ordered_ids
from bandits.errors import BanditsError, Fault
from bandits.messages import Decision, Request, Reward, RewardReceipt
from bandits.store import Marked

_BUSY = frozenset({429, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 10.0
MAX_BATCH = 10_000

T = TypeVar("T")


class ApiError(BanditsError):
    """The server refused the request: trying again would not help."""

    def __init__(self, status: int, kind: str, detail: str, faults: Sequence[Fault]) -> None:
        self.status = status
        self.kind = kind
        self.faults = tuple(faults)
        places = "; ".join(f"{f.pointer or '/'}: {f.detail}" for f in faults)
        super().__init__(f"{status} {detail}" + (f" ({places})" if places else ""))


class Unreachable(BanditsError):
    """No answer came in time, however often it was tried."""


class _Problem(Struct):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: list[Fault] = []


class _Decisions(Struct):
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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to talk to the server at `url` with an API key.

        Args:
            url: where the server is, without ``/api/v1``.
            token: an API key with the scopes ``choose`` and ``reward``.
            timeout_seconds: how long one try may take.
            deadline_seconds: how long to go on trying, from a call's first try.
            transport: what carries requests; the network unless given.
            sleep: how to wait between tries.
        """
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
            transport=transport,
        )
        self._deadline_seconds = deadline_seconds
        self._sleep = sleep

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
        """Close its connections."""
        self._http.close()

    def choose(  # noqa: PLR0913 - options, by keyword
        self,
        experiment: str,
        subject_id: str,
        *,
        context: Context | None = None,
        decision_id: str | None = None,
        eligible: Mapping[str, Sequence[str]] | None = None,
        fallback: Mapping[str, str] | None = None,
    ) -> Decision:
        """Choose the email for one recipient.

        Args:
            experiment: its key.
            subject_id: who the email is for.
            context: what is known of them, by declared feature.
            decision_id: to get the same answer again later; made here unless given.
            eligible: for a slot, the variants that they may get.
            fallback: a variant for each slot, answered (with ``fallback`` true and no decision id)
                where the server gives none, so that there is always an email to send.

        Raises:
            ApiError: the server refused; only without `fallback`.
            Unreachable: no answer came in time; only without `fallback`.
        """
        (request,) = _with_ids([_request(subject_id, context, decision_id, eligible)])
        try:
            return self._post(f"/experiments/{experiment}/choose", request, Decision)
        except (ApiError, Unreachable):
            if fallback is None:
                raise
            slots = {slot: {"variant": variant} for slot, variant in fallback.items()}
            return Decision(None, slots, 1.0, 0, fallback=True)

    def choose_many(
        self, experiment: str, requests: Iterable[Request], *, batch: int = MAX_BATCH
    ) -> Iterator[Decision]:
        """Choose for any number of recipients, a batch at a time, in their order.

        Raises:
            ApiError: the server refused a batch; those before it were yielded.
            Unreachable: no answer came in time.
        """
        for portion in _portions(requests, batch):
            body = {"requests": _with_ids(portion)}
            path = f"/experiments/{experiment}/choose/batch"
            yield from self._post(path, body, _Decisions).decisions

    def reward(
        self, decision_id: str, metric: str, value: float = 1.0, *, event_id: str | None = None
    ) -> RewardReceipt:
        """Report something that a recipient did.

        Args:
            decision_id: the decision whose email it answers.
            metric: a metric of the experiment's reward rule.
            value: its value.
            event_id: the mailer's own id of the event, so that a second report counts once.
        """
        (made,) = time_ordered_ids(1)
        return self.reward_many([Reward(decision_id, event_id or made, metric, value)])

    def reward_many(self, rewards: Iterable[Reward], *, batch: int = MAX_BATCH) -> RewardReceipt:
        """Report any number of events, a batch at a time; returns what became of all of them.

        Raises:
            ApiError: the server refused a batch; those before it are recorded.
            Unreachable: no answer came in time; sending everything again counts nothing twice.
        """
        total = RewardReceipt(0, 0, 0, [], [])
        for portion in _portions(rewards, batch):
            more = self._post("/rewards", {"rewards": portion}, RewardReceipt)
            total = RewardReceipt(
                total.accepted + more.accepted,
                total.repeated + more.repeated,
                total.late + more.late,
                total.unknown + more.unknown,
                total.early + more.early,
            )
        return total

    def activate(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> Marked:
        """Tell that emails are sent now, where the experiment waits for that."""
        return self._mark("/decisions/activate", decision_ids, batch)

    def cancel(self, decision_ids: Iterable[str], *, batch: int = MAX_BATCH) -> Marked:
        """Tell that emails were never sent: they leave what is learned."""
        return self._mark("/decisions/cancel", decision_ids, batch)

    def _mark(self, path: str, decision_ids: Iterable[str], batch: int) -> Marked:
        total = Marked(0, 0, ())
        for portion in _portions(decision_ids, batch):
            more = self._post(path, {"decision_ids": portion}, Marked)
            total = Marked(
                total.accepted + more.accepted,
                total.repeated + more.repeated,
                total.unknown + more.unknown,
            )
        return total

    def _post(self, path: str, body: Any, answer: type[T]) -> T:
        """Send until it is answered; every body repeats safely, by its ids."""
        content = msgspec.json.encode(body)
        give_up_at = time.monotonic() + self._deadline_seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                response = self._http.post(
                    path, content=content, headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError as error:
                asked, reason = 0.0, f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return msgspec.json.decode(response.content, type=answer)
                if response.status_code not in _BUSY:
                    raise _refusal(response)
                asked, reason = _retry_after(response), f"status {response.status_code}"
            pause = max(asked, wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            if time.monotonic() + pause > give_up_at:
                raise Unreachable(f"no answer from {self._http.base_url}: {reason}")
            self._sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def _request(
    subject_id: str,
    context: Context | None,
    decision_id: str | None,
    eligible: Mapping[str, Sequence[str]] | None,
) -> Request:
    return Request(
        subject_id,
        None if context is None else dict(context),
        decision_id,
        None if eligible is None else {slot: list(v) for slot, v in eligible.items()},
    )


def _with_ids(requests: Sequence[Request]) -> list[Request]:
    """Give an id to each request without one, so that it can be sent again."""
    fresh = iter(time_ordered_ids(sum(r.decision_id is None for r in requests)))
    return [
        msgspec.structs.replace(r, decision_id=next(fresh)) if r.decision_id is None else r
        for r in requests
    ]


def _portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", 0)), 0.0), _LONGEST_WAIT_SECONDS)
    except ValueError:  # a date, which servers of ours do not send
        return 0.0


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:  # something in between answered
        problem = _Problem(detail=response.reason_phrase)
    detail = problem.detail or problem.title
    return ApiError(response.status_code, problem.type, detail, problem.errors)
