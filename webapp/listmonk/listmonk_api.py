"""API of a listmonk server: exports of clicks and views, and attributes of subscribers."""

from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import httpx
from msgspec import Meta, Struct

from webapp.egress import EgressGuard
from webapp.list_tools.tool_api import ToolApi, ToolUnavailable

Export = Literal["clicks", "views"]

_ROWS_AT_ONCE = 5_000
_LONGEST_LINE = 10_000
_PAGE = 500


class Subscriber(Struct, frozen=True):
    """A subscriber as listmonk's API has it."""

    id: int
    uuid: Annotated[str, Meta(min_length=1, max_length=64)]
    email: str
    attribs: dict[str, Any] | None = None


class _Results(Struct, frozen=True):
    results: list[Subscriber]


class _SubscriberPage(Struct, frozen=True):
    data: _Results


class ListmonkApi(ToolApi):
    """API of one listmonk server; used in a ``with`` statement."""

    def __init__(self, guard: EgressGuard, url: str, user: str, token: str) -> None:
        """Call the server at `url` as an API user.

        Raises:
            EgressRefused: it may not be called.
        """
        super().__init__(guard, url, httpx.BasicAuth(user, token))

    def export(self, name: Export, since: float) -> Iterator[bytes]:
        """Yield what happened since a time, in seconds since 1970: CSV files with the header each.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """
        at = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
        path = f"api/maintenance/analytics/{name}/export"
        with (
            self.stream(path, {"since": at}) as response,
            closing(_rows(response.iter_lines())) as parts,
        ):
            yield from parts

    def subscribers(
        self, list_id: int, *, after: int = 0
    ) -> Iterator[tuple[int, list[Subscriber]]]:
        """Yield the subscribers of a list behind a page: the number of their page, and they.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """
        number = after
        while True:
            number += 1
            query: dict[str, str | int] = {
                "list_id": list_id,
                "page": number,
                "per_page": _PAGE,
                "order_by": "id",
                "order": "asc",
            }
            _, page = self.call("GET", "api/subscribers", _SubscriberPage, query=query)
            subscribers = page.data.results if page is not None else []
            if subscribers:
                yield number, subscribers
            if len(subscribers) < _PAGE:
                return

    def set_attributes(self, subscriber_id: int, attribs: dict[str, Any]) -> None:
        """Merge attributes into those of a subscriber.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """
        path = f"api/subscribers/{subscriber_id}"
        self.call("PATCH", path, dict, body={"attribs": attribs})


def _rows(lines: Iterator[str]) -> Generator[bytes, None, None]:
    """Cut a CSV file into files with its header; no field of an export has a line end."""
    header = next(lines, "")
    rows: list[str] = []
    for line in lines:
        if len(line) > _LONGEST_LINE:
            raise ToolUnavailable("a line of its answer is too long")
        rows.append(line)
        if len(rows) == _ROWS_AT_ONCE:
            yield "\n".join([header, *rows]).encode()
            rows = []
    if rows:
        yield "\n".join([header, *rows]).encode()
