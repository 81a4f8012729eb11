"""Connection set-up: the fields of a kind, checked and completed, for pages, API and commands."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bandits.errors import Fault, InvalidInput
from bandits.identifiers import Key, pointer
from storage.connections import Connection, ConnectionSecrets, ConnectionStore
from storage.connections.connections import ConnectionKey
from webapp.signals.connection_kind import ConnectionField, ConnectionKind, FieldValues
from webapp.signals.kind_registry import connection_kind

LONGEST_GRACE_SECONDS = 30 * 86_400.0
_LONGEST_VALUE = 4000
_ADDRESS = "{address}"

EventMetrics = Annotated[
    dict[Key, Key],
    Meta(max_length=50, description="by an event's name, the metric that it feeds"),
]


class NewConnection(Struct, frozen=True):
    """A connection, and the secrets that were made for it, which are shown this once."""

    connection: Connection
    generated: Mapping[str, str]


def add_connection(  # noqa: PLR0913 - the parts of a connection
    store: ConnectionStore,
    kind_name: str,
    key: str,
    values: Mapping[str, str],
    *,
    metrics: Mapping[str, str],
    excludes_bounces: bool = False,
    at: float,
    by: str,
) -> NewConnection:
    """Add a connection with the values of its kind's fields; missing secrets may be generated.

    Raises:
        InvalidInput: at ``/kind``, ``/key``, ``/values/{field}`` or ``/metrics``.
        AlreadyExists: its key is taken.
    """
    kind = connection_kind(kind_name)
    faults = _key_faults(key) + metric_faults(metrics)
    complete, generated = _complete(kind.fields, values)
    faults += value_faults(kind.fields, complete)
    if faults:
        raise InvalidInput(faults)
    secret, open_values = _split(kind, complete)
    connection = store.add(
        kind.name,
        key,
        secret,
        fields=open_values,
        metrics=metrics,
        at=at,
        by=by,
        excludes_bounces=excludes_bounces,
    )
    return NewConnection(connection, generated)


def rotate_connection(  # noqa: PLR0913 - the parts of a rotation
    store: ConnectionStore,
    key: str,
    values: Mapping[str, str],
    *,
    grace_seconds: float,
    at: float,
    by: str,
) -> NewConnection:
    """Give a connection new secrets; those until now work for a while longer.

    An optional one that is not given stays.

    Raises:
        NotFound: there is no such connection.
        InvalidInput: at ``/values/{field}``.
    """
    kind = connection_kind(store.find(key).kind)
    fields = tuple(field for field in kind.fields if field.secret)
    complete, generated = _complete(fields, values)
    _, secrets = store.open(key, at=at)
    for field in fields:
        if field.optional and field.name in secrets.current:
            complete.setdefault(field.name, secrets.current[field.name])
    if faults := value_faults(fields, complete):
        raise InvalidInput(faults)
    rotated = store.rotate(key, complete, grace_seconds=grace_seconds, at=at, by=by)
    return NewConnection(rotated, generated)


def configure_connection(  # noqa: PLR0913 - the parts that may change
    store: ConnectionStore,
    key: str,
    values: Mapping[str, str],
    *,
    metrics: Mapping[str, str],
    excludes_bounces: bool = False,
    at: float,
    by: str,
) -> Connection:
    """Change what of a connection is not secret: values, metrics, and what bounces do.

    Raises:
        NotFound: there is no such connection.
        InvalidInput: at ``/values/{field}`` or ``/metrics``.
    """
    kind = connection_kind(store.find(key).kind)
    fields = tuple(field for field in kind.fields if not field.secret)
    complete, _ = _complete(fields, values)
    if faults := value_faults(fields, complete) + metric_faults(metrics):
        raise InvalidInput(faults)
    return store.configure(
        key, fields=complete, metrics=metrics, at=at, by=by, excludes_bounces=excludes_bounces
    )


def field_values(
    kind: ConnectionKind, connection: Connection, secrets: ConnectionSecrets, address: str
) -> FieldValues:
    """Return by field the values that hold: the newest, then the one before a rotation.

    Args:
        kind: of the connection.
        connection: with the values that are not secret.
        secrets: the others.
        address: that its sender sends to.
    """
    values: dict[str, tuple[str, ...]] = {}
    for field in kind.fields:
        stored = secrets.current if field.secret else connection.fields
        held = [stored.get(field.name, field.default.replace(_ADDRESS, address))]
        if field.secret and secrets.previous and field.name in secrets.previous:
            held.append(secrets.previous[field.name])
        values[field.name] = tuple(dict.fromkeys(filter(None, held)))  # an empty one proves nothing
    return values


def value_faults(fields: tuple[ConnectionField, ...], values: Mapping[str, str]) -> list[Fault]:
    """List what is wrong with values of fields, by the place in a request."""
    by_name = {field.name: field for field in fields}
    faults = []
    for name in values.keys() - by_name.keys():
        listed = ", ".join(by_name) or "none"
        faults.append(Fault(pointer("values", name), f"is no field of it; there is {listed}"))
    for name, field in by_name.items():
        value = values.get(name, "")
        detail = None
        if not value:
            detail = "is needed" if field.required else None
        elif len(value) > _LONGEST_VALUE or not value.isprintable():
            detail = f"must be at most {_LONGEST_VALUE:,} printable characters"
        else:
            detail = field.fault(value)
        if detail is not None:
            faults.append(Fault(pointer("values", name), detail))
    return faults


def metric_faults(metrics: Mapping[str, str]) -> list[Fault]:
    """List what is wrong with the metrics that events feed."""
    try:
        msgspec.convert(dict(metrics), EventMetrics)
    except msgspec.ValidationError:
        detail = "must be names of events and of metrics: letters, digits, `_`, `-` and `.`"
        return [Fault("/metrics", detail)]
    return []


def _key_faults(key: str) -> list[Fault]:
    try:
        msgspec.convert(key, ConnectionKey)
    except msgspec.ValidationError:
        detail = "must be 1 to 40 small letters, digits, `-` and `_`, first a letter or digit"
        return [Fault("/key", detail)]
    return []


def _complete(
    fields: tuple[ConnectionField, ...], values: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Leave out empty values, and generate the secrets that are missing; return both."""
    complete = {name: value.strip() for name, value in values.items() if value.strip()}
    missing = [field for field in fields if field.generated and field.name not in complete]
    generated = {field.name: field.generate() for field in missing}
    return complete | generated, generated


def _split(
    kind: ConnectionKind, values: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Part the secret values from the others."""
    secret = {field.name for field in kind.fields if field.secret}
    return (
        {name: value for name, value in values.items() if name in secret},
        {name: value for name, value in values.items() if name not in secret},
    )
