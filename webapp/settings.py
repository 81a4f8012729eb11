"""Settings of a server: its flags, else ``BANDITS_...`` variables, else the defaults below."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta, Struct

from bandits.errors import Fault, InvalidInput
from bandits.validation import refusal
from webapp.trusted_proxies import parse_networks

PREFIX = "BANDITS_"


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
        log_format: of the logs on standard error.
        log_level: the lowest level that is logged.
        access_log: write a log line for every request.
        trusted_proxies: addresses and networks, separated by commas, of proxies whose headers
            name the caller.
        url_prefix: begins the path of every address, where the server is reached below a path.
        session_hours: people sign in again after so long.
        request_seconds: a head that takes longer is ended; so is a slow body.
    """

    database_url: Annotated[str, Meta(min_length=1)] = "sqlite:///bandits.db"
    secret_key: Annotated[str, Meta(min_length=32)] | None = None
    secure_cookies: bool = False
    max_body_bytes: Annotated[int, Meta(ge=10_000, le=1_000_000_000)] = 8_000_000
    max_upload_bytes: Annotated[int, Meta(ge=10_000, le=10_000_000_000)] = 200_000_000
    files_folder: Annotated[str, Meta(min_length=1)] | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning"] = "info"
    access_log: bool = False
    trusted_proxies: Annotated[str, Meta(max_length=4000)] = ""
    url_prefix: Annotated[str, Meta(pattern=r"^((/[A-Za-z0-9_~\-][A-Za-z0-9_.~\-]*)+)?\Z")] = ""
    session_hours: Annotated[float, Meta(ge=0.1, le=720)] = 12.0
    request_seconds: Annotated[float, Meta(ge=1, le=3600)] = 20.0

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
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError:
            (fault,) = refusal(values, cls, strict=False).faults
            name = PREFIX + fault.pointer.removeprefix("/").upper()  # each is a field of its own
            raise InvalidInput([Fault(name, fault.detail)]) from None
