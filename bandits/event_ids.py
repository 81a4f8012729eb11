"""Event ids: those of senders, and those of connections, which begin with their connection.

A sender could learn or guess the ids that a mailer gives its events. Were they taken as they are,
whoever reports such an id first would keep the mailer's own event out. So connections have ids that
nobody else can use, and no two connections have the same.
"""

from collections.abc import Sequence

from bandits.actors import Actor, split_actor

_CONNECTION = "connection"
RESERVED = f"{_CONNECTION}:"  # an event id that begins so is a connection's
RESERVED_TOLD = f"must not begin with `{RESERVED}`: connections alone report such events"


def connection_event_id(actor: Actor, event_id: str) -> str:
    """Name an event of a connection in the log by the id that its sender gave it."""
    return f"{actor}:{event_id}"


def sent_event_ids(actor: Actor, event_ids: Sequence[str]) -> Sequence[str]:
    """Return the ids that the sender of a connection gave its events; those of others as they are.

    Args:
        actor: who reports the events.
        event_ids: n ids, as the log has them.
    """
    if not is_connection(actor):
        return event_ids
    return [event_id.removeprefix(f"{actor}:") for event_id in event_ids]


def foreign_rows(actor: Actor, event_ids: Sequence[str]) -> list[int]:
    """Find the positions of ids that an actor may not report events under.

    Of connections each has its own, and whoever is no connection has none of theirs.
    """
    if is_connection(actor):
        own = f"{actor}:"
        return [row for row, event_id in enumerate(event_ids) if not event_id.startswith(own)]
    return [row for row, event_id in enumerate(event_ids) if event_id.startswith(RESERVED)]


def is_connection(actor: Actor) -> bool:
    """Return true where an actor is a connection."""
    return split_actor(actor)[0] == _CONNECTION
