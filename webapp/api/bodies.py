"""Request bodies: strict JSON of a declared type, with every fault at its place."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from bandits.errors import Fault, InvalidInput
from bandits.validation import misfit
from webapp.api.json_scan import (
    Outline,
    is_lean,
    is_unambiguous,
    refuse_repeated_names,
    repeated_name,
)
from webapp.api.problems import MalformedBody

_DIGITS = 400  # more than the largest double has
MAX_DEPTH = 64
_ROW_BYTES = 100  # of a row that cannot be told from others, about as a short one has
_SHORT = 2000  # bytes, up to which to count names is faster than to scan the text
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

T = TypeVar("T")


class Body(Generic[T]):
    """Request body of type `T`: its declaration, its check and its decoding."""

    def __init__(
        self,
        content: type[T],
        *media_types: str,
        example: Mapping[str, Any] | None = None,
        optional: bool = False,
        amend: Callable[[Any], Any] | None = None,
    ) -> None:
        """Take JSON that decodes to `content`, sent as one of `media_types`.

        Args:
            content: the type.
            media_types: ``application/json`` unless given.
            example: for the OpenAPI document.
            optional: an empty body is `content` with every field's default.
            amend: rewrites a JSON value that is not of the type so that it may be; returns None
                where it has nothing to rewrite, or raises `InvalidInput`.
        """
        self.content = content
        self.media_types = media_types or (JSON,)
        self.example = example
        self.optional = optional
        self._amend = amend
        self._decoder = msgspec.json.Decoder(content)
        self._lean = is_lean(msgspec.inspect.type_info(content))

    def read(self, request: Request) -> bytes:
        """Read the text of the body of `request`.

        Raises:
            UnsupportedMediaType: it is not sent as JSON, or it is compressed.
            RequestEntityTooLarge: it is longer than the server takes.
        """
        if not self.optional or request.get_data():
            self._check_type(request)
        return request.get_data(cache=False)

    def decode(self, text: bytes) -> T:
        """Decode and check `text`.

        Raises:
            MalformedBody: it is not JSON in UTF-8, or is nested too deeply.
            InvalidInput: it is not of the declared type, or an object has a name twice.
        """
        if self.optional and not text:
            return self.content()
        if not text.strip():
            raise MalformedBody("the body is empty; send JSON")
        # Each level takes a bracket of its own: few brackets are no deep nesting.
        if text.count(b"{") + text.count(b"[") > MAX_DEPTH and Outline(text).depth > MAX_DEPTH:
            raise MalformedBody(f"the body is nested more than {MAX_DEPTH} levels deep")
        try:
            decoded = self._decoder.decode(text)
        except (UnicodeDecodeError, msgspec.DecodeError):  # which one, differs by its release
            _refuse_malformed(text)
            decoded = self._amended(text)
        if len(text) > _SHORT or text.count(b":") != _count_names(msgspec.json.decode(text)):
            refuse_repeated_names(text, decoded if self._lean else None)
        return decoded

    def _amended(self, text: bytes) -> T:
        """Decode a valid JSON text that is not of the type, where it can be amended.

        Raises:
            InvalidInput: it cannot.
        """
        amended = None if self._amend is None else self._amend(_loads(text))
        if amended is None:
            raise invalid_body(text, self.content)
        if (fault := misfit(amended, self.content)) is not None:
            raise InvalidInput([fault])
        return msgspec.convert(amended, self.content)

    def _check_type(self, request: Request) -> None:
        media_type = request.environ.get("CONTENT_TYPE")
        if media_type in self.media_types and "HTTP_CONTENT_ENCODING" not in request.environ:
            return  # as nearly every client sends it
        charset = request.mimetype_params.get("charset", "utf-8").lower()
        if request.mimetype not in self.media_types or charset not in {"utf-8", "utf8"}:
            actual = request.headers.get("Content-Type", "none")
            expected = " or ".join(self.media_types)
            raise UnsupportedMediaType(f"expected Content-Type {expected}, got {actual!r}")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("compressed bodies are not taken")


def count_refused(text: bytes, rows: Sequence[str], *, parsed: bool) -> int:
    """Count the rows of a body that was refused.

    Args:
        text: of the body.
        rows: the names of the lists that hold them. Where there is none, or it is not clear which,
            every hundred bytes are a row.
        parsed: the text is JSON.
    """
    content = msgspec.json.decode(text) if parsed and is_unambiguous(text) else None
    entries = [content.get(name) for name in rows] if isinstance(content, dict) else []
    sizes = [len(listed) for listed in entries if isinstance(listed, list)]
    return sum(sizes) if sizes else len(text) // _ROW_BYTES


def invalid_body(text: bytes, kind: Any) -> InvalidInput:
    """Make the error for a valid JSON text that is not of a type."""
    fault = misfit(_loads(text), kind)
    if fault is None and (place := repeated_name(text)) is not None:  # of which one does not fit
        fault = Fault(place, "comes twice in one object")
    return InvalidInput([fault or Fault("", "is not as declared")])


def _loads(text: bytes) -> Any:
    return json.loads(text.decode(), parse_int=_whole_number)


def _whole_number(digits: str) -> float:
    """Read a whole number; one that no double holds is infinite, however long it is."""
    return int(digits) if len(digits) < _DIGITS else float(digits)


def _refuse_malformed(text: bytes) -> None:
    """Refuse a text that is not JSON: a type error is raised before the rest of it is read."""
    try:
        text.decode()
        msgspec.json.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8: {error.reason}") from None
    except msgspec.ValidationError:  # JSON, but with a number that no double holds
        return
    except msgspec.DecodeError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None


def _count_names(value: Any) -> int:
    """Count the names that a value's objects hold together.

    Each name of a JSON text has a colon, so a text with as many colons has no name twice.
    """
    count, nested = 0, [value]
    while nested:
        part = nested.pop()
        if isinstance(part, dict):
            count += len(part)
            nested += part.values()
        elif isinstance(part, list):
            nested += part
    return count
