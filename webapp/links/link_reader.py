"""Link reader: proof of the tokens in addresses, and the record of what was done with them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bandits.tracking_tokens import BadToken, SignedToken, TokenKind, TrackingToken, allows
from storage.spool import Spool
from webapp.links.key_ring import KeyRing
from webapp.links.tracked_hit import tracked_hit

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


class HostNotAllowed(BadToken):
    """A token was signed, and leads to a host that is not allowed, or not any more."""


class LinkReader:
    """Proof of tokens, and the record of what was done with them, for one application."""

    def __init__(self, ring: KeyRing, spool: Spool, clock: Callable[[], float]) -> None:
        """Prove by the keys of `ring` and write to `spool`; `clock` tells seconds since 1970."""
        self.ring = ring
        self._spool = spool
        self._clock = clock

    def prove(self, text: str, *kinds: TokenKind) -> tuple[SignedToken, TrackingToken]:
        """Prove a token of one of these kinds.

        Raises:
            BadToken: it is none, or leads to a host that is not allowed.
            Unavailable: its key cannot be read now.
        """
        signed = SignedToken.parse(text)
        rules = self.ring.rules_for(signed.key_id)
        token = signed.verify(rules.secret(signed.key_id, signed.signer))
        if token.kind not in kinds:
            raise BadToken("it is of another kind")
        if token.address and not allows(rules.hosts, token.address):
            raise HostNotAllowed("its host is not allowed")
        return signed, token

    def counts(self, signed: SignedToken) -> bool:
        """Return False for a token of a revoked key.

        Raises:
            BadToken: there is no such key.
            Unavailable: whether there is one cannot be read now.
        """
        return self.ring.rules_for(signed.key_id).keys[signed.key_id].counts

    def record(self, signed: SignedToken, token: TrackingToken, environ: "WSGIEnvironment") -> None:
        """Write to the spool what a request did; it is durable then.

        A revoked key's links count nothing, but that somebody unsubscribes is always taken. Those
        of no decision, signed for a test key, lead on and do nothing else.

        Raises:
            Unavailable: it cannot be written.
        """
        key = self.ring.rules_for(signed.key_id).keys[signed.key_id]
        if not token.decision_ids:
            return
        if not key.counts and token.kind is not TokenKind.UNSUBSCRIBE:
            return
        hit = tracked_hit(
            signed.key_id,
            token,
            agent=environ.get("HTTP_USER_AGENT", ""),
            network_address=environ.get("REMOTE_ADDR", ""),
            head=environ["REQUEST_METHOD"] == "HEAD",
        )
        self._spool.append(hit.record(self._clock()))
