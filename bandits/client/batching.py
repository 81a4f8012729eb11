"""Batches of iterables of any length, none of which is held in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Self, TypeVar

import msgspec
from msgspec import Struct

from bandits.client.exchange import encode_json
from bandits.errors import InvalidInput
from bandits.identifiers import pointer
from bandits.ids import time_ordered_ids
from bandits.schemas import Request
from bandits.validation import refusal

MAX_BATCH = 10_000  # that the server takes at once

T = TypeVar("T")
S = TypeVar("S", bound=Struct)


class Portions(Generic[T]):
    """Items of an iterable, taken lazily, so many at a time; an iterator of lists."""

    def __init__(self, items: Iterable[T], size: int) -> None:
        """Take `size` items at a time.

        Raises:
            InvalidInput: `size` is none that the server takes, or `items` is one text.
        """
        if not 1 <= size <= MAX_BATCH:
            raise InvalidInput.at("/batch", f"must lie in [1, {MAX_BATCH:,}], not {size}")
        if isinstance(items, str):  # whose characters would each be taken for an id
            raise InvalidInput.at("", f"must be a list, not text {items[:40]!r}")
        self._remaining = iter(items)
        self._size = size
        self._halves: list[Sequence[T]] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Sequence[T]:
        """Return the next portion, or the next half of one that was split."""
        if self._halves:
            return self._halves.pop()
        if portion := list(islice(self._remaining, self._size)):
            return portion
        raise StopIteration

    def split(self, portion: Sequence[T]) -> None:
        """Give a portion once more, in halves: it made too large a body, and was refused whole."""
        middle = len(portion) // 2
        self._halves += [portion[middle:], portion[:middle]]


def as_structs(kind: type[S], items: Iterable[S | Mapping[str, Any]], place: str) -> list[S]:
    """Convert the items that are dicts of a struct's fields.

    Args:
        kind: the struct.
        items: structs, and dicts of plain values and NumPy's.
        place: of the list in the body that is sent, for errors.

    Raises:
        InvalidInput: one does not fit; its place is named.
    """
    return [
        _as_struct(kind, item, pointer(place, i)) if isinstance(item, Mapping) else item
        for i, item in enumerate(items)
    ]


def _as_struct(kind: type[S], item: Mapping[str, Any], place: str) -> S:
    try:
        text = encode_json(item)
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError:
            raise refusal(msgspec.json.decode(text), kind) from None
    except InvalidInput as error:
        raise error.under(place) from None


def with_ids(requests: Sequence[Request]) -> list[Request]:
    """Give an id to each request without one, so that it can be sent again."""
    fresh = iter(time_ordered_ids(sum(r.decision_id is None for r in requests)))
    return [
        msgspec.structs.replace(r, decision_id=next(fresh)) if r.decision_id is None else r
        for r in requests
    ]


def decision_ids(requests: Iterable[Request]) -> Iterator[str]:
    """Yield the ids of requests that have one each."""
    return (str(r.decision_id) for r in requests)
