"""Certificates of senders who sign by them, fetched from their own hosts and kept for a day."""

from collections.abc import Callable
from datetime import datetime, timedelta

from webapp.signals.delivery import RefusalCause, DeliveryRefused

# GET of an https address that was checked before: the body of a 200 of at most `MAX_BYTES`. It follows
# no redirect, reaches public addresses only, ends within seconds, and raises OSError where any of
# that fails.
Fetch = Callable[[str], bytes]

MAX_BYTES = 64 * 1024
_KEPT = timedelta(days=1)
_MOST = 16
_FETCHES_A_MINUTE = 10


class CertificateCache:
    """Certificates by address; one for all requests of a process."""

    def __init__(self, fetch: Fetch) -> None:
        """Fetch by `fetch` what is not kept."""
        self._fetch = fetch
        self._kept: dict[str, tuple[datetime, bytes]] = {}
        self._fetched: list[datetime] = []

    def certificate(self, address: str, now: datetime) -> bytes:
        """Return the certificate at an address that was checked before.

        Raises:
            DeliveryRefused: it cannot be fetched at the moment, so the sender shall come again.
        """
        fetched_at, certificate = self._kept.get(address, (None, b""))
        if fetched_at is not None and timedelta(0) <= now - fetched_at < _KEPT:
            return certificate
        # Whoever sends forged deliveries may not make this server flood the sender's.
        self._fetched = [t for t in self._fetched if timedelta(0) <= now - t < timedelta(minutes=1)]
        if len(self._fetched) >= _FETCHES_A_MINUTE:
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, "too many certificates were asked for")
        self._fetched.append(now)
        certificate = self.get(address)
        if len(self._kept) >= _MOST:
            del self._kept[min(self._kept, key=lambda a: self._kept[a][0])]
        self._kept[address] = (now, certificate)
        return certificate

    def get(self, address: str) -> bytes:
        """Fetch an address that was checked before; nothing is kept.

        Raises:
            DeliveryRefused: it cannot be fetched at the moment, so the sender shall come again.
        """
        try:
            return self._fetch(address)
        except OSError as error:
            raise DeliveryRefused(
                RefusalCause.UNAVAILABLE, f"{address.partition('?')[0]} cannot be fetched: {error}"
            ) from error
