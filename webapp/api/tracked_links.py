"""Tracked links: their keys and hosts, emails with such links, and those who unsubscribed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from flask import current_app
from msgspec import Meta, Struct

from bandits.client.tracking import LinkSigner, TrackedEmail, track_links
from bandits.engine.analysis.receipts import moment
from bandits.errors import Conflict, NotFound
from bandits.schemas import Id, RefusedRow
from bandits.store.values import MarkResult
from bandits.tracking_tokens import MOST_DECISIONS
from storage.accounts.api_keys import ApiKey, KeyName
from storage.tracked_links import (
    MOST_HOSTS,
    NewTrackingKey,
    StoredTrackingKey,
    TrackingCounts,
)
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.links.link_views import PUBLIC_URL, link_reader
from webapp.services import Services

operations = OperationGroup("tracking")

NO_PUBLIC_URL = (
    "the server does not know the address that recipients reach it at: set BANDITS_PUBLIC_URL and"
    " start it again"
)
_CHARACTERS_A_ROW = 10_000  # of HTML, which take about as long as a row of other calls
_KEY = "/tracking/keys/<int(max=2147483647):key_number>"
_LAST = 2**53  # the largest whole number that every JSON reader keeps
_SECRET = {"Cache-Control": "no-store: the key is in the body"}
_NO_STORE = {"Cache-Control": "no-store"}


class TrackingKeyDocument(Struct, frozen=True):
    """A key of tracked links, without its secret.

    Attributes:
        key_id: stands in each of its links.
        signs: new links are to be signed with it.
        replaced_at: of its rotation: its links go on to work and to count.
        revoked_at: from when its links lead on, and count no more.
        event_at: of the last event of its links.
        encrypted: its secret is stored encrypted.
    """

    id: int
    key_id: str
    name: str
    signs: bool
    created_at: datetime
    created_by: str
    replaced_at: datetime | None
    revoked_at: datetime | None
    event_at: datetime | None
    encrypted: bool
    counts: TrackingCounts

    @classmethod
    def from_key(cls, key: StoredTrackingKey) -> "TrackingKeyDocument":
        """Describe a stored key."""
        return cls(
            key.id,
            key.key_id,
            key.name,
            key.signs,
            moment(key.created_at),
            key.created_by,
            _moment(key.replaced_at),
            _moment(key.revoked_at),
            _moment(key.event_at),
            key.encrypted,
            key.counts,
        )


class TrackingSettings(Struct, frozen=True):
    """All that a sender needs beside a key, to make links by itself.

    Attributes:
        public_url: that links begin with; null where the server does not know it.
        hosts: that links may lead to.
        keys: the newest first.
    """

    public_url: str | None
    hosts: list[str]
    keys: list[TrackingKeyDocument]


class LinkHosts(Struct, frozen=True, forbid_unknown_fields=True):
    """Hosts that links may lead to: ``shop.example``, or ``*.shop.example`` for all below it."""

    hosts: Annotated[list[str], Meta(max_length=MOST_HOSTS)]


class TrackingKeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Name of a new key."""

    name: KeyName


class NewTrackingKeyDocument(Struct, frozen=True):
    """A new key, and its text with the secret, which no other answer ever shows."""

    key: TrackingKeyDocument
    text: str

    @classmethod
    def from_new(cls, new: NewTrackingKey) -> "NewTrackingKeyDocument":
        """Describe a key that was just made."""
        return cls(TrackingKeyDocument.from_key(new.key), new.text)


class EmailRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """An HTML email whose links are to be tracked.

    Attributes:
        decision_ids: that the email was made by; each gets every event.
        personalize: false where the recipient's data may not be used: no pixel is placed.
        opted_out: the recipient wants no tracking: only the headers are made.
        unsubscribe_mailto: an address for mail programs that unsubscribe by email.
        key_id: of the key that signs; the newest unless given.
    """

    html: Annotated[str, Meta(max_length=2_000_000)]
    decision_ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_DECISIONS)]
    personalize: bool = True
    opted_out: bool = False
    unsubscribe_mailto: Annotated[str, Meta(min_length=3, max_length=254)] | None = None
    key_id: str | None = None


class EmailDocument(Struct, frozen=True):
    """An email with tracked links.

    Attributes:
        headers: to be added to the message.
        unsubscribe_url: for a link in the email's text.
        explanation_url: for a link "Why do I get this?" in it, to a page for its recipient.
        links: number of links that are tracked now.
        unknown: ids of no decision. They, and those that are `refused`, are in no link; where
            there is no other, the email is as it came.
        refused: decisions of other keys.
    """

    html: str
    headers: dict[str, str]
    unsubscribe_url: str | None
    links: int
    unknown: Sequence[str] = ()
    refused: Sequence[RefusedRow] = ()
    explanation_url: str | None = None


class UnsubscribeDocument(Struct, frozen=True):
    """A recipient who unsubscribed, by the decision of the email that they did it from."""

    decision_id: str
    at: datetime


class UnsubscribeList(Struct, frozen=True):
    """Those who unsubscribed, the oldest first; `next` continues the list, also later."""

    unsubscribes: list[UnsubscribeDocument]
    next: int


class UnsubscribeQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a list of those who unsubscribed."""

    after: Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="how many at most")] = 1000


@operations("GET", "/tracking", scope="read", answers={200: TrackingSettings})
def read_tracking(services: Services) -> OperationResponse:
    """Read where links begin, where they may lead, and the keys without their secrets."""
    links = services.tracked_links
    keys = [TrackingKeyDocument.from_key(key) for key in links.all()]
    return OperationResponse(TrackingSettings(current_app.config[PUBLIC_URL], links.hosts(), keys))


@operations(
    "PUT",
    "/tracking/hosts",
    scope="manage",
    least_role="admin",
    body=Body(LinkHosts, example={"hosts": ["shop.example", "*.shop.example"]}),
    answers={200: LinkHosts},
)
def set_link_hosts(services: Services, body: LinkHosts) -> OperationResponse:
    """Let links lead to these hosts alone; links of sent emails to any other stop working."""
    at, by = services.engine.clock(), caller()
    hosts = services.tracked_links.set_hosts(body.hosts, at=at, by=by)
    link_reader().ring.forget()
    return OperationResponse(LinkHosts(hosts))


@operations(
    "POST",
    "/tracking/keys",
    scope="manage",
    least_role="admin",
    body=Body(TrackingKeyRequest, example={"name": "newsletter sender"}),
    answers={201: NewTrackingKeyDocument},
    headers=_SECRET,
    gives={"key_number": "$response.body#/key/id"},
)
def create_tracking_key(services: Services, body: TrackingKeyRequest) -> OperationResponse:
    """Make a key that a sender signs links with by itself; its text is shown this once."""
    at, by = services.engine.clock(), caller()
    new = services.tracked_links.create(body.name, at=at, by=by)
    return OperationResponse(NewTrackingKeyDocument.from_new(new), 201, _NO_STORE)


@operations(
    "POST",
    f"{_KEY}/rotate",
    scope="manage",
    least_role="admin",
    answers={200: NewTrackingKeyDocument},
    refusals=(NotFound, Conflict),
    headers=_SECRET,
)
def rotate_tracking_key(services: Services, key_number: int) -> OperationResponse:
    """Make a key that replaces this one; links that it signed go on to work and to count."""
    at, by = services.engine.clock(), caller()
    new = services.tracked_links.rotate(key_number, at=at, by=by)
    return OperationResponse(NewTrackingKeyDocument.from_new(new), headers=_NO_STORE)


@operations(
    "POST",
    f"{_KEY}/revoke",
    scope="manage",
    least_role="admin",
    answers={200: TrackingKeyDocument},
    refusals=(NotFound,),
    idempotent=True,
)
def revoke_tracking_key(services: Services, key_number: int) -> OperationResponse:
    """Count no event of a key's links from now on, where it leaked; they lead on all the same."""
    at, by = services.engine.clock(), caller()
    revoked = services.tracked_links.revoke(key_number, at=at, by=by)
    link_reader().ring.forget()
    return OperationResponse(TrackingKeyDocument.from_key(revoked))


@operations(
    "POST",
    "/tracking/rewrite",
    scope="choose",
    body=Body(
        EmailRequest,
        example={
            "html": '<a href="https://shop.example/">Shop</a>',
            "decision_ids": ["019b4d3e-0000-7000-8000-000000000000"],
        },
    ),
    answers={200: EmailDocument},
    refusals=(NotFound, Conflict),
    takes_caller=True,
    weigh=lambda body: len(body.html) // _CHARACTERS_A_ROW,
)
def rewrite_email(services: Services, body: EmailRequest, caller: ApiKey) -> OperationResponse:
    """Track the links of an HTML email, place the pixel, and make the headers to unsubscribe by.

    It takes decisions that the key chose, or was answered with while they waited for their
    activation; any decision where it has the scope `manage` as well. Links of a test key lead on
    and count nothing. Each 10,000 characters of HTML count as a row. Nothing is stored. The client
    does the same with a tracking key and without a request: `bandits.client.tracking`.
    """
    public_url = current_app.config[PUBLIC_URL]
    if public_url is None:
        raise Conflict(NO_PUBLIC_URL)
    links = services.tracked_links
    key = links.signing_key(body.key_id, signer=caller.id)
    marks = MarkResult(0, 0, ())
    if not caller.dry_run:  # of which nobody knows the decisions; its links name none
        own_only = "manage" not in caller.scopes
        marks = services.engine.check_sender(
            body.decision_ids, actor=caller.actor, own_only=own_only
        )
    refused = {*marks.unknown, *(row.id for row in marks.refused)}
    ids = tuple(i for i in dict.fromkeys(body.decision_ids) if i not in refused)
    ids = () if caller.dry_run else ids
    email = track_links(
        body.html,
        LinkSigner(key, public_url, links.hosts(), ids),
        personalize=body.personalize,
        opted_out=body.opted_out,
        unsubscribe_mailto=body.unsubscribe_mailto,
    )
    if not ids and not caller.dry_run:
        email = TrackedEmail(body.html, {}, None, 0)
    return OperationResponse(
        EmailDocument(
            email.html,
            email.headers,
            email.unsubscribe_url,
            email.links,
            marks.unknown,
            marks.refused,
            email.explanation_url,
        )
    )


@operations(
    "GET",
    "/tracking/unsubscribes",
    scope="read",
    query=UnsubscribeQuery,
    answers={200: UnsubscribeList},
)
def list_unsubscribes(services: Services, query: UnsubscribeQuery) -> OperationResponse:
    """List those who unsubscribed, the oldest first, so that the sender takes them off its list.

    Ask again with the last `next`: it is the same where nothing new came. They are kept for 400
    days.
    """
    rows = services.tracked_links.unsubscribes(after=query.after, limit=query.limit)
    documents = [UnsubscribeDocument(row.decision_id, moment(row.at)) for row in rows]
    following = rows[-1].id if rows else query.after
    return OperationResponse(UnsubscribeList(documents, following))


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
