"""Exchanges: calls of the API with their retries, as generators that know no network.

An exchange yields each `HttpCall` that is to be made, and is sent its response, or thrown the error
of `httpx` that came instead; it returns the answer. So both clients, the one that blocks and the
one that awaits, only carry calls out.
"""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from bandits.errors import BanditsError, Fault, InvalidInput

_BUSY = frozenset({429, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 10.0
_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")


class ApiError(BanditsError):
    """The server refused the request: trying again would not help.

    Attributes:
        status: of HTTP.
        kind: the problem's type, such as ``/problems/invalid``.
        faults: each place in the request that does not fit.
    """

    def __init__(self, status: int, kind: str, detail: str, faults: Sequence[Fault] = ()) -> None:
        self.status = status
        self.kind = kind
        self.faults = tuple(faults)
        places = [f"{f.pointer or '/'}: {f.detail}" for f in faults]
        others = "; ".join(place for place in places if place not in detail)
        super().__init__(f"{status} {detail}" + (f" ({others})" if others else ""))


class ConnectionFailed(BanditsError):
    """The server gave no answer in time, however often it was tried."""


class Timeouts(Struct, frozen=True):
    """Seconds that one try may take, and all tries of a call together."""

    timeout_seconds: float
    deadline_seconds: float


# How long a call is tried: until its deadline, or until a try has waited in vain for an answer, or
# just once.
Persistence = Literal["until_deadline", "until_timeout", "once"]


class HttpCall(Struct, frozen=True):
    """One try: wait, then send, and wait for the answer.

    Attributes:
        path: below ``/api/v1``.
        content: JSON to POST; None to GET.
        timeout_seconds: how long to wait for the server at each step.
        delay_seconds: how long to wait before it is sent.
    """

    path: str
    content: bytes | None
    timeout_seconds: float
    delay_seconds: float

    @property
    def method(self) -> str:
        """Method of HTTP."""
        return "GET" if self.content is None else "POST"

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields beside those of every call."""
        return {} if self.content is None else _JSON


Exchange = Generator[HttpCall, httpx.Response, T]


class SessionOptions(TypedDict):
    """Options of a session of `httpx`, of either kind."""

    base_url: str
    headers: dict[str, str]


def session_options(url: str, token: str) -> SessionOptions:
    """Make the options of a session with the server at `url`.

    Raises:
        InvalidInput: `token` has characters that no token has.
    """
    token = token.strip()  # a file's last line ends
    if not (token.isascii() and token.isprintable()):
        raise InvalidInput.at("/token", "must be printable ASCII characters, as it was shown")
    headers = {"Authorization": f"Bearer {token}"}
    return {"base_url": url.rstrip("/") + "/api/v1", "headers": headers}


def exchange(  # noqa: PLR0913 - options, by keyword
    path: str,
    answer: type[T],
    timeouts: Timeouts,
    *,
    clock: Callable[[], float],
    body: Any = None,
    persistence: Persistence = "until_deadline",
) -> Exchange[T]:
    """Try until it is answered: a POST where there is a body, else a GET.

    Args:
        path: below ``/api/v1``.
        answer: the type of what is answered.
        timeouts: of one try and of all.
        clock: seconds that only grow.
        body: must repeat safely, by its ids.
        persistence: how long to try.

    Raises:
        ApiError: the server refused, or something that is no such server answered.
        InvalidInput: the body cannot be written as JSON.
        ConnectionFailed: no answer came in time.
    """
    content = None if body is None else encode_json(body)
    give_up_at = clock() + timeouts.deadline_seconds
    wait, pause = _FIRST_WAIT_SECONDS, 0.0
    while True:
        left = max(give_up_at - clock() - pause, 0.001)
        last = persistence == "once"
        try:
            response = yield HttpCall(path, content, min(timeouts.timeout_seconds, left), pause)
        except httpx.UnsupportedProtocol as error:  # a slip in the address: no try would help
            raise ConnectionFailed(f"{error.request.url}: {error}") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            url, retry_after, reason = error.request.url, 0.0, f"{type(error).__name__}: {error}"
            last |= persistence == "until_timeout" and isinstance(error, httpx.TimeoutException)
        else:
            if response.is_success:
                return _read(response, answer)
            if response.status_code not in _BUSY:
                raise _refusal(response)
            url, reason = response.request.url, f"status {response.status_code}"
            retry_after = _retry_after(response)
        pause = max(retry_after, wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
        if last or clock() + pause > give_up_at:
            raise ConnectionFailed(f"no answer from {url}: {reason}")
        wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


def encode_json(body: Any) -> bytes:
    """Write a body; a scalar of NumPy, as tables of recipients hold them, as the number it is.

    Raises:
        InvalidInput: there is something in it that JSON has no form for.
    """
    try:
        return msgspec.json.encode(body, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput.at("", f"cannot be written as JSON: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no number, text, true, false or None")


class _ErrorBody(Struct):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: list[Fault] = []


def _read(response: httpx.Response, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError:
        detail = f"{response.url} answered something else than this API"
        raise ApiError(response.status_code, "about:blank", detail) from None


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", 0)), 0.0), _LONGEST_WAIT_SECONDS)
    except ValueError:  # a date, which servers of ours do not send
        return 0.0


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = msgspec.json.decode(response.content, type=_ErrorBody)
    except msgspec.DecodeError:  # something in between answered
        problem = _ErrorBody(detail=response.reason_phrase)
    detail = problem.detail or problem.title
    return ApiError(response.status_code, problem.type, detail, problem.errors)
