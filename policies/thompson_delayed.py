"""Thompson sampling for answers that are late: silence counts by how long it has lasted."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray
from bandits.numerics.delayed_posterior import delayed_chances
from bandits.numerics.quadrature import beta_chances
from bandits.policy import Parameters, PriorFailures, PriorSuccesses
from bandits.problem import Problem
from bandits.registry import register
from bandits.statistics import AnswerDelays


@register("thompson_delayed", label="Thompson sampling for late answers", support=(0.0, 1.0))
class ThompsonDelayed(Parameters, frozen=True):
    """Give each variant a share of sends as large as its chance to be the best in the end.

    For one success that happens or not, when answers take long beside the time between sends. An
    email without an answer counts for as much as its age says, and how fast each version is
    answered is learned beside how often.

    Rewards are 0 or 1, learned from the first send on, whatever the maturity. Delays are
    log-normal, with medians that versions share in part. Probabilities are exact, by quadrature. A
    version that is answered faster wins no credit for it: where the best version is also the
    fastest, waiting for nothing would find it sooner. Source: the likelihood of Chapelle (2014),
    "Modeling delayed feedback in display advertising", with the rule of Thompson (1933).
    """

    statistic: ClassVar[type[AnswerDelays]] = AnswerDelays

    prior_successes: PriorSuccesses = 1.0
    prior_failures: PriorFailures = 1.0

    def prepare(
        self,
        statistic: AnswerDelays,
        problem: Problem,
        upcoming: int,
        rng: Generator,
    ) -> "DelayedChances":
        """Keep the statistic: chances are computed when they are first asked for."""
        return DelayedChances(statistic, self.prior_successes, self.prior_failures)

    def propensities(self, prepared: "DelayedChances", contexts: FloatArray) -> FloatArray:
        """Return the chance of each arm to be the best, (*lead, K)."""
        return prepared.chances


@dataclass(frozen=True, eq=False)
class DelayedChances:
    """Chance of each arm to have the highest rate, given sends, answers and their times.

    Attributes:
        statistic: sums by arm, with leading axes `lead`.
        successes: the prior's.
        failures: the prior's.
    """

    statistic: AnswerDelays
    successes: float
    failures: float

    @cached_property
    def chances(self) -> FloatArray:
        """The chances, (*lead, K)."""
        answers, waiting = self.statistic, self.statistic.waiting
        out = np.empty(answers.answered.shape)
        if not waiting.all():
            out[~waiting] = beta_chances(
                np.maximum(answers.answered[~waiting], 0.0) + self.successes,
                np.maximum(answers.closed[~waiting], 0.0) + self.failures,
            )
        for place in map(tuple, np.argwhere(waiting)):
            counts = answers.state(place).counts()
            out[place] = delayed_chances(counts, self.successes, self.failures)
        return out
