"""Sender sums: what API keys asked for, by key, for checks of one key against the others.

Only decisions whose key is known are in them; held-out subjects and fallbacks are not. A decision
comes in when its clocks start and, once its reward window has closed, counts as answered if it has
earned something: before that, a shop whose orders come late would seem to get none. A cancellation
takes it out of all.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from bandits.additive import field_values
from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference.sample_ratio import SampleRatio

COUNTS = ("sent", "restricted", "closed", "answered")
FORMAT = 2  # before, the last two counts were of matured decisions
_RATIO = 3  # sends, Σ π and Σ π² of each arm
_LITTLE = "<f8"  # how sums are stored, whatever the machine


@dataclass(frozen=True, slots=True, eq=False)
class SenderSums:
    """Sums over decisions by the API key that asked for them; additive, S keys.

    Attributes:
        keys: (S,) int, ascending, those that have a decision.
        counts: (S, 4) decisions, as `COUNTS` names them: sent; of these, narrowed to an eligible
            set; of those sent, closed; of these, with a reward.
        ratio: (S, 3, K) the fields of `SampleRatio`, in their order.
    """

    keys: IntArray
    counts: FloatArray
    ratio: FloatArray

    @classmethod
    def zeros(cls, n_arms: int) -> "SenderSums":
        """Make the sums over no decision."""
        return cls(
            np.zeros(0, dtype=np.int64),
            np.zeros((0, len(COUNTS))),
            np.zeros((0, _RATIO, n_arms)),
        )

    @classmethod
    def from_sent(
        cls, keys: IntArray, restricted: BoolArray, ratios: Mapping[int, SampleRatio], n_arms: int
    ) -> "SenderSums":
        """Sum n decisions as sent.

        Args:
            keys: (n,) the key of each, 0 where it is not known.
            restricted: (n,) it was narrowed to an eligible set.
            ratios: of those of each key.
            n_arms: K.
        """
        distinct, places = _places(keys)
        sums = cls._empty(distinct, n_arms)
        sums.counts[:, 0] = np.bincount(places[keys > 0], minlength=len(distinct))
        sums.counts[:, 1] = np.bincount(places[restricted & (keys > 0)], minlength=len(distinct))
        for s, key in enumerate(distinct.tolist()):
            if key in ratios:
                sums.ratio[s] = field_values(ratios[key])
        return sums

    @classmethod
    def from_closed(cls, keys: IntArray, answered: BoolArray, n_arms: int) -> "SenderSums":
        """Sum n decisions whose window has closed; keys, answered (n,)."""
        distinct, places = _places(keys)
        sums = cls._empty(distinct, n_arms)
        sums.counts[:, 2] = np.bincount(places[keys > 0], minlength=len(distinct))
        sums.counts[:, 3] = np.bincount(places[answered & (keys > 0)], minlength=len(distinct))
        return sums

    @classmethod
    def _empty(cls, keys: IntArray, n_arms: int) -> "SenderSums":
        n = len(keys)
        return cls(keys, np.zeros((n, len(COUNTS))), np.zeros((n, _RATIO, n_arms)))

    def __add__(self, other: "SenderSums") -> "SenderSums":
        return self._joined(other, 1.0)

    def __sub__(self, other: "SenderSums") -> "SenderSums":
        return self._joined(other, -1.0)

    def _joined(self, other: "SenderSums", sign: float) -> "SenderSums":
        if not len(other.keys):
            return self
        keys = np.union1d(self.keys, other.keys)
        one, two = self.spread(keys), other.spread(keys)
        counts = one.counts + sign * two.counts
        kept = counts.any(axis=1)  # whole numbers: what is taken out leaves 0
        return SenderSums(keys[kept], counts[kept], (one.ratio + sign * two.ratio)[kept])

    def spread(self, keys: IntArray) -> "SenderSums":
        """Return the sums in the places of these keys, which must include all there are."""
        sums = self._empty(keys, self.ratio.shape[-1])
        places = np.searchsorted(keys, self.keys)
        sums.counts[places], sums.ratio[places] = self.counts, self.ratio
        return sums

    def padded(self, n_arms: int) -> "SenderSums":
        """Append arms without decisions, until there are `n_arms`."""
        missing = n_arms - self.ratio.shape[-1]
        if not missing:
            return self
        return SenderSums(
            self.keys, self.counts, np.pad(self.ratio, [(0, 0), (0, 0), (0, missing)])
        )

    def without_closed(self) -> "SenderSums":
        """Return the sums with no decision closed."""
        counts = self.counts.copy()
        counts[:, 2:] = 0.0
        return SenderSums(self.keys, counts, self.ratio)

    @property
    def sample_ratio(self) -> SampleRatio:
        """Sends of each key against the probabilities of each arm, (S, K) each."""
        return SampleRatio(*np.moveaxis(self.ratio, 1, 0))

    def dump(self) -> bytes:
        """Serialise; nothing of no decision."""
        if not len(self.keys):
            return b""
        arrays = [a.astype(_LITTLE).tobytes() for a in (self.counts, self.ratio)]
        return msgspec.msgpack.encode((FORMAT, self.keys.tolist(), self.ratio.shape[-1], *arrays))

    @staticmethod
    def is_older(packed: bytes) -> bool:
        """Return true where closed decisions were not counted yet; `load` then gives none."""
        return bool(packed) and isinstance(msgspec.msgpack.decode(packed)[0], list)

    @classmethod
    def load(cls, packed: bytes, n_arms: int) -> "SenderSums":
        """Read back what `dump` wrote, with room for `n_arms`."""
        if not packed:
            return cls.zeros(n_arms)
        *_, keys, width, stored_counts, stored_ratio = msgspec.msgpack.decode(packed)
        counts, ratio = (
            np.frombuffer(a, _LITTLE).astype(np.float64) for a in (stored_counts, stored_ratio)
        )
        sums = cls(
            np.array(keys, dtype=np.int64),
            counts.reshape(len(keys), len(COUNTS)),
            ratio.reshape(len(keys), _RATIO, width),
        )
        return (sums.without_closed() if cls.is_older(packed) else sums).padded(n_arms)


def _places(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Return the distinct known keys (S,), and the place of each decision's among them (n,)."""
    distinct = np.unique(keys[keys > 0])
    return distinct, np.searchsorted(distinct, keys)
