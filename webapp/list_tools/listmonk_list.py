"""Subscribers of listmonk: choices become attributes, one subscriber in a request."""

from collections.abc import Iterator, Sequence

from storage.connections import Connection
from webapp.list_tools.push import Choice, Contact, ContactPage
from webapp.listmonk.listmonk_api import ListmonkApi, Subscriber
from webapp.listmonk.subscribers import subject_id_of

ATTRIBUTE = "bandits"


class ListmonkList:
    """Subscribers of one list."""

    def __init__(
        self, api: ListmonkApi, connection: Connection, *, experiment: str, list_id: int
    ) -> None:
        """Read and write by `api`, below the attribute `experiment` of campaigns' choices."""
        self._api = api
        self._connection = connection
        self._experiment = experiment
        self._list_id = list_id

    def check(self, slots: Sequence[str]) -> None:
        """See `ContactList.check`: attributes have a place for anything."""
        del slots

    def pages(self, after: str) -> Iterator[ContactPage]:
        """See `ContactList.pages`; a place is the number of a page, from 1."""
        for number, page in self._api.subscribers(self._list_id, after=int(after or 0)):
            yield ContactPage([self._contact(s) for s in page], 0, str(number))

    def write(self, choices: Sequence[tuple[Contact, Choice]]) -> dict[str, str]:
        """See `ContactList.write`; those of other campaigns are kept."""
        for contact, choice in choices:
            number, campaigns = contact.source
            attributes = {ATTRIBUTE: {**campaigns, self._experiment: dict(choice)}}
            self._api.set_attributes(number, attributes)
        return {}

    def _contact(self, subscriber: Subscriber) -> Contact:
        attributes = subscriber.attribs or {}
        before = attributes.get(ATTRIBUTE)
        campaigns = before if isinstance(before, dict) else {}
        pushed = campaigns.get(self._experiment)
        return Contact(
            subscriber.uuid,
            subject_id_of(self._connection, subscriber.uuid, subscriber.email, attributes),
            attributes,
            pushed if isinstance(pushed, dict) else {},
            (subscriber.id, campaigns),
        )
