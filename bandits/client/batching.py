"""Batches of iterables of any length, none of which is held in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from bandits.client.transport import ApiError
from bandits.errors import InvalidInput
from bandits.ids import time_ordered_ids
from bandits.schemas import Request

MAX_BATCH = 10_000  # that the server takes at once
_TOO_LARGE = 413

T = TypeVar("T")
A = TypeVar("A")


def with_ids(requests: Sequence[Request]) -> list[Request]:
    """Give an id to each request without one, so that it can be sent again."""
    fresh = iter(time_ordered_ids(sum(r.decision_id is None for r in requests)))
    return [
        msgspec.structs.replace(r, decision_id=next(fresh)) if r.decision_id is None else r
        for r in requests
    ]


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Take items lazily, `size` at a time.

    Raises:
        InvalidInput: `size` is none that the server takes, or `items` is one text.
    """
    if not 1 <= size <= MAX_BATCH:
        raise InvalidInput.at("/batch", f"must lie in [1, {MAX_BATCH:,}], not {size}")
    if isinstance(items, str):  # whose characters would each be taken for an id
        raise InvalidInput.at("", f"must be a list, not text {items[:40]!r}")
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion


def halving(send: Callable[[Sequence[T]], A], items: Sequence[T]) -> Iterator[A]:
    """Send a batch, in halves where it makes too large a body: it was refused as a whole."""
    try:
        answered = send(items)
    except ApiError as error:
        if not too_large(error) or len(items) == 1:
            raise
        half = len(items) // 2
        yield from halving(send, items[:half])
        yield from halving(send, items[half:])
    else:
        yield answered


def too_large(error: Exception) -> bool:
    """Return true for a body that was refused for its length."""
    return isinstance(error, ApiError) and error.status == _TOO_LARGE
