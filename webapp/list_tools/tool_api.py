"""API of a list tool: calls by the egress guard, tried again, and answers of a declared type."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from webapp.egress import EgressGuard

TRIES = 5
_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 60.0
_AGAIN = frozenset({429, 500, 502, 503, 504})


class ToolUnavailable(Exception):
    """A list tool cannot be reached, or refuses; the message says why."""


class ToolApi:
    """API of one server; used in a ``with`` statement.

    Every call that is made by it may be made twice.
    """

    def __init__(
        self,
        guard: EgressGuard,
        url: str,
        auth: httpx.Auth | None = None,
        *,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Call the server at `url`.

        Args:
            guard: of what may be called.
            url: of the server, without the path of its API.
            auth: proves who calls.
            sleep: waits before another try.

        Raises:
            EgressRefused: it may not be called.
        """
        self._http = guard.client(url.rstrip("/") + "/", seconds=_SECONDS)
        if auth is not None:
            self._http.auth = auth
        self._sleep = sleep

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End its connections."""
        self._http.close()

    def call(  # noqa: PLR0913 - one for each part of a request
        self,
        method: str,
        path: str,
        answer: Any,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        accepted: frozenset[int] = frozenset({200}),
    ) -> tuple[int, Any]:
        """Make a call; return its status, and its answer if that is 200.

        It is tried again where no answer comes, or one that says to come again; `Retry-After` is
        kept to, up to a minute.

        Args:
            method: of HTTP.
            path: below the address of the server.
            answer: the type of what is expected.
            query: in the address.
            body: sent as JSON.
            form: sent as a form, in place of `body`.
            accepted: statuses that the caller takes.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        fault = ""
        for attempt in range(TRIES):
            wait = min(0.5 * 2.0**attempt, _LONGEST_WAIT_SECONDS)
            try:
                response = self._http.request(
                    method, path, params=query, content=content, data=form, headers=headers
                )
            except httpx.HTTPError as error:
                fault = f"no answer: {type(error).__name__}"
            else:
                if response.status_code not in _AGAIN or response.status_code in accepted:
                    return self._read(response, answer, accepted)
                fault = f"it answered {response.status_code}"
                wait = _told_wait(response) or wait
            if attempt < TRIES - 1:
                (self._sleep or time.sleep)(wait)
        raise ToolUnavailable(fault)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Read a long answer bit by bit; it is not tried again.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """
        try:
            with self._http.stream("GET", path, params=query) as response:
                _check(response, frozenset({200}))
                yield response
        except httpx.HTTPError as error:
            raise ToolUnavailable(f"no answer: {type(error).__name__}") from None

    @staticmethod
    def _read(response: httpx.Response, answer: Any, accepted: frozenset[int]) -> tuple[int, Any]:
        _check(response, accepted)
        if response.status_code != httpx.codes.OK:
            return response.status_code, None
        try:
            return response.status_code, msgspec.json.decode(response.content, type=answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ToolUnavailable("its answer is of another form than expected") from None


def _check(response: httpx.Response, accepted: frozenset[int]) -> None:
    if response.status_code not in accepted:
        raise ToolUnavailable(f"it answered {response.status_code}")


def _told_wait(response: httpx.Response) -> float:
    """Return the seconds of `Retry-After`, 0 where it names none."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isascii() and text.isdigit() else 0.0
