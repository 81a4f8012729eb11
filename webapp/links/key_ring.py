"""Key ring: the keys and hosts of tracked links, known to a web worker without the database."""

import logging
import time
from collections.abc import Callable
from threading import Lock, Thread

from bandits.errors import Unavailable
from bandits.tracking_tokens import BadToken
from storage.connections import NoEncryptionKey
from storage.tracked_links import LinkRules

_FRESH_SECONDS = 2.0  # for so long a key works as it was read
_ONCE_SECONDS = 1.0  # for so long a key that is unknown is not looked for again
_LONGEST_SECONDS = 2.0  # that an unknown key waits for others that are looked for
_log = logging.getLogger(__name__)


class KeyRing:
    """Keys and hosts, read again beside the requests that use them.

    A link of a key that is known never waits for the database, also while that is away.
    """

    def __init__(
        self, read: Callable[[], LinkRules], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read by `read` what the database has; `clock` tells seconds that only grow."""
        self._read = read
        self._clock = clock
        self._rules: LinkRules | None = None
        self._tried_at = -_FRESH_SECONDS
        self._reading = Lock()

    def rules_for(self, key_id: str) -> LinkRules:
        """Return the rules, which know this key.

        Raises:
            BadToken: there is no such key.
            Unavailable: whether there is one cannot be read now.
        """
        rules, age = self._rules, self._clock() - self._tried_at
        if rules is not None and key_id in rules.keys:
            if age >= _FRESH_SECONDS:
                self._refresh_beside()
            return rules
        if rules is None or age >= _ONCE_SECONDS:
            rules = self._refresh()
        if key_id in rules.unreadable:
            raise NoEncryptionKey
        if key_id not in rules.keys:
            raise BadToken("there is no such key")
        return rules

    def forget(self) -> None:
        """Read again at the next link: a key or a host was changed here."""
        self._tried_at = self._clock() - _FRESH_SECONDS

    def _refresh(self) -> LinkRules:
        """Read, unless another thread just did.

        Raises:
            Unavailable: the database does not answer.
        """
        if not self._reading.acquire(timeout=_LONGEST_SECONDS):
            raise Unavailable("the keys of tracked links are being read")
        try:
            if self._rules is None or self._clock() - self._tried_at >= _ONCE_SECONDS:
                self._tried_at = self._clock()
                self._rules = self._read()
            return self._rules
        finally:
            self._reading.release()

    def _refresh_beside(self) -> None:
        if self._reading.acquire(blocking=False):
            self._tried_at = self._clock()
            Thread(target=self._read_beside, name="tracking keys", daemon=True).start()

    def _read_beside(self) -> None:
        try:
            self._rules = self._read()
        except Unavailable as error:
            _log.warning("cannot read the keys of tracked links again: %s", error)
        finally:
            self._reading.release()
