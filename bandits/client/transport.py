"""HTTP transport: retries over a connection that loses, delays and refuses requests."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from bandits.errors import BanditsError, Fault, InvalidInput


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


_BUSY = frozenset({429, 502, 503, 504})
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 10.0

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


class _ErrorBody(Struct):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: list[Fault] = []


class Transport:
    """HTTP calls that repeat safely; connections are kept, and shared between threads."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to talk to the server at `url`; nothing is sent yet.

        Raises:
            InvalidInput: `token` has characters that no token has.
        """
        token = token.strip()  # a file's last line ends
        if not (token.isascii() and token.isprintable()):
            raise InvalidInput.at("/token", "must be printable ASCII characters, as it was shown")
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            transport=transport,
        )
        self._sleep = sleep

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def call(
        self,
        path: str,
        answer: type[T],
        timeouts: Timeouts,
        *,
        body: Any = None,
        once: bool = False,
    ) -> T:
        """Send until it is answered: a POST where there is a body, else a GET.

        Args:
            path: below ``/api/v1``.
            answer: the type of what is answered.
            timeouts: of one try and of all.
            body: must repeat safely, by its ids.
            once: do not try again.

        Raises:
            ApiError: the server refused, or something that is no such server answered.
            InvalidInput: the body cannot be written as JSON.
            ConnectionFailed: no answer came in time.
        """
        content = None if body is None else encode_json(body)
        give_up_at = time.monotonic() + timeouts.deadline_seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            left = max(give_up_at - time.monotonic(), 0.001)
            try:
                response = self._http.request(
                    "GET" if content is None else "POST",
                    path,
                    content=content,
                    headers=None if content is None else {"Content-Type": "application/json"},
                    timeout=min(timeouts.timeout_seconds, left),
                )
            except httpx.UnsupportedProtocol as error:  # a slip in the address: no try would help
                raise ConnectionFailed(f"{self._http.base_url}: {error}") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                retry_after, reason = 0.0, f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return _read(response, answer)
                if response.status_code not in _BUSY:
                    raise _refusal(response)
                retry_after, reason = _retry_after(response), f"status {response.status_code}"
            pause = max(retry_after, wait * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            if once or time.monotonic() + pause > give_up_at:
                raise ConnectionFailed(f"no answer from {self._http.base_url}: {reason}")
            self._sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)


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
