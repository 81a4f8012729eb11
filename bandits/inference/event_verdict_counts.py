"""Counts of judged events by name, reason and mailbox: persons', and those that are set aside."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from bandits.array_types import FloatArray, IntArray

_LITTLE = "<f8"  # how counts are stored, whatever the machine

VerdictKey = tuple[str, int, int]  # name of an event, `VerdictReason`, `MailboxClass`


@dataclass(frozen=True, slots=True, eq=False)
class EventVerdictCounts:
    """Counts of judged events of sent decisions; additive.

    A decision comes in when its clocks start, with its events so far, and a cancellation takes it
    out. Arms are followed by the held-out subjects.

    Attributes:
        keys: R of them, ascending: those that some event has.
        counts: (R, K + 1) events.
    """

    keys: tuple[VerdictKey, ...]
    counts: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "EventVerdictCounts":
        """Count none."""
        return cls((), np.zeros((0, n_arms + 1)))

    @classmethod
    def from_events(
        cls, names: tuple[str, ...], events: IntArray, groups: IntArray, n_arms: int
    ) -> "EventVerdictCounts":
        """Count n events.

        Args:
            names: of events.
            events: (n, 3) int, the position of each one's name, its reason and its mailbox.
            groups: (n,) int, the arm of its decision, K where it was held out.
            n_arms: K.
        """
        if not len(events):
            return cls.zeros(n_arms)
        distinct, places = np.unique(events, axis=0, return_inverse=True)
        cells = places.reshape(-1) * (n_arms + 1) + groups
        counts = np.bincount(cells, minlength=len(distinct) * (n_arms + 1)).astype(np.float64)
        keys = [(names[p], r, m) for p, r, m in distinct.tolist()]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return cls(tuple(keys[i] for i in order), counts.reshape(len(keys), n_arms + 1)[order])

    def __add__(self, other: "EventVerdictCounts") -> "EventVerdictCounts":
        return self._joined(other, 1.0)

    def __sub__(self, other: "EventVerdictCounts") -> "EventVerdictCounts":
        return self._joined(other, -1.0)

    def _joined(self, other: "EventVerdictCounts", sign: float) -> "EventVerdictCounts":
        if not other.keys:
            return self
        keys = tuple(sorted({*self.keys, *other.keys}))
        counts = self.spread(keys) + sign * other.spread(keys)
        kept = np.flatnonzero(np.any(counts != 0, axis=1))  # whole numbers: taken out, they are 0
        return EventVerdictCounts(tuple(keys[i] for i in kept.tolist()), counts[kept])

    def spread(self, keys: tuple[VerdictKey, ...]) -> FloatArray:
        """Return the counts (R, K + 1) in the places of these keys, which include all there are."""
        places = {key: i for i, key in enumerate(keys)}
        counts = np.zeros((len(keys), self.counts.shape[-1]))
        counts[[places[key] for key in self.keys]] = self.counts
        return counts

    def rows(self) -> Iterator[tuple[str, int, int, FloatArray]]:
        """Go through name, reason, mailbox and counts (K + 1,)."""
        for key, counts in zip(self.keys, self.counts, strict=True):
            yield *key, counts

    def padded(self, n_arms: int) -> "EventVerdictCounts":
        """Insert arms without events, before the held-out group, until there are `n_arms`."""
        missing = n_arms + 1 - self.counts.shape[-1]
        if not missing:
            return self
        return EventVerdictCounts(self.keys, np.insert(self.counts, [-1] * missing, 0.0, axis=-1))

    def dump(self) -> bytes:
        """Serialise; nothing of no event."""
        if not self.keys:
            return b""
        packed = self.counts.astype(_LITTLE).tobytes()
        return msgspec.msgpack.encode((self.keys, self.counts.shape[-1], packed))

    @classmethod
    def load(cls, packed: bytes, n_arms: int) -> "EventVerdictCounts":
        """Read back what `dump` wrote, with room for `n_arms`."""
        if not packed:
            return cls.zeros(n_arms)
        keys, width, array = msgspec.msgpack.decode(packed)
        counts = np.frombuffer(array, _LITTLE).astype(np.float64).reshape(len(keys), width)
        return cls(tuple(map(tuple, keys)), counts).padded(n_arms)
