"""A/B tests as learners of a simulation: split, stop, ship the winner.

An A/B test has a memory (the test is over, this arm won), so it is no policy but a procedure. A
scenario names it in the same way. Each holds back the rest of the campaign until the feedback of a
look is in, as email tools do; successive elimination alone sends in the campaign's own batches.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.random import Generator

from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from simulations.ab_tests.power import (
    Design,
    Variances,
    fixed_size,
    group_size,
    obrien_fleming,
    rate_variances,
)
from simulations.ab_tests.rotation import (
    EliminationRule,
    FixedHorizonRule,
    GroupSequentialRule,
    RotatingTest,
)
from simulations.learners.interfaces import Learner
from simulations.learners.scheduled_learner import ScheduledLearner
from simulations.running.schedule import Run, Schedule


class ABTest(Parameters, frozen=True):
    """Split a share of the campaign equally, wait for the results, send the rest the best arm.

    The best mean wins, significant or not: the test's cost is paid, and shipping an arm that looks
    worse would earn less. Ties are split equally.
    """

    name: ClassVar[str] = "ab_test"
    label: ClassVar[str] = "A/B test, then ship the winner"

    share: Annotated[
        float, Meta(gt=0, le=1, description="part of the campaign's recipients that is tested on")
    ] = 0.1

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse nothing: any share can be tested."""

    def schedule(self, run: Run, problem: Problem) -> Schedule:  # noqa: ARG002 - it follows from the share
        """Test, then send the rest."""
        return _patient_schedule([self._size(run)], run.horizon)

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create the test."""
        looks = [self._size(run)]
        test = RotatingTest(problem, replications, FixedHorizonRule(), rng, looks=looks)
        return ScheduledLearner(test, self.schedule(run, problem), run.feedback)

    def planned_size(self, problem: Problem) -> int | None:  # noqa: ARG002 - it follows from the share
        """Return None: its size follows from the horizon."""
        return None

    def _size(self, run: Run) -> int:
        return max(1, round(self.share * run.horizon))


class PoweredTest(Parameters, frozen=True):
    """A test planned for a difference, with a level and a power.

    With K arms, K − 1 comparisons share the level (Bonferroni).
    """

    lift: Annotated[float, Meta(gt=0, description="difference from the control that must be found")]
    rate: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(description="the control's expected rate, for 0-or-1 rewards"),
    ] = None
    sd: Annotated[
        Annotated[float, Meta(gt=0, le=1e9)] | None,
        Meta(description="expected standard deviation of a reward, for values"),
    ] = None
    alpha: Annotated[
        float, Meta(gt=0, lt=0.5, description="level of the whole test, two-sided")
    ] = 0.05
    power: Annotated[
        float, Meta(gt=0.5, lt=1, description="chance to find the lift between two arms")
    ] = 0.8

    def __post_init__(self) -> None:
        """Check each field, and that either rate or sd is given.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if (self.rate is None) == (self.sd is None):
            raise InvalidInput.at(
                "/rate", "give either rate, for 0-or-1 rewards, or sd, for values"
            )
        if self.rate is not None and self.rate + self.lift >= 1:
            raise InvalidInput.at("/lift", "rate + lift must be below 1")

    def check(self, problem: Problem, run: Run) -> None:
        """Refuse nothing: a test too large for the campaign lasts until its end, and ships nothing.

        A simulation is there to show that the power asks for so many recipients.
        """

    @property
    def variances(self) -> Variances:
        """The variances of one reward, of the control and of a better arm."""
        if self.rate is not None:
            return rate_variances(self.rate, self.lift)
        return Variances((self.sd or 0.0) ** 2, (self.sd or 0.0) ** 2)

    def level(self, n_arms: int) -> float:
        """Return the level of one comparison."""
        return self.alpha / max(1, n_arms - 1)


class FixedHorizonTest(PoweredTest, frozen=True):
    """A test of the size that its power needs, read once, when it is complete.

    A z test for rates, Welch's for values. With `ship = "significant"` the control is kept unless
    the best arm beats it significantly.
    """

    name: ClassVar[str] = "fixed_horizon_test"
    label: ClassVar[str] = "powered A/B test"

    ship: Annotated[
        Literal["best", "significant"],
        Meta(description="ship the best mean, or the control unless beaten significantly"),
    ] = "best"

    def size(self, n_arms: int) -> int:
        """Return the recipients per arm."""
        pooled = None
        if self.rate is not None:
            middle = self.rate + self.lift / 2
            pooled = middle * (1 - middle)
        return fixed_size(self.variances, self.lift, self.level(n_arms), self.power, pooled)

    def planned_size(self, problem: Problem) -> int:
        """Return the recipients of all arms."""
        return problem.n_arms * self.size(problem.n_arms)

    def schedule(self, run: Run, problem: Problem) -> Schedule:
        """Test, then send the rest."""
        return _patient_schedule([self.planned_size(problem)], run.horizon)

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create the test."""
        significance = self.level(problem.n_arms) if self.ship == "significant" else None
        rule = FixedHorizonRule(significance, rates=self.rate is not None)
        looks = [self.planned_size(problem)]
        test = RotatingTest(problem, replications, rule, rng, looks=looks)
        return ScheduledLearner(test, self.schedule(run, problem), run.feedback)


class GroupSequentialTest(PoweredTest, frozen=True):
    """A test that is looked at several times, with O'Brien and Fleming's boundary (1979).

    It ends at the first look at which the best arm beats every other by the boundary; at the last
    look the best arm is shipped. With more than two arms each comparison has its share of the level
    and arms are not dropped one by one.
    """

    name: ClassVar[str] = "group_sequential_test"
    label: ClassVar[str] = "group-sequential A/B test"

    looks: Annotated[int, Meta(ge=1, le=50, description="looks, evenly spaced")] = 5

    def _design(self, problem: Problem) -> Design:
        return obrien_fleming(self.looks, self.level(problem.n_arms), self.power)

    def _look_ends(self, problem: Problem) -> list[int]:
        step = problem.n_arms * group_size(self._design(problem), self.variances, self.lift)
        return [step * look for look in range(1, self.looks + 1)]

    def planned_size(self, problem: Problem) -> int:
        """Return the recipients of all arms until the last look."""
        return self._look_ends(problem)[-1]

    def schedule(self, run: Run, problem: Problem) -> Schedule:
        """Wait at every look."""
        return _patient_schedule(self._look_ends(problem), run.horizon)

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create the test."""
        rule = GroupSequentialRule(self._design(problem).barrier, self.looks)
        test = RotatingTest(problem, replications, rule, rng, looks=self._look_ends(problem))
        return ScheduledLearner(test, self.schedule(run, problem), run.feedback)


class SuccessiveElimination(Parameters, frozen=True):
    """Drop an arm as soon as it is surely not the best; the others continue in equal parts.

    After Even-Dar, Mannor and Mansour (2006), algorithm 3, with the empirical Bernstein bound of
    Audibert, Munos and Szepesvári (2009), theorem 1, which is narrow for rates near 0. The
    best arm is dropped with at most this chance, whatever the number of looks.
    """

    name: ClassVar[str] = "successive_elimination"
    label: ClassVar[str] = "successive elimination"

    delta: Annotated[
        float, Meta(gt=0, lt=1, description="chance at most of dropping the best arm")
    ] = 0.05

    def check(self, problem: Problem, run: Run) -> None:  # noqa: ARG002 - any run will do
        """Refuse rewards without bounds.

        Raises:
            InvalidInput: they have none.
        """
        if not np.isfinite(problem.span):
            raise InvalidInput.at("/name", "successive_elimination needs bounded rewards")

    def schedule(self, run: Run, problem: Problem) -> Schedule:  # noqa: ARG002 - it follows from the run
        """Return the run's batches, with a look after each."""
        return run.schedule

    def create_learner(
        self, problem: Problem, run: Run, replications: int, rng: Generator
    ) -> Learner:
        """Create the test."""
        rule = EliminationRule(self.delta, problem.span)
        test = RotatingTest(problem, replications, rule, rng)
        return ScheduledLearner(test, run.schedule, run.feedback)

    def planned_size(self, problem: Problem) -> int | None:  # noqa: ARG002 - nothing is planned
        """Return None: it is read until the horizon."""
        return None


def _patient_schedule(looks: list[int], horizon: int) -> Schedule:
    """Make the schedule of a test that holds back the other sends until the feedback of a look."""
    ends = np.unique([min(look, horizon) for look in (*looks, horizon)])
    return Schedule(ends, patient=True)


PROCEDURES = {
    procedure.name: procedure
    for procedure in (ABTest, FixedHorizonTest, GroupSequentialTest, SuccessiveElimination)
}
