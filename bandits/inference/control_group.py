"""Control group beforehand: the smallest gain over it that a plan can show."""

from math import log1p

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from bandits.inference.aipw import Scores
from bandits.inference.estimates import (
    BURN_IN_CONVERSIONS,
    BURN_IN_OF_GROUP,
    tightest_variation,
)
from bandits.inference.intervals import ALPHA

ALIKE = 0.4  # how alike emails of one recipient are: the correlation of any two, p ~ Beta(.3, 1.2)
POWER = 0.8
_MOST_EMAILS = 1e15  # more than there are


def design_effect(emails_per_subject: float, alike: float = ALIKE) -> float:
    """Return by how much a mean varies more than that of independent emails: 1 + (m − 1) ρ."""
    return 1.0 + (max(emails_per_subject, 1.0) - 1.0) * alike


def smallest_gain_shown(
    emails: float,
    rate: float,
    holdout: float,
    emails_per_subject: float = 1.0,
    square: float = 1.0,
) -> float | None:
    """Return the smallest gain over the control group, relative to its rate, that is shown.

    With w = 1/(1 − h) + 1/h and deff = 1 + (m − 1) ρ, the sum of n scores has variance
    V = n p (q − p) w deff, in units of the mean worth of a success. Its interval is M(V) on either
    side, that of `bandits.inference.estimates.gain_over_control_group` at the last look of many. A
    gain δ is shown with probability 80 % where n δ = M(V) + z_80 √V.

    Args:
        emails: n, the control group's included.
        rate: p, of the control.
        holdout: h, the part of recipients in the control group.
        emails_per_subject: m, that each recipient gets.
        square: q, the mean square of a success's worth, over its squared mean.

    Returns:
        δ / p; None where the control group is too small for any.
    """
    effect = design_effect(emails_per_subject)
    independent = emails * rate / effect
    smaller = independent * min(holdout, 1.0 - holdout)
    if independent < BURN_IN_CONVERSIONS or smaller < BURN_IN_OF_GROUP:
        return None
    weights = np.array([1 / (1 - holdout), 1 / holdout])
    variation = emails * rate * (square - rate) * weights.sum() * effect
    tightest = tightest_variation(weights, square, effect)
    none = np.zeros(())
    scores = Scores(none, none, np.array(variation), np.array(tightest), none, none)
    aim = float(scores.margin(ALPHA)) + norm.ppf(POWER) * np.sqrt(variation)
    return float(aim / emails / rate)


def emails_to_show(
    gain: float,
    rate: float,
    holdout: float,
    emails_per_subject: float = 1.0,
    square: float = 1.0,
) -> float:
    """Return how many emails it takes to show a gain, relative to the control's rate.

    The other arguments are those of `smallest_gain_shown`.
    """

    def excess(log_emails: float) -> float:
        emails = float(np.exp(log_emails))
        shown = smallest_gain_shown(emails, rate, holdout, emails_per_subject, square)
        return log1p(np.inf if shown is None else shown) - log1p(gain)

    fewest = BURN_IN_OF_GROUP / min(holdout, 1.0 - holdout)
    fewest = max(fewest, BURN_IN_CONVERSIONS) * design_effect(emails_per_subject) / rate
    start, end = np.log(fewest) + 1e-9, np.log(_MOST_EMAILS)
    if excess(start) <= 0:
        return float(fewest)
    return float(np.exp(brentq(excess, start, end)))
