"""API of a listmonk server: exports of clicks and views, and attributes of subscribers."""

from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import httpx
import msgspec
from msgspec import Meta, Struct

from webapp.egress import EgressGuard

Export = Literal["clicks", "views"]

_SECONDS = 60.0
_ROWS_AT_ONCE = 5_000
_LONGEST_LINE = 10_000
_PAGE = 500


class ListmonkUnavailable(Exception):
    """listmonk cannot be reached, or refuses; the message says why."""


class Subscriber(Struct, frozen=True):
    """A subscriber as listmonk's API has it."""

    id: int
    uuid: Annotated[str, Meta(min_length=1, max_length=64)]
    email: str
    attribs: dict[str, Any] | None = None


class _Results(Struct, frozen=True):
    results: list[Subscriber]


class _Page(Struct, frozen=True):
    data: _Results


class ListmonkApi:
    """API of one listmonk server; used in a ``with`` statement."""

    def __init__(self, guard: EgressGuard, url: str, user: str, token: str) -> None:
        """Call the server at `url` as an API user.

        Raises:
            EgressRefused: it may not be called.
        """
        self._http = guard.client(url.rstrip("/") + "/", seconds=_SECONDS)
        self._http.auth = httpx.BasicAuth(user, token)

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

    def export(self, name: Export, since: float) -> Iterator[bytes]:
        """Yield what happened since a time, in seconds since 1970: CSV files with the header each.

        Raises:
            ListmonkUnavailable: it does not answer as it should.
        """
        at = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
        path = f"api/maintenance/analytics/{name}/export"
        try:
            with self._http.stream("GET", path, params={"since": at}) as response:
                _check(response)
                with closing(_rows(response.iter_lines())) as parts:
                    yield from parts
        except httpx.HTTPError as error:
            raise ListmonkUnavailable(f"no answer: {type(error).__name__}") from None

    def subscribers(self, list_id: int) -> Iterator[list[Subscriber]]:
        """Yield the subscribers of a list, page by page.

        Raises:
            ListmonkUnavailable: it does not answer as it should.
        """
        page = 1
        while True:
            query: dict[str, str | int] = {
                "list_id": list_id,
                "page": page,
                "per_page": _PAGE,
                "order_by": "id",
                "order": "asc",
            }
            response = self._call("GET", "api/subscribers", params=query)
            try:
                subscribers = msgspec.json.decode(response.content, type=_Page).data.results
            except (msgspec.DecodeError, UnicodeDecodeError):
                raise ListmonkUnavailable("its answer is no page of subscribers") from None
            if subscribers:
                yield subscribers
            if len(subscribers) < _PAGE:
                return
            page += 1

    def set_attributes(self, subscriber: Subscriber, attribs: dict[str, Any]) -> None:
        """Merge attributes into those of a subscriber.

        Raises:
            ListmonkUnavailable: it does not answer as it should.
        """
        body = msgspec.json.encode({"attribs": attribs})
        headers = {"Content-Type": "application/json"}
        self._call("PATCH", f"api/subscribers/{subscriber.id}", content=body, headers=headers)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ListmonkUnavailable(f"no answer: {type(error).__name__}") from None
        _check(response)
        return response


def _check(response: httpx.Response) -> None:
    if response.status_code != httpx.codes.OK:
        raise ListmonkUnavailable(f"it answered {response.status_code}")


def _rows(lines: Iterator[str]) -> Generator[bytes, None, None]:
    """Cut a CSV file into files with its header; no field of an export has a line end."""
    header = next(lines, "")
    rows: list[str] = []
    for line in lines:
        if len(line) > _LONGEST_LINE:
            raise ListmonkUnavailable("a line of its answer is too long")
        rows.append(line)
        if len(rows) == _ROWS_AT_ONCE:
            yield "\n".join([header, *rows]).encode()
            rows = []
    if rows:
        yield "\n".join([header, *rows]).encode()
