"""Body places: how many bodies of callers that nobody knows yet are read at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from werkzeug.exceptions import TooManyRequests

_RETRY_SECONDS = 5


class BodyPlaces:
    """Places for bodies of strangers, of which one address, or one receiver, may take some."""

    def __init__(
        self, at_once: int, of_one_address: int, of_one_receiver: int | None = None
    ) -> None:
        """Give out `at_once` places.

        Args:
            at_once: all of them.
            of_one_address: the most that one address may take.
            of_one_receiver: the most for bodies that are sent to one receiver; all unless given.
        """
        self.at_once = at_once
        self.of_one_address = of_one_address
        self.of_one_receiver = at_once if of_one_receiver is None else of_one_receiver
        self._lock = Lock()
        self._readers: Counter[str] = Counter()
        self._receivers: Counter[str] = Counter()

    @contextmanager
    def taken(self, address: str, receiver: str = "") -> Iterator[None]:
        """Take a place for a body that `address` sends to `receiver`.

        Raises:
            TooManyRequests: none is free, or this address or receiver has its share.
        """
        with self._lock:
            full = self._readers.total() >= self.at_once
            full = full or self._readers[address] >= self.of_one_address
            if full or self._receivers[receiver] >= self.of_one_receiver:
                raise TooManyRequests(retry_after=_RETRY_SECONDS)
            self._readers[address] += 1
            self._receivers[receiver] += 1
        try:
            yield
        finally:
            with self._lock:
                for counter, name in ((self._readers, address), (self._receivers, receiver)):
                    counter[name] -= 1
                    if not counter[name]:
                        del counter[name]
