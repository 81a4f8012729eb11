"""Tracked hits: requests for a link, pixel or unsubscribe page of an email, and their events."""

from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from msgspec import Struct

from bandits.tracking_tokens import TokenKind, TrackingToken
from storage.spool import SpoolRecord
from webapp.signals.signal_event import SignalEvent

TOPIC = "tracked links"
_NAMES = {
    TokenKind.CLICK: "click",
    TokenKind.HONEYPOT: "click",
    TokenKind.OPEN: "open",
    TokenKind.UNSUBSCRIBE: "unsubscribe",
}
_SAME_SECONDS = 10  # within which requests that are alike are one event
_DIGEST_BYTES = 12
_LONGEST_AGENT = 512


class TrackedHit(Struct, frozen=True, omit_defaults=True):
    """One request.

    Attributes:
        key_id: of the key that signed the link.
        kind: of the link.
        decision_ids: of the email.
        event_id: the same for a request that is repeated within seconds.
        address: that the link leads to.
        agent: the user agent.
        network_address: that the request came from.
        head: the request was for the head alone: no browser follows a link so.
        signer: number of the API key that the link was signed for here; 0 where there is none.
    """

    key_id: str
    kind: TokenKind
    decision_ids: tuple[str, ...]
    event_id: str
    address: str = ""
    agent: str = ""
    network_address: str = ""
    head: bool = False
    signer: int = 0

    @property
    def is_machine(self) -> bool:
        """True where no person can have done this: asked for a head, or followed a hidden link.

        Such hits are counted and set aside.
        """
        return self.head or self.kind is TokenKind.HONEYPOT

    def record(self, at: float) -> SpoolRecord:
        """Return the hit as it stands in the spool."""
        return SpoolRecord(TOPIC, at, b"", msgspec.json.encode(self))

    def event(self, at: float) -> SignalEvent:
        """Return the event that it is of its decisions."""
        return SignalEvent(
            name=_NAMES[self.kind],
            event_id=self.event_id,
            occurred_at=datetime.fromtimestamp(at, UTC),
            decision_ids=self.decision_ids,
            link=self.address or None,
            agent=self.agent or None,
            network_address=self.network_address or None,
            head=self.head,
            honeypot=self.kind is TokenKind.HONEYPOT,
        )


def tracked_hit(  # noqa: PLR0913 - the parts of a request
    key_id: str,
    secret: str,
    token: TrackingToken,
    *,
    agent: str,
    network_address: str,
    head: bool,
    at: float,
) -> TrackedHit:
    """Return the hit that a request for a link is.

    The id of its event is a keyed hash of all that tells requests apart. So a link that somebody
    fetches all day makes one event in ten seconds; an unsubscribing is one event for good.

    Args:
        key_id: of the key that signed the link.
        secret: of that key.
        token: that was proved.
        agent: user agent.
        network_address: of the sender.
        head: the request was for the head alone.
        at: seconds since 1970.
    """
    agent = agent[:_LONGEST_AGENT]
    if token.kind is TokenKind.UNSUBSCRIBE:
        event_id = "links:unsubscribe"
    else:
        when = int(at // _SAME_SECONDS)
        parts = (token.kind, token.address, network_address, agent, head, when)
        text = "\n".join(map(str, parts)).encode(errors="replace")
        digest = blake2b(text, digest_size=_DIGEST_BYTES, key=secret.encode()).hexdigest()
        event_id = f"links:{digest}"
    return TrackedHit(
        key_id,
        token.kind,
        token.decision_ids,
        event_id,
        token.address,
        agent,
        network_address,
        head,
        token.signer,
    )


def hit_of(record: SpoolRecord) -> TrackedHit:
    """Read the hit of a record."""
    return msgspec.json.decode(record.text, type=TrackedHit)
