"""Certificates of senders who sign by them, fetched from their own hosts and kept for a day."""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import load_pem_x509_certificate

from webapp.signals.delivery import DeliveryRefused, RefusalCause

# GET of an https address that was checked before: the body of a 200 of at most `MAX_BYTES`. It
# follows no redirect, reaches public addresses only, ends within seconds, and raises OSError where
# any of that fails.
Fetch = Callable[[str], bytes]

MAX_BYTES = 64 * 1024
FETCHES_A_MINUTE = 10
_KEPT = timedelta(days=1)
_MOST = 16
_MINUTE = timedelta(minutes=1)


class CertificateCache:
    """Public keys of certificates by the certificate's address; one for all of a process."""

    def __init__(self, fetch: Fetch) -> None:
        """Fetch by `fetch` what is not kept."""
        self._fetch = fetch
        self._lock = Lock()  # of a fetch: deliveries that come together need one
        self._kept: dict[str, tuple[datetime, CertificatePublicKeyTypes]] = {}
        self._fetched: list[datetime] = []

    def public_key(self, address: str, now: datetime) -> CertificatePublicKeyTypes:
        """Return the public key of the certificate at an address that was checked before.

        Raises:
            DeliveryRefused: it cannot be fetched at the moment, so the sender shall come again.
        """
        if (key := self._lookup(address, now)) is not None:
            return key
        with self._lock:
            if (key := self._lookup(address, now)) is not None:  # another delivery fetched it
                return key
            key = self._fetch_key(address, now)
            if len(self._kept) >= _MOST:
                del self._kept[min(self._kept, key=lambda kept: self._kept[kept][0])]
            self._kept[address] = (now, key)
            return key

    def _lookup(self, address: str, now: datetime) -> CertificatePublicKeyTypes | None:
        fetched_at, key = self._kept.get(address, (now - _KEPT, None))
        return key if _is_within(_KEPT, fetched_at, now) else None

    def _fetch_key(self, address: str, now: datetime) -> CertificatePublicKeyTypes:
        """Fetch a certificate, but few a minute: a stranger's forged deliveries ask for many."""
        self._fetched = [then for then in self._fetched if _is_within(_MINUTE, then, now)]
        if len(self._fetched) >= FETCHES_A_MINUTE:
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, "too many certificates are asked for")
        self._fetched.append(now)
        try:
            return load_pem_x509_certificate(self.get(address)).public_key()
        except ValueError:
            detail = f"{address} is not a certificate"
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, detail) from None

    def get(self, address: str) -> bytes:
        """Fetch an address that was checked before; nothing of it is kept.

        Raises:
            DeliveryRefused: it cannot be fetched at the moment, so the sender shall come again.
        """
        try:
            return self._fetch(address)
        except OSError:
            raise DeliveryRefused(
                RefusalCause.UNAVAILABLE, f"{address.partition('?')[0]} cannot be fetched"
            ) from None


def _is_within(span: timedelta, then: datetime, now: datetime) -> bool:
    return timedelta(0) <= now - then < span
