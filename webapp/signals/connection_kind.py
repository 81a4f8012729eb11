"""Connection kind: the declaration of one kind of sender, from which all else makes itself.

The form, the command line, the API and the documentation of a kind are made from its fields and
texts; `receive` works with its functions.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from secrets import token_hex

from msgspec import Struct

from webapp.signals.certificates import CertificateCache
from webapp.signals.delivery import JSON, MAX_BODY_BYTES, Delivery, RefusalCause
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import SignalBatch

# By field, the values that hold: the newest, then those that a rotation leaves for a while.
FieldValues = Mapping[str, tuple[str, ...]]


def any_text(value: str) -> str | None:
    """Find no fault in a value: any text will do."""
    del value
    return None


class ConnectionField(Struct, frozen=True, kw_only=True):
    """One value that a connection of a kind needs.

    Attributes:
        name: in the API and on the command line.
        label: on pages.
        help: one sentence: where at the sender it stands, or is to be put.
        secret: kept encrypted, never shown again.
        generated: where none is given, `generate` makes one, which is shown once.
        prefix: begins a generated value.
        default: where none is given; ``{address}`` stands for the connection's own address.
        optional: the connection works without a value, and does less.
        fault: what is wrong with a value, None if nothing is.
    """

    name: str
    label: str
    help: str
    secret: bool = True
    generated: bool = False
    prefix: str = ""
    default: str = ""
    optional: bool = False
    fault: Callable[[str], str | None] = any_text

    @property
    def required(self) -> bool:
        """True where a person has to give it."""
        return not (self.generated or self.default or self.optional)

    def generate(self) -> str:
        """Make a value at random: 256 bits as hexadecimal digits, which are base64 as well."""
        return self.prefix + token_hex(32)


class DeliveryAnswer(Struct, frozen=True):
    """Answer to a delivery: a status and headers; its body is for people."""

    status: int
    headers: Mapping[str, str]


_STATUSES = {
    RefusalCause.SIGNATURE_MISSING: 401,
    RefusalCause.SIGNATURE_WRONG: 401,
    RefusalCause.SIGNATURE_STALE: 401,
    RefusalCause.UNREADABLE: 400,
    RefusalCause.TOO_LARGE: 413,
    RefusalCause.MEDIA_TYPE: 415,
    RefusalCause.METHOD: 405,
    RefusalCause.UNAVAILABLE: 503,
}


class ProofContext(Struct, frozen=True):
    """What a proof may rest on beside the delivery: the time, and certificates."""

    now: datetime
    certificates: CertificateCache


class ConnectionKind(Struct, frozen=True, kw_only=True):
    """One kind of sender.

    Attributes:
        name: in addresses: ``/webhooks/{name}/{connection}``.
        label: on pages.
        purpose: one sentence.
        fields: the values that a connection needs, in the order of the form.
        steps: what to do at the sender, in Markdown; ``{address}`` is the connection's address,
            ``{messenger}`` the one for whole messages.
        passing: how a decision's id travels through the sender and comes back, in Markdown.
        sample: the sender's own call, with the id in it.
        traps: what goes wrong with this sender, a sentence or two each, in Markdown.
        retries: what the sender does when it is not answered as it expects.
        proof: how a delivery is proved.
        limits: what the sender does not tell, in Markdown; may be empty.
        oldest: the age from which a signature is refused; None where it never is.
        names: the sender's names of events, and what becomes of each; for people.
        verify: returns if a delivery is the sender's, else raises `DeliveryRefused`.
        parse: reads a proved delivery; it takes no notice of time, so that a delivery may be read
            again years later.
        media_types: content types that the sender uses.
        max_body_bytes: the most that is read; less where a body has to be decoded to be proved.
        probes: methods other than POST by which the sender tries the address; success without more.
        statuses: by cause, where the sender expects another status than most do.
        retry_after_seconds: told with "come again".
        password: deliveries are proved by a user name and password (RFC 7617).
        proof_headers: in lower case; a delivery with none of them is not signed. Empty where the
            signature is in the body.
        messenger: it hands over whole messages, to ``/messengers/{name}/{connection}``.
    """

    name: str
    label: str
    purpose: str
    fields: tuple[ConnectionField, ...]
    steps: tuple[str, ...]
    passing: str
    sample: SendSample
    traps: tuple[str, ...]
    retries: str
    proof: str
    names: Mapping[str, str]
    verify: Callable[[Delivery, FieldValues, ProofContext], None]
    parse: Callable[[Delivery], SignalBatch]
    limits: str = ""
    oldest: timedelta | None = None
    media_types: tuple[str, ...] = (JSON,)
    max_body_bytes: int = MAX_BODY_BYTES
    probes: tuple[str, ...] = ()
    statuses: Mapping[RefusalCause, int] = {}
    retry_after_seconds: int = 60
    password: bool = False
    proof_headers: tuple[str, ...] = ()
    messenger: bool = False

    def steps_at(self, address: str) -> list[str]:
        """Return the steps for a connection with this address."""
        messenger = address.replace("/webhooks/", "/messengers/")
        return [
            step.replace("{address}", address).replace("{messenger}", messenger)
            for step in self.steps
        ]

    def answer(self, cause: RefusalCause | None = None) -> DeliveryAnswer:
        """Return the answer that the sender expects: success, or the refusal for a cause."""
        if cause is None:
            return DeliveryAnswer(200, {})
        status = self.statuses.get(cause, _STATUSES[cause])
        if cause is RefusalCause.UNAVAILABLE:
            return DeliveryAnswer(status, {"Retry-After": str(self.retry_after_seconds)})
        if cause is RefusalCause.METHOD:
            return DeliveryAnswer(status, {"Allow": ", ".join(("POST", *self.probes))})
        if self.password and status == _STATUSES[RefusalCause.SIGNATURE_MISSING]:
            return DeliveryAnswer(status, {"WWW-Authenticate": 'Basic realm="webhooks"'})
        return DeliveryAnswer(status, {})
