"""Certificates of senders who sign by them, fetched from their own hosts and kept for a day."""

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import load_pem_x509_certificate

from webapp.signals.delivery import DeliveryRefused, RefusalCause

# GET of an https address that was checked before: the body of a 200 of at most `MAX_BYTES`. It follows
# no redirect, reaches public addresses only, ends within seconds, and raises OSError where any of
# that fails.
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
        self._kept: dict[str, tuple[datetime, CertificatePublicKeyTypes]] = {}
        self._fetched: list[datetime] = []

    def public_key(self, address: str, now: datetime) -> CertificatePublicKeyTypes:
        """Return the public key of the certificate at an address that was checked before.

        Raises:
            DeliveryRefused: it cannot be fetched at the moment, so the sender shall come again.
        """
        if address in self._kept:
            fetched_at, key = self._kept[address]
            if _is_within(_KEPT, fetched_at, now):
                return key
        # A stranger's forged deliveries may not make this server flood the sender's.
        self._fetched = [then for then in self._fetched if _is_within(_MINUTE, then, now)]
        if len(self._fetched) >= FETCHES_A_MINUTE:
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, "too many certificates are asked for")
        self._fetched.append(now)
        try:
            key = load_pem_x509_certificate(self.get(address)).public_key()
        except ValueError:
            raise DeliveryRefused(
                RefusalCause.UNAVAILABLE, f"{address} is not a certificate"
            ) from None
        if len(self._kept) >= _MOST:
            self._kept.pop(min(self._kept, key=lambda kept: self._kept[kept][0]), None)
        self._kept[address] = (now, key)
        return key

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
