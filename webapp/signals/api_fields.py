"""API fields: where a list tool's own API is, and who calls it; optional for its connection."""

from urllib.parse import urlsplit

from webapp.signals.connection_kind import ConnectionField


def address_fault(text: str) -> str | None:
    """Return what is wrong with the address of a server, None if nothing is."""
    try:
        parts = urlsplit(text)
        is_server = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_server = is_server and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        is_server = False
    if is_server:
        return None
    return "must be an http or https address without a password, as in https://lists.example.com"


def api_fields(  # noqa: PLR0913 - texts of the fields
    tool: str, *, use: str, user: str, user_help: str, proof: str, proof_help: str
) -> tuple[ConnectionField, ...]:
    """Return the fields of a tool's API: its address, a user, and that user's secret."""
    return (
        ConnectionField(
            name="api_url",
            label=f"Address of {tool}",
            help=f"Such as https://lists.example.com. {use}",
            secret=False,
            optional=True,
            fault=address_fault,
        ),
        ConnectionField(name="api_user", label=user, help=user_help, secret=False, optional=True),
        ConnectionField(name="api_token", label=proof, help=proof_help, optional=True),
    )
