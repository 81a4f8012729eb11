"""Cluster sums: rewards of both groups by bucket of recipients, whose emails are alike.

Held out is a recipient, with all their emails, so it is recipients that were drawn by lot and not
emails. Who clicks once clicks again: of a recipient's emails the results go together, and a
difference of the two groups varies more than as many independent emails would let it. How much
more, the *design effect*, is estimated from sums by bucket: every recipient is in one of 256, by a
hash that has nothing to do with being held out. With e = R − m of an email's own group, the score
of bucket b is Z_b = Σ e / (1 − h) over emails decided for, less Σ e / h over those held out, and
Σ Z_b² estimates the variance of Σ Z_b for any correlation within recipients (Liang and Zeger, 1986;
a bucket of several recipients is a larger cluster, which is right as well).

Few recipients are held out, so Σ Z_b² rests on few of them, and is small exactly when by bad luck
few of those who click much are among them: a t-like error that claims a gain too often. But
recipients of both groups are alike by lot: the design effect of those decided for has all 256
buckets behind it and knows nothing of who was held out. So that of both is drawn towards it, as if
it had come from twenty more conversions (`aipw` draws an arm's variance towards that of all): with
k conversions of the smaller group that are worth as independent ones, it is their mean with weights
k and 20, and at least 1.

Better emails make recipients more alike: where everybody clicks f times as often, the correlation
of a recipient's emails, Var p / (p̄ (1 − p̄)), is at least f times as large. So what goes beyond 1 in
the design effect of those decided for is divided by f, the ratio of both conversion rates, before
it stands for the held out. As it is, it would hide a gain, and the more the larger that is.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from bandits.array_types import AnyArray, FloatArray, IntArray
from bandits.inference.aipw_sums import POWERS, ratio

GROUPS = 2  # decided for, and held out
BUCKETS = 256
_BUCKET_BITS = 8
_PRIOR_EVENTS = 20.0  # what the design effect of those decided for counts for
_LITTLE = "<f8"  # how arrays are stored, whatever the machine


def buckets_of(salt: bytes, subject_keys: AnyArray) -> IntArray:
    """Place n recipients in buckets, (n,) from 0 to 255, by keys (n,) that are uniform 64 bits.

    Multiply-shift hashing (Dietzfelbinger, Hagerup, Katajainen and Penttonen, 1997) by an odd
    number that the experiment's salt gives: each experiment has buckets of its own.
    """
    odd = np.uint64(int.from_bytes(salt[:8].ljust(8, b"\0"), "big") | 1)
    products = subject_keys.astype(np.uint64) * odd  # modulo 2^64
    return (products >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ClusterSums:
    """Sums over closed decisions of both groups, by bucket of their recipients; additive.

    Attributes:
        moments: (3, 2, B), Σ R^i at [i, group, bucket]; B is 0 where there is no decision.
    """

    moments: FloatArray

    @classmethod
    def zeros(cls) -> "ClusterSums":
        """Make the sums over no decision, which take no room."""
        return cls(np.zeros((POWERS, GROUPS, 0)))

    @classmethod
    def from_decisions(
        cls, buckets: IntArray, groups: IntArray, rewards: FloatArray
    ) -> "ClusterSums":
        """Sum n decisions by bucket (n,) and group (n,), 1 for held out, with rewards (n,)."""
        if not len(buckets):
            return cls.zeros()
        cells, size = groups * BUCKETS + buckets, GROUPS * BUCKETS
        sums = [np.bincount(cells, rewards ** float(i), size) for i in range(POWERS)]
        moments = np.stack(sums).astype(np.float64)
        return cls(moments.reshape(POWERS, GROUPS, BUCKETS))

    def __add__(self, other: "ClusterSums") -> "ClusterSums":
        if not other.moments.size:
            return self
        return ClusterSums(self.spread + other.moments)

    def __sub__(self, other: "ClusterSums") -> "ClusterSums":
        if not other.moments.size:
            return self
        return ClusterSums(self.spread - other.moments)

    @property
    def spread(self) -> FloatArray:
        """The moments with all buckets, (3, 2, 256)."""
        return self.moments if self.moments.size else np.zeros((POWERS, GROUPS, BUCKETS))

    @property
    def negated(self) -> "ClusterSums":
        """The same decisions, each reward taken as −R."""
        return ClusterSums(self.moments * np.array([1.0, -1.0, 1.0])[:, None, None])

    @property
    def decisions(self) -> float:
        """Decisions of both groups."""
        return float(self.moments[0].sum())

    @property
    def emails_each(self) -> float:
        """Emails that a recipient gets, as a mean over emails, at least 1.

        Recipients are in buckets by lot, so it is how much more the emails by bucket vary than one
        email each would: within 9 % of it.
        """
        emails = self.moments[0].sum(axis=0)
        if not emails.sum():
            return 1.0
        return max(float(emails.var(ddof=1) / emails.mean()), 1.0)

    def design_effect(
        self, decisions: FloatArray, conversions: FloatArray, holdout: float
    ) -> float:
        """Return by how much the variance is larger than that of as many independent emails.

        Args:
            decisions: (2,) of each group, those included that left the log before these sums were
                kept. What goes beyond 1 grows with the emails of a recipient, so it is taken in
                proportion.
            conversions: (2,) of each group.
            holdout: h, the probability that a recipient is held out.
        """
        sends, earned, squares = self.moments
        n, total = sends.sum(axis=-1), earned.sum(axis=-1)
        mean = ratio(total, n)
        noise = earned - mean[:, None] * sends  # (2, B), Σ e
        weights = np.array([1 / (1 - holdout), 1 / holdout])
        within = np.maximum(squares.sum(axis=-1) - mean * total, 0.0)  # (2,), Σ e²
        independent = float(weights**2 @ within)
        if within[0] <= 0 or independent <= 0:
            return 1.0
        of_buckets = BUCKETS / (BUCKETS - 1)  # the scores sum to 0
        scores = weights[0] * noise[0] - weights[1] * noise[1]
        observed = of_buckets * (scores @ scores) / independent
        of_decided = of_buckets * (noise[0] @ noise[0]) / within[0]
        rates = conversions / np.maximum(decisions, 1.0)
        better = rates[0] / rates[1] if rates.all() else 1.0
        expected = 1.0 + max(of_decided - 1.0, 0.0) / better
        events = float(conversions.min()) / expected
        drawn = (events * observed + _PRIOR_EVENTS * expected) / (events + _PRIOR_EVENTS)
        left = max(float(decisions.sum() / n.sum()), 1.0)
        return float(1.0 + max(drawn - 1.0, 0.0) * left)

    def dump(self) -> bytes:
        """Serialise."""
        return msgspec.msgpack.encode(self.moments.astype(_LITTLE).tobytes())

    @classmethod
    def load(cls, packed: bytes) -> "ClusterSums":
        """Read back what `dump` wrote."""
        content = np.frombuffer(msgspec.msgpack.decode(packed, type=bytes), _LITTLE)
        return cls(content.astype(np.float64).reshape(POWERS, GROUPS, -1))
