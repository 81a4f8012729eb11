"""Contacts of Mautic: choices become custom fields, up to 200 contacts in a request."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from bandits.errors import InvalidInput
from webapp.egress import EgressGuard
from webapp.list_tools.push import DECISION, Choice, Contact, ContactPage
from webapp.list_tools.tool_api import ToolApi, ToolUnavailable

T = TypeVar("T")

_PAGE = 200  # the most that Mautic changes in a request, unless it is set otherwise
_DONE = {200, 201}


class _ContactFields(Struct, frozen=True):
    all: dict[str, Any] | list[Any] = {}


class _Ban(Struct, frozen=True):
    channel: str = ""


class _MauticContact(Struct, frozen=True):
    id: int
    fields: _ContactFields = _ContactFields()
    doNotContact: list[_Ban] = []  # noqa: N815 - as Mautic names it

    @property
    def values(self) -> Mapping[str, Any]:
        """Values by alias; PHP writes an empty map as a list."""
        return self.fields.all if isinstance(self.fields.all, dict) else {}


class _MauticPage(Struct, frozen=True):
    contacts: dict[str, _MauticContact] | list[Any] = {}


class _FieldName(Struct, frozen=True):
    alias: str


class _RowError(Struct, frozen=True):
    message: str = ""


_FieldList = dict[str, _FieldName] | list[_FieldName]


class _Edited(Struct, frozen=True):
    statusCodes: dict[str, int] | list[int] = []  # noqa: N815 - as Mautic names it
    errors: dict[str, _RowError] | list[_RowError] = []


class _AccessToken(Struct, frozen=True):
    access_token: str


class ClientCredentials(httpx.Auth):
    """Sign-in by OAuth 2 with a client's own credentials; a token is renewed when it has ended."""

    requires_response_body = True

    def __init__(self, client_id: str, client_secret: str) -> None:
        """Ask for tokens as this client."""
        self._form = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with a token, and once more with a new one where it is refused."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
        root = request.url.path.partition("/api/")[0]
        address = request.url.copy_with(path=f"{root}/oauth/v2/token", query=None)
        sign_in = httpx.Request("POST", address, data=self._form, extensions=request.extensions)
        answer = yield sign_in
        if answer.status_code != httpx.codes.OK:
            raise ToolUnavailable(f"it gave no token: it answered {answer.status_code}")
        try:
            self._token = msgspec.json.decode(answer.content, type=_AccessToken).access_token
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ToolUnavailable("it gave no token") from None
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class MauticList:
    """Contacts of one segment."""

    def __init__(
        self, api: ToolApi, *, segment: str, subject: str, aliases: Mapping[str, str]
    ) -> None:
        """Read and write by `api`.

        Args:
            api: of the server.
            segment: its alias.
            subject: what names a recipient: ``id``, or the alias of a field.
            aliases: of the fields, by slot, where they are not the usual ones.
        """
        self._api = api
        self._segment = segment
        self._subject = subject
        self._aliases = dict(aliases)

    def check(self, slots: Sequence[str]) -> None:
        """See `ContactList.check`: Mautic takes fields that it does not have, and drops them."""
        self._aliases = {
            name: self._aliases.get(name, usual_alias(name)) for name in (DECISION, *slots)
        }
        _, fields = self._api.call("GET", "api/contacts/list/fields", _FieldList)
        listed = fields.values() if isinstance(fields, dict) else fields or []
        there = {field.alias for field in listed}
        missing = [alias for alias in self._aliases.values() if alias not in there]
        if missing:
            raise InvalidInput.at(
                "fields", f"add these fields to contacts in Mautic first: {', '.join(missing)}"
            )

    def pages(self, after: str) -> Iterator[ContactPage]:
        """See `ContactList.pages`; a place is the id of a contact."""
        last = int(after or 0)
        while True:
            query: dict[str, str | int] = {
                "search": f"segment:{self._segment}",
                "where[0][col]": "id",
                "where[0][expr]": "gt",
                "where[0][val]": last,
                "orderBy": "id",
                "orderByDir": "asc",
                "limit": _PAGE,
            }
            _, page = self._api.call("GET", "api/contacts", _MauticPage, query=query)
            listed = page.contacts if page is not None else {}
            contacts = list(listed.values()) if isinstance(listed, dict) else []
            if not contacts:
                return
            ids = [contact.id for contact in contacts]
            if min(ids) <= last:
                raise ToolUnavailable("it does not list contacts by their ids")
            last = max(ids)
            open_ones = [c for c in contacts if all(b.channel != "email" for b in c.doNotContact)]
            yield ContactPage(
                [self._contact(contact) for contact in open_ones],
                len(contacts) - len(open_ones),
                str(last),
            )

    def write(self, choices: Sequence[tuple[Contact, Choice]]) -> dict[str, str]:
        """See `ContactList.write`."""
        rows = [
            {"id": int(contact.id), **{self._aliases[n]: text for n, text in choice.items()}}
            for contact, choice in choices
        ]
        _, edited = self._api.call("PATCH", "api/contacts/batch/edit", _Edited, body=rows)
        codes = _by_row(edited.statusCodes if edited is not None else [])
        errors = _by_row(edited.errors if edited is not None else [])
        return {
            contact.id: errors[row].message if row in errors else f"status {codes.get(row)}"
            for row, (contact, _) in enumerate(choices)
            if codes.get(row) not in _DONE
        }

    def _contact(self, contact: _MauticContact) -> Contact:
        values = contact.values
        subject = str(contact.id) if self._subject == "id" else values.get(self._subject)
        return Contact(
            str(contact.id),
            str(subject or contact.id),
            values,
            {
                name: str(values[alias])
                for name, alias in self._aliases.items()
                if values.get(alias) not in {None, ""}
            },
        )


def _by_row(rows: dict[str, T] | list[T]) -> dict[int, T]:
    """Return what PHP writes as a list where its keys are 0, 1, …, and as a map elsewhere."""
    if isinstance(rows, list):
        return dict(enumerate(rows))
    return {int(row): value for row, value in rows.items()}


def usual_alias(name: str) -> str:
    """Return the alias of the field of a slot; Mautic's aliases have no hyphens."""
    return "bandits_" + name.lower().replace("-", "_").replace(".", "_")


def mautic_api(guard: EgressGuard, url: str, user: str, secret: str, *, sign_in: str) -> ToolApi:
    """Open the API of a Mautic server.

    Raises:
        EgressRefused: it may not be called.
    """
    if sign_in == "oauth2":
        return ToolApi(guard, url, ClientCredentials(user, secret))
    return ToolApi(guard, url, httpx.BasicAuth(user, secret))
