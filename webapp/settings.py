"""Settings of a server: its flags, else ``BANDITS_...`` variables, else the defaults below."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from bandits.engine.retention import DEFAULT_SNAPSHOT_BYTES
from bandits.errors import Fault, InvalidInput
from bandits.validation import refusal
from storage.accounts import ROLES, Role
from storage.connections import parse_keys
from webapp.smtp import parse_smtp_url
from webapp.trusted_proxies import parse_networks

PREFIX = "BANDITS_"
DEFAULT_ROWS_PER_MINUTE = 10_000_000  # more than a web worker can answer
_PROVIDER = ("oidc_client_id", "oidc_client_secret", "oidc_roles", "public_url")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a server, which docs/operations.md explains.

    Attributes:
        database_url: of the database of experiments, log and accounts.
        secret_key: signs session cookies; without one, the database keeps one.
        secure_cookies: send session cookies over HTTPS only; set it behind a TLS proxy.
        max_body_bytes: a longer request body is refused.
        max_upload_bytes: a longer file of recipients or results is refused.
        files_folder: keeps uploaded files for a week; by default beside SQLite's file, else in the
            system's folder for temporary files.
        spool_folder: keeps events that are answered and not in the database yet; by default beside
            SQLite's file, else where programs keep their state.
        max_snapshot_bytes: that the snapshots of an experiment may have together; beyond it the
            oldest are let go.
        log_format: of the logs on standard error.
        log_level: the lowest level that is logged.
        access_log: write a log line for every request.
        trusted_proxies: addresses and networks, separated by commas, of proxies whose headers
            name the caller.
        url_prefix: begins the path of every address, where the server is reached below a path.
        session_hours: people sign in again after so long.
        request_seconds: a head that takes longer is ended; so is a slow body.
        wait_seconds: a request that waits longer for the database is refused with 503.
        drain_seconds: that a server on a socket of systemd's goes on with the connections that it
            has, before it ends.
        rows_per_minute: that an API key without a limit of its own may send to a web worker.
        public_url: address that people reach the server at, with `url_prefix`: tracked links and
            webhooks begin with it.
        oidc_issuer: address of an OpenID Connect provider that people sign in by.
        oidc_name: of the provider, on the sign-in page; by default its host.
        oidc_client_id: of this server, as the provider knows it.
        oidc_client_secret: of this server; no log has it.
        oidc_role_claim: claim whose values give people their role; a dot leads deeper.
        oidc_roles: roles of the claim's values: ``marketing=manager, it=admin``.
        smtp_url: mail server that messages are sent by: ``smtp://user:password@host:587``; no log
            has it.
        egress_networks: private networks that the server may call, separated by commas.
        encryption_key: encrypts secrets of connections; several are separated by commas, of which
            the first encrypts and all decrypt. No log has it.
        password_sign_in: people may sign in by passwords; without, an admin may while nobody can
            be admin by the provider.
    """

    database_url: Annotated[str, Meta(min_length=1)] = "sqlite:///bandits.db"
    secret_key: Annotated[str, Meta(min_length=32)] | None = None
    secure_cookies: bool = False
    max_body_bytes: Annotated[int, Meta(ge=10_000, le=1_000_000_000)] = 8_000_000
    max_upload_bytes: Annotated[int, Meta(ge=10_000, le=10_000_000_000)] = 200_000_000
    files_folder: Annotated[str, Meta(min_length=1)] | None = None
    spool_folder: Annotated[str, Meta(min_length=1)] | None = None
    max_snapshot_bytes: Annotated[int, Meta(ge=10_000_000, le=1_000_000_000_000)] = (
        DEFAULT_SNAPSHOT_BYTES
    )
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning"] = "info"
    access_log: bool = False
    trusted_proxies: Annotated[str, Meta(max_length=4000)] = ""
    url_prefix: Annotated[str, Meta(pattern=r"^((/[A-Za-z0-9_~\-][A-Za-z0-9_.~\-]*)+)?\Z")] = ""
    session_hours: Annotated[float, Meta(ge=0.1, le=720)] = 12.0
    request_seconds: Annotated[float, Meta(ge=1, le=3600)] = 20.0
    wait_seconds: Annotated[float, Meta(ge=1, le=3600)] = 8.0
    drain_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.5
    rows_per_minute: Annotated[int, Meta(ge=1, le=2_147_483_647)] = DEFAULT_ROWS_PER_MINUTE
    public_url: Annotated[str, Meta(max_length=2000)] | None = None
    oidc_issuer: Annotated[str, Meta(max_length=2000)] | None = None
    oidc_name: Annotated[str, Meta(min_length=1, max_length=60)] | None = None
    oidc_client_id: Annotated[str, Meta(min_length=1)] | None = None
    oidc_client_secret: Annotated[str, Meta(min_length=1)] | None = None
    oidc_role_claim: Annotated[str, Meta(min_length=1)] = "roles"
    oidc_roles: Annotated[str, Meta(max_length=10_000)] = ""
    password_sign_in: bool = True
    encryption_key: Annotated[str, Meta(max_length=4000)] = ""
    smtp_url: Annotated[str, Meta(max_length=2000)] | None = None
    egress_networks: Annotated[str, Meta(max_length=4000)] = ""

    @classmethod
    def read(cls, environment: Mapping[str, str], **flags: str | None) -> Self:
        """Read the settings; a flag that is not None overrides its variable.

        Raises:
            InvalidInput: a value does not fit; its place is the variable's name.
        """
        values: dict[str, str] = {}
        for name in cls.__struct_fields__:
            value = flags.get(name)
            if value is None:
                value = environment.get(PREFIX + name.upper())
            if value is not None:
                values[name] = value
        try:
            parse_networks(values.get("trusted_proxies", ""))
        except ValueError as error:
            raise InvalidInput.at(f"{PREFIX}TRUSTED_PROXIES", str(error)) from None
        try:
            parse_networks(values.get("egress_networks", ""))
        except ValueError as error:
            raise InvalidInput.at(f"{PREFIX}EGRESS_NETWORKS", str(error)) from None
        try:
            if smtp_url := values.get("smtp_url"):
                parse_smtp_url(smtp_url)
        except ValueError as error:
            raise InvalidInput.at(f"{PREFIX}SMTP_URL", str(error)) from None
        try:
            parse_keys(values.get("encryption_key", ""))
        except ValueError as error:
            raise InvalidInput.at(f"{PREFIX}ENCRYPTION_KEY", str(error)) from None
        try:
            settings = msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError:
            (fault,) = refusal(values, cls, strict=False).faults
            name = PREFIX + fault.pointer.removeprefix("/").upper()  # each is a field of its own
            raise InvalidInput([Fault(name, fault.detail)]) from None
        settings.check_provider()
        return settings

    def __repr__(self) -> str:
        """Return the name alone: some values are secret."""
        return "Settings(…)"

    @property
    def encryption_keys(self) -> tuple[str, ...]:
        """Keys of `encryption_key`, the one that encrypts first."""
        return parse_keys(self.encryption_key)

    @property
    def spool_path(self) -> Path | None:
        """Folder of the spool; None for the default."""
        return None if self.spool_folder is None else Path(self.spool_folder)

    def check_provider(self) -> None:
        """Check what belongs to a provider together.

        Raises:
            InvalidInput: something is missing or cannot be right; its place is a variable's name.
        """
        for name in ("public_url", "oidc_issuer"):
            url = getattr(self, name)
            if url is not None and (not is_encrypted(url) or urlsplit(url).query):
                raise _fault(name, "must begin with https:// (http:// only for this machine)")
        if self.public_url is not None:
            path = urlsplit(self.public_url).path.rstrip("/")
            if path != self.url_prefix:
                raise _fault("public_url", f"its path must be the prefix, {self.url_prefix or '/'}")
        roles_of_values(self.oidc_roles)
        if self.oidc_issuer is None:
            if not self.password_sign_in:
                raise _fault("password_sign_in", "may be false only with a provider")
            return
        for name in _PROVIDER:
            if not getattr(self, name):
                raise _fault(name, "is needed for sign-in by OpenID Connect")


def is_encrypted(url: str) -> bool:
    """Return True for an address by HTTPS, or by HTTP on this machine; without query or user."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    try:
        own = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        own = False
    if not host or not url.isprintable() or parts.username or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and own)


def roles_of_values(text: str) -> dict[str, Role]:
    """Read the roles of a claim's values: ``marketing=manager, it=admin``.

    Raises:
        InvalidInput: a value has no role of ours.
    """
    roles: dict[str, Role] = {}
    for pair in text.split(","):
        value, _, role = (part.strip() for part in pair.rpartition("="))
        if not pair.strip():
            continue
        if not value or role not in ROLES:
            raise _fault("oidc_roles", f"must be VALUE=ROLE, …; roles are {', '.join(ROLES)}")
        roles[value] = role
    return roles


def _fault(name: str, detail: str) -> InvalidInput:
    return InvalidInput.at(PREFIX + name.upper(), detail)
