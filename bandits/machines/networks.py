"""Networks: keyed hashes of addresses, and how many emails' links were followed from each."""

import re
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import numpy as np
from msgspec import Struct

from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray

UNKNOWN_NETWORK = 0
WEEK_SECONDS = 7 * 86_400.0
_SHORTEST_KEY = 16  # bytes
_PREFIX_BYTES = {4: 3, 6: 6}  # /24 and /48: what one household or company has

_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_QUAD = re.compile(rf"({_BYTE}\.{_BYTE}\.{_BYTE})\.{_BYTE}", re.ASCII)

# An address of these is a proxy's or this machine's own: it tells nothing of who is outside.
_INSIDE = [
    ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "::/127", "fc00::/7", "fe80::/10"),
    )
]


def network_hash(address: str | None, key: bytes) -> int:
    """Hash the network of an address, /24 of IPv4 or /48 of IPv6, to a signed 64-bit number.

    Args:
        address: as text; a network of an inside address, or of none, is 0: unknown.
        key: 16 to 64 random bytes. Who has them can find out the network again by trying all.

    Raises:
        ValueError: the key is shorter or longer.
    """
    if len(key) < _SHORTEST_KEY:
        raise ValueError(f"a key of networks has at least {_SHORTEST_KEY} bytes, not {len(key)}")
    text = (address or "").strip()
    quad = _QUAD.fullmatch(text)
    if quad is not None:
        return _prefix_hash(quad[1], key)
    try:
        parsed = ip_address(text)
    except ValueError:
        return UNKNOWN_NETWORK
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return _hash(parsed, key)


@lru_cache(maxsize=65_536)
def _prefix_hash(prefix: str, key: bytes) -> int:
    """Hash the network of three of four numbers; whole addresses are kept nowhere, not even here.

    Most events come from few networks, and to read an address takes longer than all else of it.
    """
    return _hash(ip_address(f"{prefix}.0"), key)


def _hash(address: IPv4Address | IPv6Address, key: bytes) -> int:
    if any(address in network for network in _INSIDE):
        return UNKNOWN_NETWORK
    prefix = address.packed[: _PREFIX_BYTES[address.version]]
    digest = blake2b(prefix, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


class FrozenRows(Struct, frozen=True, eq=False):
    """Rows of networks and minutes as they were frozen: m rows, sorted by both.

    Attributes:
        networks: (m,) int.
        minutes: (m,) int, since 1970-01-01 UTC.
        emails: (m,) int, emails with a click from that network in that minute,
        swept: (m,) int, and those of them whose links were followed as no person does.
        frozen_at: (m,) when each row was frozen, seconds since 1970.
    """

    networks: IntArray
    minutes: IntArray
    emails: IntArray
    swept: IntArray
    frozen_at: FloatArray

    def __len__(self) -> int:
        return len(self.networks)

    @classmethod
    def from_clicks(
        cls,
        networks: IntArray,
        minutes: IntArray,
        emails: IntArray,
        swept: BoolArray,
        frozen_at: FloatArray,
    ) -> "FrozenRows":
        """Count n clicks, each of a known network, a minute and an email.

        Args:
            networks: (n,) int.
            minutes: (n,) int.
            emails: (n,) int, the email's number.
            swept: (n,) bool, the click was made as no person does.
            frozen_at: (n,) when the row of that network and minute is frozen.
        """
        order = np.lexsort((swept, emails, minutes, networks))  # a sweep last of its email
        networks, minutes, emails = networks[order], minutes[order], emails[order]
        last_of_row = _last_of_runs(networks, minutes)
        last_of_email = last_of_row | _last_of_runs(networks, minutes, emails)
        ends = np.flatnonzero(last_of_row)
        n_emails = np.diff(np.cumsum(last_of_email)[ends], prepend=0)
        n_swept = np.diff(np.cumsum(last_of_email & swept[order])[ends], prepend=0)
        return cls(networks[ends], minutes[ends], n_emails, n_swept, frozen_at[order][ends])


class NetworkCounts(Struct, frozen=True, eq=False):
    """Emails whose links were followed, by network and minute: m rows, sorted by both.

    A row is final once it is frozen, so a verdict that rests on it stays as it is.

    Attributes:
        networks: (m,) int.
        minutes: (m,) int, since 1970-01-01 UTC.
        emails: (m,) int, emails with a click from that network in that minute,
        week_emails: (m,) int, and the sum over its rows that were frozen in the week until then.
        week_swept: (m,) int, likewise of the emails whose links were followed as no person does.
    """

    networks: IntArray
    minutes: IntArray
    emails: IntArray
    week_emails: IntArray
    week_swept: IntArray

    @classmethod
    def from_rows(cls, rows: FrozenRows, earlier: FrozenRows | None = None) -> "NetworkCounts":
        """Sum the week of each of m rows, over these and over `earlier` ones of their networks."""
        parts = [rows] if earlier is None else [earlier, rows]
        networks, frozen_at, *counts = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("networks", "frozen_at", "emails", "swept")
        )
        by_time = np.lexsort((frozen_at, networks))
        ordered = (networks[by_time], frozen_at[by_time])
        stop = _places(ordered, (rows.networks, rows.frozen_at), after=True)
        start = _places(ordered, (rows.networks, rows.frozen_at - WEEK_SECONDS), after=True)
        sums = [np.concatenate([[0], np.cumsum(count[by_time])]) for count in counts]
        week = [total[stop] - total[start] for total in sums]
        return cls(rows.networks, rows.minutes, rows.emails, *week)

    def rows(self, networks: IntArray, minutes: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Return `emails`, `week_emails` and `week_swept` of networks and minutes (n,); 0 of none.

        Args:
            networks: (n,) int.
            minutes: (n,) int.
        """
        n = len(self.networks)
        if not n:
            none = np.zeros(len(networks), dtype=np.int64)
            return none, none, none
        places = _places((self.networks, self.minutes), (networks, minutes), after=False)
        places = np.minimum(places, n - 1)
        there = (self.networks[places] == networks) & (self.minutes[places] == minutes)
        emails, of_week, swept = (
            np.where(there, column[places], 0)
            for column in (self.emails, self.week_emails, self.week_swept)
        )
        return emails, of_week, swept


def _places(
    rows: tuple[AnyArray, AnyArray], keys: tuple[AnyArray, AnyArray], *, after: bool
) -> IntArray:
    """Return how many of m sorted rows, two columns, come before each of n keys, or not after."""
    n, m = len(keys[0]), len(rows[0])
    is_row = np.concatenate([np.zeros(n, dtype=np.int64), np.ones(m, dtype=np.int64)])
    second, first = (np.concatenate([keys[i], rows[i]]) for i in (1, 0))
    order = np.lexsort((-is_row if after else is_row, second, first))
    places = np.empty(n + m, dtype=np.int64)
    places[order] = np.cumsum(is_row[order])
    return places[:n]


def _last_of_runs(*columns: IntArray) -> BoolArray:
    """Mark the last row of each run of rows that are equal in all columns."""
    last = np.ones(len(columns[0]), dtype=np.bool_)
    last[:-1] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return last
