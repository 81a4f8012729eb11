"""Which name of a request's body msgspec refused, where its message does not tell."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from bandits.errors import Fault, InvalidInput
from bandits.validation import Step, fault, joined, read, sentence


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
