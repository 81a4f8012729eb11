"""Request bodies: strict JSON of a declared type, with every fault at its place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from flask import Request
from msgspec import Raw
from werkzeug.exceptions import UnsupportedMediaType

from bandits.errors import Fault, InvalidInput
from bandits.validation import Step, fault, joined, read, sentence
from webapp.api.json_scan import Outline, is_lean, refuse_repeated_names
from webapp.api.problems import MalformedBody


def invalid(
    error: msgspec.ValidationError, text: bytes, decoder: msgspec.json.Decoder[Any]
) -> InvalidInput:
    """Convert `error`, which `decoder` raised on `text`, to an error of this application."""
    detail, steps, on_name = read(error)
    for i, step in enumerate(steps):
        if step is None:
            steps[i] = _culprit(error, text, decoder, steps[:i])
    if on_name:
        steps.append(_culprit(error, text, decoder, steps))
        detail = f"as a name {sentence(detail)}"
        return InvalidInput([Fault(joined(steps), detail)])
    return InvalidInput([fault(detail, steps, decoder.type)])


def _culprit(
    error: msgspec.ValidationError,
    text: bytes,
    decoder: msgspec.json.Decoder[Any],
    steps: Sequence[Step],
) -> str | None:
    """Find the name of the object at `steps` for which `decoder` refuses `text`, one at a time."""
    message = _without_rows(error)
    for name, alone in _one_name_at_a_time(text, steps):
        try:
            decoder.decode(alone)
        except msgspec.ValidationError as other:
            if _without_rows(other) == message:
                return name
    return None


def _without_rows(error: msgspec.ValidationError) -> str:
    return re.sub(r"\[\d+\]", "[]", str(error))


def _one_name_at_a_time(text: bytes, steps: Sequence[Step]) -> Iterator[tuple[str, bytes]]:
    """Rewrite `text` once for each name of the object at `steps`, with that name only."""
    if not steps:
        for name, value in msgspec.json.decode(text, type=dict[str, Raw]).items():
            yield name, msgspec.json.encode({name: value})
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):  # other rows cannot matter
        row = msgspec.json.decode(text, type=list[Raw])[step]
        for name, alone in _one_name_at_a_time(bytes(row), rest):
            yield name, b"[" + alone + b"]"
        return
    whole = msgspec.json.decode(text, type=dict[str, Raw])
    if step is not None:
        for name, alone in _one_name_at_a_time(bytes(whole[step]), rest):
            yield name, msgspec.json.encode({**whole, step: Raw(alone)})


MAX_DEPTH = 64
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
    ) -> None:
        """Take JSON that decodes to `content`, sent as one of `media_types`.

        Args:
            content: the type.
            media_types: ``application/json`` unless given.
            example: for the OpenAPI document.
            optional: an empty body is `content` with every field's default.
        """
        self.content = content
        self.media_types = media_types or (JSON,)
        self.example = example
        self.optional = optional
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
            decoded = self._decode(text)
            if len(text) > _SHORT or text.count(b":") != _count_names(msgspec.json.decode(text)):
                refuse_repeated_names(text, decoded if self._lean else None)
        except UnicodeDecodeError as error:
            raise MalformedBody(f"the body is not UTF-8: {error.reason}") from None
        except msgspec.DecodeError as error:
            raise MalformedBody(f"the body is not JSON: {error}") from None
        return decoded

    def _decode(self, text: bytes) -> T:
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as error:
            _refuse_malformed(text)
            raise invalid(error, text, self._decoder) from None

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


def _refuse_malformed(text: bytes) -> None:
    """Refuse a text that is not JSON: a type error is raised before the rest of it is read."""
    try:
        msgspec.json.decode(text)
    except msgspec.ValidationError:  # JSON, but with a number that no double holds
        return


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
