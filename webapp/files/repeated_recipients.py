"""Repeated recipients: one decision for somebody who is in several rows of a list."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

import numpy as np

from bandits.array_types import IntArray
from bandits.schemas import Decision, Request


def subject_digests(subjects: Iterable[str]) -> IntArray:
    """Return a digest of each subject (n,); of ten million, two agree by a chance of 3e-6."""
    joined = b"".join(
        blake2b(subject.encode(errors="surrogatepass"), digest_size=8).digest()
        for subject in subjects
    )
    return np.frombuffer(joined, dtype=np.int64)


def first_rows(digests: Sequence[IntArray]) -> IntArray:
    """Return for each row the first one of its subject (n,), from portions of digests."""
    if not digests:
        return np.zeros(0, dtype=np.int64)
    _, first, inverse = np.unique(np.concatenate(digests), return_index=True, return_inverse=True)
    return first[inverse]


class RepeatedRecipients:
    """Requests of a list, those of a recipient's later rows replaced by that of the first."""

    def __init__(self, first: IntArray) -> None:
        """Take for each row the first one of its subject, as `first_rows` has it."""
        self._first = first
        self._repeated = set(first[first != np.arange(len(first))].tolist())
        self._requests: dict[int, Request] = {}
        self._at = 0

    def replaced(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests of the next rows; they have to come in order."""
        out = []
        for row, request in enumerate(requests, self._at):
            first = int(self._first[row])
            if first in self._repeated:
                out.append(self._requests.setdefault(first, request))
            else:
                out.append(request)
        self._at += len(requests)
        return out


def choose_once(
    choose: Callable[[Sequence[Request]], Iterable[Decision]], requests: Sequence[Request]
) -> list[Decision]:
    """Choose for requests of which some are the same one, each of which is decided once."""
    places = {request.decision_id: i for i, request in enumerate(requests)}
    if len(places) == len(requests):
        return list(choose(requests))
    different = list({request.decision_id: request for request in requests}.values())
    decisions = dict(zip((r.decision_id for r in different), choose(different), strict=True))
    return [decisions[request.decision_id] for request in requests]
