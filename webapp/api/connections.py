"""Connections: mailers and shops that report events; their set-up, state and refused events."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine.analysis.receipts import moment
from bandits.errors import AlreadyExists, NotFound
from storage.connections import Connection, ConnectionCounts, DeliveryOutcome, Refusal
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.services import Services
from webapp.webhooks.connection_setup import (
    LONGEST_GRACE_SECONDS,
    EventMetrics,
    NewConnection,
    add_connection,
    configure_connection,
    rotate_connection,
)
from webapp.webhooks.refused_signals import replay_refusal, signal_text

operations = OperationGroup("connections")

_PATH = "/connections/<key:connection>"
_REFUSED = f"{_PATH}/refused/<int(max=2147483647):refusal_id>"
_LAST = 2**53  # the largest whole number that every JSON reader keeps
_SECRET = {"Cache-Control": "no-store: a generated secret is in the body"}
_NO_STORE = {"Cache-Control": "no-store"}
_EXAMPLE = {
    "kind": "sendgrid",
    "key": "newsletter",
    "values": {"verification_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE…"},
    "metrics": {"order": "purchase"},
}

FieldTexts = Annotated[
    dict[str, str],
    Meta(max_length=20, description="values of the kind's fields, by name; secrets among them"),
]


class ConnectionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new connection.

    Attributes:
        excludes_bounces: take out emails that bounce for their address, as if they were cancelled.
            An email's content can decide whether it bounces; comparisons are biased then.
    """

    kind: str
    key: str
    values: FieldTexts = {}
    metrics: EventMetrics = {}
    excludes_bounces: bool = False


class ConnectionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Values of a connection that are not secret, and the metrics that its events feed.

    Attributes:
        excludes_bounces: as of a new connection; it stays what it is unless given.
    """

    values: FieldTexts = {}
    metrics: EventMetrics = {}
    excludes_bounces: bool | None = None


class ConnectionRotation(Struct, frozen=True, forbid_unknown_fields=True):
    """New secrets, and how long those until now work beside them; 0 ends them at once."""

    values: FieldTexts = {}
    grace_seconds: Annotated[float, Meta(ge=0, le=LONGEST_GRACE_SECONDS)] = 86_400.0


class ConnectionDocument(Struct, frozen=True):
    """A connection, without its secrets.

    Attributes:
        path: of its webhook, below the server's address.
        fields: values that are not secret.
        encrypted: its secrets are stored encrypted.
        previous_until: end of the secrets before the last rotation; null if they have ended.
        delivered_at: the last request that was verified,
        event_at: the last one with an event that names a decision,
        rejected_at: and the last one that was not verified,
        rejection: for this reason.
        unmatched: events that wait for their decision now.
        excludes_bounces: emails that bounce for their address are taken out.
    """

    key: str
    kind: str
    path: str
    fields: dict[str, str]
    metrics: dict[str, str]
    paused: bool
    encrypted: bool
    created_at: datetime
    created_by: str
    previous_until: datetime | None
    delivered_at: datetime | None
    event_at: datetime | None
    rejected_at: datetime | None
    rejection: str | None
    unmatched: int
    counts: ConnectionCounts
    excludes_bounces: bool = False

    @classmethod
    def from_connection(cls, connection: Connection) -> "ConnectionDocument":
        """Describe a stored connection."""
        return cls(
            connection.key,
            connection.kind,
            f"/webhooks/{connection.kind}/{connection.key}",
            dict(connection.fields),
            dict(connection.metrics),
            connection.paused,
            connection.encrypted,
            moment(connection.created_at),
            connection.created_by,
            _moment(connection.previous_until),
            _moment(connection.delivered_at),
            _moment(connection.event_at),
            _moment(connection.rejected_at),
            connection.rejection or None,
            connection.unmatched,
            connection.counts,
            connection.excludes_bounces,
        )


class NewConnectionDocument(Struct, frozen=True):
    """A connection, and the secrets that were made for it, which no other answer ever shows."""

    connection: ConnectionDocument
    generated: dict[str, str]


class ConnectionList(Struct, frozen=True):
    """All connections, by key."""

    connections: list[ConnectionDocument]


class RefusedDocument(Struct, frozen=True):
    """An event that did not fit; `content` is what was sent, null in a list."""

    id: int
    received_at: datetime
    reason: str
    content: str | None = None


class RefusedList(Struct, frozen=True):
    """Events that did not fit, the newest first; `next` continues the list, null at its end."""

    refused: list[RefusedDocument]
    next: int | None


class RefusedQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a list of refused events."""

    after: Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")] = _LAST
    limit: Annotated[int, Meta(ge=1, le=100, description="how many at most")] = 50


class ReplayDocument(Struct, frozen=True):
    """Outcome of a refused event that was replayed; `reasons` are those of a new refusal."""

    recorded: int
    repeated: int
    late: int
    unmatched: int
    without_decision: int
    reasons: list[str]

    @classmethod
    def from_outcome(cls, outcome: DeliveryOutcome) -> "ReplayDocument":
        """Describe an outcome."""
        return cls(
            outcome.recorded,
            outcome.repeated,
            outcome.late,
            len(outcome.unmatched),
            outcome.without_decision,
            [refusal.reason for refusal in outcome.refused],
        )


@operations(
    "GET", "/connections", scope="manage", least_role="admin", answers={200: ConnectionList}
)
def list_connections(services: Services) -> OperationResponse:
    """List connections with their state, without their secrets."""
    documents = map(ConnectionDocument.from_connection, services.connections.all())
    return OperationResponse(ConnectionList(list(documents)))


@operations(
    "POST",
    "/connections",
    scope="manage",
    least_role="admin",
    body=Body(ConnectionRequest, example=_EXAMPLE),
    answers={201: NewConnectionDocument},
    refusals=(NotFound, AlreadyExists),
    headers=_SECRET,
    gives={"connection": "$response.body#/connection/key"},
)
def create_connection(services: Services, body: ConnectionRequest) -> OperationResponse:
    """Connect a mailer or shop: from now on it may report events to the connection's webhook.

    Secrets that the kind lets us make are made where none is given, and shown this once.
    """
    new = add_connection(
        services.connections,
        body.kind,
        body.key,
        body.values,
        metrics=body.metrics,
        excludes_bounces=body.excludes_bounces,
        at=services.engine.clock(),
        by=caller(),
    )
    return OperationResponse(_new(new), 201, _NO_STORE)


@operations(
    "GET",
    _PATH,
    scope="manage",
    least_role="admin",
    answers={200: ConnectionDocument},
    refusals=(NotFound,),
)
def read_connection(services: Services, connection: str) -> OperationResponse:
    """Read a connection's state: its last events, its counts, its last rejection."""
    return _respond(services.connections.find(connection))


@operations(
    "PUT",
    _PATH,
    scope="manage",
    least_role="admin",
    body=Body(ConnectionSettings, example={"metrics": {"order": "purchase"}}),
    answers={200: ConnectionDocument},
    refusals=(NotFound,),
)
def change_connection(
    services: Services, connection: str, body: ConnectionSettings
) -> OperationResponse:
    """Replace the values that are not secret, and the metrics that events feed."""
    excludes_bounces = body.excludes_bounces
    if excludes_bounces is None:
        excludes_bounces = services.connections.find(connection).excludes_bounces
    changed = configure_connection(
        services.connections,
        connection,
        body.values,
        metrics=body.metrics,
        excludes_bounces=excludes_bounces,
        at=services.engine.clock(),
        by=caller(),
    )
    return _respond(changed)


@operations(
    "POST",
    f"{_PATH}/pause",
    scope="manage",
    least_role="admin",
    answers={200: ConnectionDocument},
    refusals=(NotFound,),
    idempotent=True,
)
def pause_connection(services: Services, connection: str) -> OperationResponse:
    """Pause a connection: its sender is asked to come again, for as long as it does that."""
    at, by = services.engine.clock(), caller()
    return _respond(services.connections.set_paused(connection, paused=True, at=at, by=by))


@operations(
    "POST",
    f"{_PATH}/resume",
    scope="manage",
    least_role="admin",
    answers={200: ConnectionDocument},
    refusals=(NotFound,),
    idempotent=True,
)
def resume_connection(services: Services, connection: str) -> OperationResponse:
    """Take events of a paused connection again."""
    at, by = services.engine.clock(), caller()
    return _respond(services.connections.set_paused(connection, paused=False, at=at, by=by))


@operations(
    "POST",
    f"{_PATH}/rotate",
    scope="manage",
    least_role="admin",
    body=Body(ConnectionRotation, example={"values": {}, "grace_seconds": 86400}),
    answers={200: NewConnectionDocument},
    refusals=(NotFound,),
    headers=_SECRET,
)
def rotate_connection_secrets(
    services: Services, connection: str, body: ConnectionRotation
) -> OperationResponse:
    """Give a connection new secrets; those until now work for a while longer.

    So the sender can be changed without a pause, and what it repeats meanwhile still counts. If a
    secret leaked, ask for no grace. Secrets in their grace from an earlier rotation end.
    """
    new = rotate_connection(
        services.connections,
        connection,
        body.values,
        grace_seconds=body.grace_seconds,
        at=services.engine.clock(),
        by=caller(),
    )
    return OperationResponse(_new(new), headers=_NO_STORE)


@operations(
    "DELETE", _PATH, scope="manage", least_role="admin", answers={204: None}, refusals=(NotFound,)
)
def delete_connection(services: Services, connection: str) -> OperationResponse:
    """Delete a connection with its secrets, its waiting and its refused events.

    Events that were counted stay counted.
    """
    services.connections.delete(connection, at=services.engine.clock(), by=caller())
    return OperationResponse(None, 204)


@operations(
    "GET",
    f"{_PATH}/refused",
    scope="manage",
    least_role="admin",
    query=RefusedQuery,
    answers={200: RefusedList},
    refusals=(NotFound,),
)
def list_refused_events(
    services: Services, connection: str, query: RefusedQuery
) -> OperationResponse:
    """List events of verified requests that did not fit, each with its reason."""
    refusals = services.connections.refusals(connection, before=query.after, limit=query.limit + 1)
    page = refusals[: query.limit]
    following = page[-1].id if len(refusals) > len(page) else None
    return OperationResponse(RefusedList([_refused(r) for r in page], following))


@operations(
    "GET",
    _REFUSED,
    scope="manage",
    least_role="admin",
    answers={200: RefusedDocument},
    refusals=(NotFound,),
    headers={"Cache-Control": "no-store: it is about a person"},
)
def read_refused_event(services: Services, connection: str, refusal_id: int) -> OperationResponse:
    """Read a refused event with its content, as it was sent."""
    text = signal_text(services.connections.refusal_body(connection, refusal_id))
    (refusal,) = services.connections.refusals(connection, before=refusal_id + 1, limit=1)
    return OperationResponse(_refused(refusal, text), headers=_NO_STORE)


@operations(
    "POST",
    f"{_REFUSED}/replay",
    scope="manage",
    least_role="admin",
    answers={200: ReplayDocument},
    refusals=(NotFound,),
    idempotent=True,
    repeatable=True,
)
def replay_refused_event(services: Services, connection: str, refusal_id: int) -> OperationResponse:
    """Take a refused event once more, after what it did not fit to was changed; it counts once.

    Where it does not fit again, it stays in the list.
    """
    outcome = replay_refusal(services, connection, refusal_id, by=caller())
    return OperationResponse(ReplayDocument.from_outcome(outcome))


def _respond(connection: Connection) -> OperationResponse:
    return OperationResponse(ConnectionDocument.from_connection(connection))


def _new(new: NewConnection) -> NewConnectionDocument:
    document = ConnectionDocument.from_connection(new.connection)
    return NewConnectionDocument(document, dict(new.generated))


def _refused(refusal: Refusal, content: str | None = None) -> RefusedDocument:
    return RefusedDocument(refusal.id, moment(refusal.received_at), refusal.reason, content)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
