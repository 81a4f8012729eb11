"""Intervals of estimates, and the guarantee of each kind."""

from typing import ClassVar, Literal

from msgspec import Struct, structs

Promise = Literal["rate", "lift", "weighted", "overlap", "gain", "randomised"]


class Guarantee(Struct, frozen=True):
    """Promise of an interval, and its conditions.

    Attributes:
        key: the name that intervals refer to.
        name: the method, as a statistician calls it.
        plain: the promise in a marketer's words; completes "95 % interval, …".
        exact: the promise as a statistician states it, with α for `Interval.alpha`.
        source: author, year, theorem or equation.
        conditions: what has to hold; where one does not, the interval must not be shown.
    """

    key: Promise
    name: str
    plain: str
    exact: str
    source: str
    conditions: tuple[str, ...]


_CLOSED = (
    "counted are decisions that were activated and not cancelled, whose reward window has closed, "
    "none of them forgotten"
)
_COUNTED = (
    "counted are decisions that were activated, not cancelled and not held out, whose reward "
    "window has closed, none of them forgotten"
)
_INDEPENDENT = "recipients decide independently of each other"
_ONE_EACH = "each recipient has one decision, however often they are chosen for"
_SEVERAL = (
    "decisions are independent, also where a recipient gets several: what somebody did with one "
    "email tells nothing of what they do with the next that the arms' mean rewards do not"
)
_TOGETHER = (
    "where a recipient gets several emails, they count together, however alike what somebody does "
    "with them is"
)
_CONSTANT = (
    "each arm's rate is constant; in particular no drift was found",
    "the policy uses no context, and no request narrowed the arms that it could get",
    "rewards lie in [0, 1] as they are, not rescaled; any but 0 and 1 only widen the interval",
)
_LOGGED = "probabilities are logged as drawn, and no eligible arm's is below a floor above 0"

_SHARED = (
    "the policy uses no context, so that all decisions of a snapshot and eligible set have the "
    "same probabilities; emails of the control group count as the control's"
)

RATE = Guarantee(
    key="rate",
    name="Beta-binomial confidence sequence",
    plain="valid however often you look",
    exact="With probability at least 1 − α it contains the arm's rate at all looks at once, under "
    "any allocation and any stopping rule; not asymptotic.",
    source="Robbins (1970); Howard, Ramdas, McAuliffe and Sekhon (2021), proposition 7",
    conditions=(*_CONSTANT, _INDEPENDENT, _COUNTED),
)

LIFT = Guarantee(
    key="lift",
    name="Profile of two Beta-binomial mixture ratios",
    plain="valid however often you look",
    exact="With probability at least 1 − α it contains the difference of the two rates at all "
    "looks at once, under any allocation and any stopping rule; not asymptotic. It pays for one "
    "claim, where two separate sequences at α guarantee their difference only 1 − 2α.",
    source="{ δ : min over p of E_control(p) E_arm(p + δ) < 1/α }, E as in Howard, Ramdas, "
    "McAuliffe and Sekhon (2021), proposition 7; Ville's inequality for their product",
    conditions=(*_CONSTANT, _INDEPENDENT, _COUNTED),
)

WEIGHTED = Guarantee(
    key="weighted",
    name="Asymptotic confidence sequence of inverse-propensity weighted scores (AIPW)",
    plain="valid however often you look, also while rates move from day to day",
    exact="The probability that it ever misses the average over the decisions made of the arms' "
    "true means tends to at most α as its start moves out. Asymptotic: it is shown only from "
    "50 conversions in the compared arms and 25 decisions of each on.",
    source="Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), theorem 2.5",
    conditions=(_LOGGED, _INDEPENDENT, _COUNTED),
)

OVERLAP = Guarantee(
    key="overlap",
    name="Asymptotic confidence sequence of a difference with overlap weights",
    plain="valid however often you look, also while rates move from day to day; it is about the "
    "emails that either version could well have been",
    exact="The probability that it ever misses the average of the difference of the arms' true "
    "means over the decisions made, each weighted by π_a π_b / (π_a + π_b), tends to at most α as "
    "its start moves out. Asymptotic: it is shown only from 50 conversions of either arm on; "
    "where values differ, of as many as are worth 50 of equal value.",
    source="Li, Morgan and Zaslavsky (2018); Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas "
    "(2024), theorem 2.5",
    conditions=(
        _SHARED,
        _INDEPENDENT,
        _COUNTED.replace("not cancelled and not held out", "not cancelled"),
    ),
)

GAIN = Guarantee(
    key="gain",
    name="Asymptotic confidence sequence of reward less the AIPW value of an equal split",
    plain="valid however often you look, also while rates move from day to day",
    exact="The probability that it ever misses what the shares used are expected to have earned "
    "more than equal shares, summed over the decisions made, tends to at most α as its start moves "
    "out. Asymptotic: it is shown only from 50 conversions on and 25 decisions of each arm, and "
    "while it does not contain 0.",
    source="Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), theorem 2.5",
    conditions=(_LOGGED, _INDEPENDENT, _COUNTED),
)

RANDOMISED = Guarantee(
    key="randomised",
    name="Asymptotic confidence sequence of a randomised difference",
    plain="valid however often you look: the control group was drawn by lot, and emails of one "
    "recipient count together",
    exact="The probability that it ever misses the average difference of reward between being "
    "decided for and being held out tends to at most α as its start moves out. Asymptotic: it is "
    "shown only once both groups together have 50 conversions and each has 10, each divided by "
    "the design effect of recipients who get several emails (their converting recipients are not "
    "counted), and 25 decisions of each.",
    source="Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), theorem 2.5; variance over "
    "256 clusters of recipients: Liang and Zeger (1986)",
    conditions=(
        "each recipient is held out with the same probability, for the whole experiment",
        _INDEPENDENT,
        _CLOSED,
    ),
)

# Of every experiment; `guarantees` adds what depends on how one assigns recipients.
GUARANTEES: dict[Promise, Guarantee] = {
    g.key: g for g in (RATE, LIFT, WEIGHTED, OVERLAP, GAIN, RANDOMISED)
}


def guarantees(*, per_subject: bool) -> dict[Promise, Guarantee]:
    """State what intervals promise in an experiment, by how it assigns recipients."""
    own = _ONE_EACH if per_subject else _SEVERAL
    return {
        key: structs.replace(
            guarantee,
            conditions=(
                *guarantee.conditions,
                own if per_subject or guarantee is not RANDOMISED else _TOGETHER,
            ),
        )
        for key, guarantee in GUARANTEES.items()
    }


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

    @classmethod
    def personal(cls, n_arms: int, alpha: float = ALPHA) -> "Family":
        """Make the family of a policy that chooses by recipient against each arm for everybody."""
        return cls("comparisons of one version for all", max(1, n_arms), alpha)

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

RESUMMING = NotYet(
    "This is being computed anew from the emails sent so far, after an upgrade. It will be back "
    "soon.",
    "its sums do not have every decision yet",
)


def _percent(alpha: float) -> str:
    """Write a confidence level: 95 %, 98.75 %, 99.915 %."""
    return f"{100 * (1 - alpha):.5g} %"
