"""Event traces: what is kept of the request behind an open or a click."""

import re
from hashlib import blake2b
from typing import NamedTuple

from bandits.machines.agents import agent_class
from bandits.machines.mailboxes import mailbox_class
from bandits.machines.networks import network_hash
from bandits.machines.tracked_events import EventKind, EventSign
from bandits.schemas import Tracking

UNKNOWN_LINK = 0
# As plain numbers: to read those of an enumeration takes longer.
_OPEN, _CLICK = int(EventKind.OPEN), int(EventKind.CLICK)
_SIGNS = tuple(map(int, EventSign))
_LINK = b"link"
_OPENS = frozenset({"open", "opens", "machine_open"})
_UNSUBSCRIBES = re.compile(r"unsubscri|opt[-_]?out", re.IGNORECASE)


class EventTrace(NamedTuple):
    """Trace of an open or a click, from which nobody can be told by itself.

    Attributes:
        kind: `EventKind`.
        link: 64 bits of a keyed hash of the link's address, 0 where that is not known.
        network: `network_hash` of the address that it came from, 0 where that is not known.
        agent: `AgentClass`.
        signs: the sum of `EventSign`.
        mailbox: `MailboxClass`.
        happened_at: when it happened, seconds since 1970, where its event counts as of a later
            time: see `webapp.webhooks.signal_recorder`.
    """

    kind: int
    link: int
    network: int
    agent: int
    signs: int
    mailbox: int
    happened_at: float | None = None


def event_trace(tracking: Tracking, metric: str, key: bytes) -> EventTrace:
    """Reduce what is known of a request to what may be kept.

    Args:
        tracking: what is known.
        metric: the name of its event, which says what it is where `tracking` does not.
        key: 16 to 64 random bytes, of the installation.

    Raises:
        ValueError: the key is shorter or longer.
    """
    opens = metric in _OPENS if tracking.kind is None else tracking.kind == "open"
    unsubscribes = tracking.unsubscribe or bool(_UNSUBSCRIBES.search(tracking.url or ""))
    signs = (tracking.machine, tracking.head, tracking.honeypot, unsubscribes)
    return EventTrace(
        _OPEN if opens else _CLICK,
        _link_hash(tracking.url, key),
        network_hash(tracking.ip, key),
        int(agent_class(tracking.user_agent)),
        sum([sign for sign, shown in zip(_SIGNS, signs, strict=True) if shown]),
        int(mailbox_class(tracking.recipient)),
    )


def _link_hash(url: str | None, key: bytes) -> int:
    """Hash the address of a link to a signed 64-bit number, 0 of none."""
    text = (url or "").strip()
    if not text:
        return UNKNOWN_LINK
    digest = blake2b(text.encode(errors="replace"), digest_size=8, key=key, person=_LINK).digest()
    return int.from_bytes(digest, "big", signed=True) or 1
