"""Contacts of Keila: choices become data of contacts, one contact in a request."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from webapp.egress import EgressGuard
from webapp.list_tools.push import Choice, Contact, ContactPage
from webapp.list_tools.tool_api import ToolApi

ATTRIBUTE = "bandits"
_PAGE = 50
_GONE = 404


class _KeilaContact(Struct, frozen=True):
    id: str
    email: str | None = None
    external_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    status: str = "active"
    data: dict[str, Any] | None = None


class _KeilaPage(Struct, frozen=True):
    data: list[_KeilaContact]


class _KeilaSegment(Struct, frozen=True):
    filter: dict[str, Any] = {}


class _SegmentAnswer(Struct, frozen=True):
    data: _KeilaSegment


class BearerAuth(httpx.Auth):
    """Sign-in by an API key."""

    def __init__(self, key: str) -> None:
        """Send this key."""
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the key."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


class KeilaList:
    """Active contacts of a project, or of one of its segments."""

    def __init__(self, api: ToolApi, *, experiment: str, segment: str | None, subject: str) -> None:
        """Read and write by `api`.

        Args:
            api: of the server.
            experiment: its key, below which data of contacts has its choices.
            segment: its id; all contacts without one.
            subject: what names a recipient: ``email``, ``id``, ``external_id``, or a name in data.
        """
        self._api = api
        self._experiment = experiment
        self._segment = segment
        self._subject = subject

    def check(self, slots: Sequence[str]) -> None:
        """See `ContactList.check`: data of contacts has a place for anything."""
        del slots

    def pages(self, after: str) -> Iterator[ContactPage]:
        """See `ContactList.pages`; a place is the number of a page, from 1."""
        query: dict[str, str | int] = {"paginate[page_size]": _PAGE}
        if self._segment is not None:
            _, segment = self._api.call("GET", f"api/v1/segments/{self._segment}", _SegmentAnswer)
            filtered = segment.data.filter if segment is not None else {}
            query["filter"] = msgspec.json.encode(filtered).decode()
        number = int(after or 0)
        while True:
            _, page = self._api.call(
                "GET", "api/v1/contacts", _KeilaPage, query={**query, "paginate[page]": number}
            )
            contacts = page.data if page is not None else []
            active = [self._contact(c) for c in contacts if c.status == "active"]
            number += 1
            if contacts:
                yield ContactPage(active, len(contacts) - len(active), str(number))
            if len(contacts) < _PAGE:
                return

    def write(self, choices: Sequence[tuple[Contact, Choice]]) -> dict[str, str]:
        """See `ContactList.write`; data is merged at its first level alone, so by us below that."""
        refused = {}
        for contact, choice in choices:
            data = {ATTRIBUTE: {**contact.source, self._experiment: dict(choice)}}
            status, _ = self._api.call(
                "PATCH",
                f"api/v1/contacts/{contact.id}/data",
                dict,
                body={"data": data},
                accepted=frozenset({200, _GONE}),
            )
            if status == _GONE:
                refused[contact.id] = "the contact is gone"
        return refused

    def _contact(self, contact: _KeilaContact) -> Contact:
        data = contact.data or {}
        own = {"id": contact.id, "email": contact.email, "external_id": contact.external_id}
        subject = own.get(self._subject, data.get(self._subject))
        before = data.get(ATTRIBUTE)
        campaigns = before if isinstance(before, dict) else {}
        pushed = campaigns.get(self._experiment)
        return Contact(
            contact.id,
            str(subject or contact.email or contact.id),
            data,
            pushed if isinstance(pushed, dict) else {},
            campaigns,
        )


def keila_api(guard: EgressGuard, url: str, key: str) -> ToolApi:
    """Open the API of a Keila server.

    Raises:
        EgressRefused: it may not be called.
    """
    return ToolApi(guard, url, BearerAuth(key))
