"""Findings on a number: an interval with its guarantee, or why there is none yet."""

from typing import ClassVar, Literal

from msgspec import Struct

from bandits.inference.guarantees import GUARANTEES, Guarantee, Promise

ALPHA = 0.05  # the chance of error that a page allows itself unless told otherwise


class Family(Struct, frozen=True):
    """Claims that are to hold together: all of them with probability 1 − alpha (Bonferroni).

    Attributes:
        claims: their kind, in the plural; completes "all 4 …".
        comparisons: how many, at least 1.
        alpha: the probability that any of them ever errs, at most.
    """

    claims: str
    comparisons: int = 1
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: there is no comparison, or alpha is no probability.
        """
        if self.comparisons < 1 or not 0 < self.alpha < 1:
            detail = f"{self.comparisons} comparisons at {self.alpha}"
            raise ValueError(f"a family needs a comparison and an alpha in (0, 1), not {detail}")

    @classmethod
    def leading(cls, n_arms: int, alpha: float = ALPHA) -> "Family":
        """Make the family of "this arm leads": it against each of the others.

        A wrong leader has to beat the truly best arm, whichever that is, so α/(K − 1) for each pair
        is enough although the data chose the leader.
        """
        return cls("comparisons of the leader with another", max(1, n_arms - 1), alpha)

    @classmethod
    def against_control(cls, n_arms: int, alpha: float = ALPHA) -> "Family":
        """Make the family of all arms but the control, each against the control."""
        return cls("comparisons with the control", max(1, n_arms - 1), alpha)

    @classmethod
    def segments(cls, n_cells: int, n_comparisons: int, alpha: float = ALPHA) -> "Family":
        """Make the family of the same comparisons in each cell of a segmentation."""
        return cls("comparisons in segments", max(1, n_cells * n_comparisons), alpha)

    @property
    def alpha_each(self) -> float:
        """The probability of error that one claim may have."""
        return self.alpha / self.comparisons

    @property
    def sentence(self) -> str:
        """State the family, for the page that shows it."""
        if self.comparisons == 1:
            return f"Each {_percent(self.alpha)} interval stands by itself."
        return (
            f"All {self.comparisons} {self.claims} hold together with "
            f"{_percent(self.alpha)} confidence, so each by itself is shown with "
            f"{_percent(self.alpha_each)}."
        )


class Interval(Struct, frozen=True, tag="interval"):
    """An estimate and the interval around it.

    Attributes:
        low: finite, as is `high`.
        alpha: the probability that this interval ever misses, at most: its family's `alpha_each`.
        promise: what it promises and on what conditions, by the name of its `guarantee`.
    """

    low: float
    high: float
    estimate: float
    alpha: float
    promise: Promise
    family: Family

    measurable: ClassVar[Literal[True]] = True

    @property
    def guarantee(self) -> Guarantee:
        """Guarantee in full."""
        return GUARANTEES[self.promise]

    @property
    def confidence(self) -> str:
        """The level as it is written: "95 %"."""
        return _percent(self.alpha)

    @property
    def sentence(self) -> str:
        """State the promise in a marketer's words."""
        return f"{self.confidence} interval, {self.guarantee.plain}"

    def contains(self, value: float) -> bool:
        """Return true where the interval contains `value`."""
        return self.low <= value <= self.high

    def times(self, factor: float) -> "Interval":
        """Express the same claim per `factor` units: per 1,000 emails, or for all that were sent.

        Args:
            factor: above 0.
        """
        return Interval(
            self.low * factor,
            self.high * factor,
            self.estimate * factor,
            self.alpha,
            self.promise,
            self.family,
        )


class NotYet(Struct, frozen=True, tag="not_yet"):
    """Not yet measurable: no interval's conditions hold.

    Attributes:
        reason: in a marketer's words, a whole sentence.
        condition: the condition that fails, in a statistician's words.
    """

    reason: str
    condition: str

    measurable: ClassVar[Literal[False]] = False


Finding = Interval | NotYet


def _percent(alpha: float) -> str:
    """Write a confidence level: 95 %, 98.75 %, 99.915 %."""
    return f"{100 * (1 - alpha):.5g} %"
