"""Proof by password, for senders who sign nothing: basic authentication or a bearer token."""

from base64 import b64decode

from webapp.signals.comparison import is_one_of
from webapp.signals.connection_kind import ConnectionField, FieldValues, ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause

_SHORTEST = 16


def _password_fault(text: str) -> str | None:
    return None if len(text) >= _SHORTEST else f"must have {_SHORTEST} characters at least"


PASSWORD_FIELDS = (
    ConnectionField(
        name="username",
        label="User name",
        help="The user name that the mailer sends.",
        secret=False,
        default="bandits",
        fault=lambda text: "must not hold a colon" if ":" in text else None,
    ),
    ConnectionField(
        name="password",
        label="Password",
        help="The password that the mailer sends.",
        generated=True,
        fault=_password_fault,
    ),
)
PROOF = (
    "The mailer sends a user name and a password (basic authentication), or the password as a"
    " bearer token. It signs nothing, so anyone who knows the password can report events: keep it"
    " secret."
)


def verify_password(delivery: Delivery, values: FieldValues, _: ProofContext) -> None:
    """Check the Authorization header: Basic (RFC 7617), or Bearer with the password as token.

    Raises:
        DeliveryRefused: it is missing or wrong.
    """
    scheme, _space, credentials = delivery.headers.get("authorization", "").partition(" ")
    credentials = credentials.strip()
    match scheme.lower():
        case "bearer":
            actual: str | bytes = credentials
            expected = [password.encode() for password in values["password"]]
        case "basic":
            actual = _decoded(credentials)
            expected = [
                f"{name}:{password}".encode()
                for name in values["username"]
                for password in values["password"]
            ]
        case _:
            raise DeliveryRefused(
                RefusalCause.SIGNATURE_MISSING, "the delivery has no user name and password"
            )
    if not is_one_of(actual, expected):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG, "the user name or the password is another"
        )


def _decoded(credentials: str) -> bytes:
    """Decode base64; what is none fits no password."""
    try:
        return b64decode(credentials, validate=True)
    except ValueError:
        return b""
