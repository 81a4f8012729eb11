"""Body places: how many bodies of callers that nobody knows yet are read at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from werkzeug.exceptions import TooManyRequests

_RETRY_SECONDS = 5


class BodyPlaces:
    """Places for bodies of strangers, of which one address may take some."""

    def __init__(self, at_once: int, of_one_address: int) -> None:
        """Give out `at_once` places, to each address `of_one_address` at most."""
        self.at_once = at_once
        self._of_one_address = of_one_address
        self._lock = Lock()
        self._readers: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """Take a place for a body that `address` sends.

        Raises:
            TooManyRequests: none is free, or this address has its share.
        """
        with self._lock:
            full = self._readers.total() >= self.at_once
            if full or self._readers[address] >= self._of_one_address:
                raise TooManyRequests(retry_after=_RETRY_SECONDS)
            self._readers[address] += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers[address] -= 1
                if not self._readers[address]:
                    del self._readers[address]
