"""Recipients of listmonk: what names them in the log, and what the policy may know of them."""

from collections.abc import Mapping
from typing import Any

from bandits.experiment import Experiment
from bandits.features import Scalar
from storage.connections import Connection


def subject_id_of(
    connection: Connection, uuid: str, email: str, attribs: Mapping[str, Any] | None
) -> str:
    """Return what names a subscriber in the log: the uuid where the connection's choice is empty.

    Args:
        connection: its field ``subject_id`` is ``uuid``, ``email`` or the name of an attribute.
        uuid: of the subscriber, or empty.
        email: the address.
        attribs: the attributes.
    """
    name = connection.fields.get("subject_id", "uuid")
    if name == "email":
        return email
    value = None if name == "uuid" else (attribs or {}).get(name)
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    return uuid or email


def context_of(
    experiment: Experiment, attribs: Mapping[str, Any] | None
) -> dict[str, Scalar] | None:
    """Return the attributes that the experiment declares as features, None without any."""
    attributes = attribs or {}
    values = {f.name: attributes.get(f.name) for f in experiment.context}
    return {n: v for n, v in values.items() if isinstance(v, str | int | float)} or None
