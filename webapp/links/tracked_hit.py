"""Tracked hits: requests for a link, pixel or unsubscribe page of an email, and their events."""

from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from msgspec import Struct

from bandits.machines.agents import agent_class
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
_SAME_SECONDS = 10  # in which requests for a link from an address and a class of program are one
_DIGEST_BYTES = 12
_LONGEST_AGENT = 512


class TrackedHit(Struct, frozen=True, omit_defaults=True):
    """One request.

    Attributes:
        key_id: of the key that signed the link.
        kind: of the link.
        decision_ids: of the email.
        address: that the link leads to.
        agent: the user agent.
        network_address: that the request came from.
        head: the request was for the head alone: no browser follows a link so.
        signer: number of the API key that the link was signed for here; 0 where there is none.
    """

    key_id: str
    kind: TokenKind
    decision_ids: tuple[str, ...]
    address: str = ""
    agent: str = ""
    network_address: str = ""
    head: bool = False
    signer: int = 0

    @property
    def is_machine(self) -> bool:
        """True where no person can have done this: asked for a head, or followed a hidden link.

        Only campaigns that judge opens and clicks record such hits, and set them aside.
        """
        return self.head or self.kind is TokenKind.HONEYPOT

    def record(self, at: float) -> SpoolRecord:
        """Return the hit as it stands in the spool."""
        return SpoolRecord(TOPIC, at, b"", msgspec.json.encode(self))

    def event(self, at: float, secret: bytes) -> SignalEvent:
        """Return the event that it is of its decisions.

        Args:
            at: when the request came, seconds since 1970.
            secret: of the server, for `event_id`.
        """
        return SignalEvent(
            name=_NAMES[self.kind],
            event_id=self.event_id(at, secret),
            occurred_at=datetime.fromtimestamp(at, UTC),
            decision_ids=self.decision_ids,
            link=self.address or None,
            agent=self.agent or None,
            network_address=self.network_address or None,
            head=self.head,
            honeypot=self.kind is TokenKind.HONEYPOT,
        )

    def event_id(self, at: float, secret: bytes) -> str:
        """Return the id of its event: a hash of what tells requests apart, under a secret.

        A link that somebody fetches all day makes one event in ten seconds, whatever names their
        programs have: of these only the class is in it. An unsubscribing is one event for good.
        """
        if self.kind is TokenKind.UNSUBSCRIBE:
            return "links:unsubscribe"
        program, when = int(agent_class(self.agent)), int(at // _SAME_SECONDS)
        parts = (self.kind, self.address, self.network_address, program, self.head, when)
        text = "\n".join(map(str, parts)).encode(errors="replace")
        digest = blake2b(text, digest_size=_DIGEST_BYTES, key=secret).hexdigest()
        return f"links:{digest}"


def tracked_hit(
    key_id: str, token: TrackingToken, *, agent: str, network_address: str, head: bool
) -> TrackedHit:
    """Return the hit that a request for a link is.

    Args:
        key_id: of the key that signed the link.
        token: that was proved.
        agent: user agent.
        network_address: of the sender.
        head: the request was for the head alone.
    """
    return TrackedHit(
        key_id,
        token.kind,
        token.decision_ids,
        token.address,
        agent[:_LONGEST_AGENT],
        network_address,
        head,
        token.signer,
    )


def hit_of(record: SpoolRecord) -> TrackedHit:
    """Read the hit of a record."""
    return msgspec.json.decode(record.text, type=TrackedHit)
