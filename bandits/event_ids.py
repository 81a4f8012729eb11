"""Event ids: those of senders, and those of connections and tracked links, which begin with theirs.

A sender could learn or guess the ids that a mailer gives its events. Were they taken as they are,
whoever reports such an id first would keep the mailer's own event out. So connections and tracking
keys have ids that nobody else can use, and no two of them have the same.
"""

from collections.abc import Sequence

from bandits.actors import Actor, split_actor

_CONNECTION = "connection"
_KINDS = (_CONNECTION, "tracking")
RESERVED = tuple(f"{kind}:" for kind in _KINDS)  # an event id that begins so is one of these
RESERVED_TOLD = "must not begin with `connection:` or `tracking:`, as those of mailers and links do"


def connection_event_id(actor: Actor, event_id: str) -> str:
    """Name an event of a connection in the log by the id that its sender gave it."""
    return f"{actor}:{event_id}"


def sent_event_ids(actor: Actor, event_ids: Sequence[str]) -> Sequence[str]:
    """Return the ids that a connection's sender gave its events; those of others as they are.

    Args:
        actor: who reports the events.
        event_ids: n ids, as the log has them.
    """
    if split_actor(actor)[0] not in _KINDS:
        return event_ids
    return [event_id.removeprefix(f"{actor}:") for event_id in event_ids]


def foreign_rows(actor: Actor, event_ids: Sequence[str]) -> list[int]:
    """Find the positions of ids that an actor may not report events under.

    Of connections and tracking keys each has its own, and whoever else has none of theirs.
    """
    if split_actor(actor)[0] in _KINDS:
        own = f"{actor}:"
        return [row for row, event_id in enumerate(event_ids) if not event_id.startswith(own)]
    return [row for row, event_id in enumerate(event_ids) if event_id.startswith(RESERVED)]


def is_connection(actor: Actor) -> bool:
    """Return true where an actor is a connection."""
    return split_actor(actor)[0] == _CONNECTION
