"""Guarantees: the promise of each interval that pages show, and its conditions."""

from typing import Literal

from msgspec import Struct, structs

Promise = Literal["rate", "lift", "weighted", "gain", "randomised"]


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
_CONSTANT = (
    "each arm's rate is constant; in particular no drift was found",
    "the policy uses no context, and every decision could get every arm",
    "rewards lie in [0, 1] as they are, not rescaled; any but 0 and 1 only widen the interval",
)
_LOGGED = "probabilities are logged as drawn, and no eligible arm's is below a floor above 0"

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
    plain="valid however often you look: the control group was drawn by lot",
    exact="The probability that it ever misses the average difference of reward between being "
    "decided for and being held out tends to at most α as its start moves out. Asymptotic: it is "
    "shown only from 50 conversions in both groups together and 25 decisions of each on.",
    source="Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), theorem 2.5",
    conditions=(
        "each recipient is held out with the same probability, for the whole experiment",
        _INDEPENDENT,
        _CLOSED,
    ),
)

# Of every experiment; `guarantees` adds what depends on how one assigns recipients.
GUARANTEES: dict[Promise, Guarantee] = {g.key: g for g in (RATE, LIFT, WEIGHTED, GAIN, RANDOMISED)}


def guarantees(*, per_subject: bool) -> dict[Promise, Guarantee]:
    """State what intervals promise in an experiment, by how it assigns recipients."""
    own = _ONE_EACH if per_subject else _SEVERAL
    return {
        key: structs.replace(guarantee, conditions=(*guarantee.conditions, own))
        for key, guarantee in GUARANTEES.items()
    }
