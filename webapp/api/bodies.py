"""Request bodies: strict JSON of a declared type, with every fault at its place."""

import json
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from bandits.errors import Fault, InvalidInput
from bandits.validation import misfit
from webapp.api.json_scan import Outline, is_lean, refuse_repeated_names, repeated_name
from webapp.api.problems import MalformedBody

_DIGITS = 400  # more than the largest double has


def invalid(text: bytes, kind: Any) -> InvalidInput:
    """Make the error for a valid JSON text that is not of a type."""
    fault = misfit(json.loads(text.decode(), parse_int=_whole), kind)
    if fault is None and (place := repeated_name(text)) is not None:  # of which one does not fit
        fault = Fault(place, "comes twice in one object")
    return InvalidInput([fault or Fault("", "is not as declared")])


def _whole(digits: str) -> float:
    """Read a whole number; one that no double holds is infinite, however long it is."""
    return int(digits) if len(digits) < _DIGITS else float(digits)


MAX_DEPTH = 64
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

T = TypeVar("T")


class Body(Generic[T]):
    """A request body of type `T`: how it is read, and refused."""

    def __init__(
        self,
        content: type[T],
        *media_types: str,
        example: Mapping[str, Any] | None = None,
        optional: bool = False,
    ) -> None:
        """Take JSON that decodes to `content`, sent as one of `media_types`.

        Args:
            content: the type.
            media_types: ``application/json`` unless given.
            example: for the OpenAPI document.
            optional: nothing at all is `content` with every field's default.
        """
        self.content = content
        self.media_types = media_types or (JSON,)
        self.example = example
        self.optional = optional
        self._decoder = msgspec.json.Decoder(content)
        self._lean = is_lean(msgspec.inspect.type_info(content))

    def read(self, request: Request) -> T:
        """Read, check and decode the body of `request`.

        Raises:
            UnsupportedMediaType: it is not sent as JSON, or it is compressed.
            RequestEntityTooLarge: it is longer than the server takes.
            Malformed: it is not JSON in UTF-8, or is nested too deeply.
            InvalidInput: it is not of the declared type, or an object has a name twice.
        """
        if self.optional and not request.get_data():
            return self.content()
        self._check_type(request)
        return self.decode(request.get_data(cache=False))

    def decode(self, text: bytes) -> T:
        """Decode and check `text`; raises as `read` does, but for what headers say."""
        if not text.strip():
            raise MalformedBody("the body is empty; send JSON")
        outline = Outline(text)
        if outline.deeper_than(MAX_DEPTH):
            raise MalformedBody(f"the body is nested more than {MAX_DEPTH} levels deep")
        try:
            decoded = self._decoder.decode(text)
            refuse_repeated_names(text, outline, decoded if self._lean else None)
        except (UnicodeDecodeError, msgspec.DecodeError):  # which one, differs by its release
            _refuse_malformed(text)
            raise invalid(text, self.content) from None
        return decoded

    def _check_type(self, request: Request) -> None:
        given = request.environ.get("CONTENT_TYPE")
        if given in self.media_types and "HTTP_CONTENT_ENCODING" not in request.environ:
            return  # as nearly everybody sends it
        charset = request.mimetype_params.get("charset", "utf-8").lower()
        if request.mimetype not in self.media_types or charset not in {"utf-8", "utf8"}:
            given = request.headers.get("Content-Type", "none")
            expected = " or ".join(self.media_types)
            raise UnsupportedMediaType(f"expected Content-Type {expected}, got {given!r}")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("compressed bodies are not taken")


def _refuse_malformed(text: bytes) -> None:
    """Refuse what is not JSON at all: a type error may have come before the text was read on."""
    try:
        text.decode()
        msgspec.json.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8: {error.reason}") from None
    except msgspec.ValidationError:  # JSON, but with a number that no double holds
        return
    except msgspec.DecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
