"""Senders of webhooks, played by tests: they sign deliveries with keys of their own."""

import base64
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Request = tuple[bytes, dict[str, str]]  # body and headers


class SendGrid:
    """A SendGrid account with a signed event webhook."""

    kind = "sendgrid"

    def __init__(self) -> None:
        self._key = generate_private_key(SECP256R1())

    @property
    def values(self) -> dict[str, str]:
        """The fields of a connection to it."""
        public = self._key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"verification_key": base64.b64encode(der).decode()}

    def event(self, decision_id: str | None, event: str, at: float, **more: Any) -> dict[str, Any]:
        """Make an event as SendGrid words it."""
        passed = {} if decision_id is None else {"bandits_decision": decision_id}
        number = sha256(repr((decision_id, event, at)).encode()).hexdigest()[:22]
        return {
            "email": "ann@shop.example",
            "timestamp": int(at),
            "event": event,
            "sg_event_id": number,
            "sg_message_id": f"{number}.filter0",
            **passed,
            **more,
        }

    def request(self, events: Sequence[Any], *, at: float | None = None) -> Request:
        """Sign a delivery of events."""
        body = msgspec.json.encode(events) + b"\r\n"
        timestamp = str(int(time.time() if at is None else at))
        signature = self._key.sign(timestamp.encode() + body, ECDSA(SHA256()))
        return body, {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        }


class Shop:
    """A shop that signs its orders as Standard Webhooks asks for."""

    kind = "standard_webhooks"

    def __init__(self, secret: bytes = b"a secret that a test made up, 32") -> None:
        self._secret = secret

    @property
    def values(self) -> dict[str, str]:
        """The fields of a connection to it."""
        return {"signing_secret": "whsec_" + base64.b64encode(self._secret).decode()}

    def request(  # noqa: PLR0913 - the parts of an event
        self,
        own_id: str,
        decision_id: str,
        value: float = 1.0,
        *,
        name: str = "order",
        at: float,
        signed_at: float | None = None,
    ) -> Request:
        """Sign a delivery of one event that happened at a time."""
        happened = datetime.fromtimestamp(at, UTC).isoformat()
        data = {"bandits_decision": decision_id, "value": value}
        body = msgspec.json.encode({"type": name, "timestamp": happened, "data": data})
        timestamp = str(int(time.time() if signed_at is None else signed_at))
        signed = f"{own_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(digest(self._secret, signed, "sha256")).decode()
        return body, {
            "Content-Type": "application/json",
            "webhook-id": own_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }
