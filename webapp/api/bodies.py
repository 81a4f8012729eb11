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
    """Turn `error`, which `decoder` raised on `text`, into ours."""
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
    """Find which name of the object at `steps` makes `decoder` refuse `text`, by leaving one."""
    wanted = _without_rows(error)
    for name, alone in _each_alone(text, steps):
        try:
            decoder.decode(alone)
        except msgspec.ValidationError as other:
            if _without_rows(other) == wanted:
                return name
    return None


def _without_rows(error: msgspec.ValidationError) -> str:
    return re.sub(r"\[\d+\]", "[]", str(error))


def _each_alone(text: bytes, steps: Sequence[Step]) -> Iterator[tuple[str, bytes]]:
    """Rewrite `text` once for each name of the object at `steps`, with that name only."""
    if not steps:
        for name, value in msgspec.json.decode(text, type=dict[str, Raw]).items():
            yield name, msgspec.json.encode({name: value})
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):  # other rows cannot matter
        row = msgspec.json.decode(text, type=list[Raw])[step]
        for name, alone in _each_alone(bytes(row), rest):
            yield name, b"[" + alone + b"]"
        return
    whole = msgspec.json.decode(text, type=dict[str, Raw])
    if step is not None:
        for name, alone in _each_alone(bytes(whole[step]), rest):
            yield name, msgspec.json.encode({**whole, step: Raw(alone)})


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
            decoded = self._decode(text)
            refuse_repeated_names(text, outline, decoded if self._lean else None)
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
        msgspec.json.decode(text)
    except msgspec.ValidationError:  # JSON, but with a number that no double holds
        return
