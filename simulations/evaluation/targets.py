"""Targets: policies whose value is estimated, as probabilities in every round of a log."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.random import SFC64, Generator, SeedSequence

from bandits.allocation import apply_floor
from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.registry import make
from simulations.evaluation.logged_rounds import (
    LoggedRounds,
    as_floats,
    check_distribution,
    check_shape,
    refuse_rows,
)

_LEAST_ROWS = 2


class TargetView(Struct, frozen=True, eq=False):
    """A target in the rounds that it is valued on.

    Attributes:
        rounds: those n rounds.
        probabilities: (n, K), or None where only that of the arm that was sent is known.
        sent: (n,) the target's probability of the arm that was sent.
        whole: the log, which may begin before those rounds.
    """

    rounds: LoggedRounds
    probabilities: FloatArray | None
    sent: FloatArray
    whole: LoggedRounds

    @classmethod
    def of(
        cls, rounds: LoggedRounds, probabilities: FloatArray, whole: LoggedRounds | None = None
    ) -> "TargetView":
        """Make it of every arm's probability, (n, K).

        Raises:
            InvalidInput: at ``/target``: the shape is another, a row is no distribution, or it has
                an arm that a recipient could not get.
        """
        check_shape("target", probabilities, (rounds.n, rounds.n_arms), "(n, K)")
        check_distribution("target", probabilities)
        if rounds.eligible is not None:
            outside = np.where(rounds.eligible, 0.0, probabilities).sum(axis=1)
            detail = "of its probability is on arms that were not eligible"
            refuse_rows("target", outside > 0, outside, detail)
        sent = probabilities[np.arange(rounds.n), rounds.arms]
        return cls(rounds, probabilities, sent, whole or rounds)


class Target(Protocol):
    """Policy to be valued."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        ...

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return its probabilities in the rounds of a log, or in those that it can be valued on."""
        ...


class GivenProbabilities(Struct, frozen=True, eq=False):
    """Probabilities (n, K) that were computed elsewhere, or one row (K,) for all rounds."""

    probabilities: FloatArray
    label: str = "probabilities"

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return the probabilities; a single row is shared out among the arms that are eligible."""
        values = as_floats("target", self.probabilities)
        if values.ndim != 1:
            return TargetView.of(rounds, values)
        check_shape("target", values, (rounds.n_arms,), "(K,)")
        check_distribution("target", values[None])
        return TargetView.of(rounds, _among_eligible(values, rounds))


class FixedShares(Struct, frozen=True):
    """A split: the share of each named arm, 0 for all others; a single arm gets everything."""

    shares: Mapping[str, float]

    @classmethod
    def always(cls, arm: str) -> "FixedShares":
        """Send one arm to everybody."""
        return cls({arm: 1.0})

    @property
    def label(self) -> str:
        """Its name in tables."""
        if len(self.shares) == 1:
            return f"always {next(iter(self.shares))}"
        return "split " + ", ".join(f"{arm} {share:g}" for arm, share in self.shares.items())

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return the shares, in proportion among the arms that are eligible."""
        row = np.zeros(rounds.n_arms)
        for arm, share in self.shares.items():
            row[rounds.arm(arm)] = share
        return GivenProbabilities(row).view(rounds)


class LoggedPolicy(Struct, frozen=True):
    """The policy that sent the emails: its value is the mean reward of the log."""

    label: str = "as sent"

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return the log's own probabilities."""
        return TargetView(rounds, rounds.probabilities, rounds.propensities, rounds)


class WithoutArm(Struct, frozen=True):
    """The policy that sent the emails, with one arm taken away and the others in proportion.

    It is not how the policy would have learned without the arm: for that, see `FrozenPolicy`.
    """

    arm: str

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"without {self.arm}"

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return the log's probabilities without the arm; where it was the only one, it stays.

        Raises:
            InvalidInput: the log has only the probability of the arm that was sent.
        """
        removed = rounds.arm(self.arm)
        if rounds.probabilities is None:
            detail = "needs the probability of every arm; the log has those of the sent arms only"
            raise InvalidInput.at("/probabilities", detail)
        left = rounds.probabilities.copy()
        left[:, removed] = 0.0
        alone = left.sum(axis=1) <= 0
        left[alone, removed] = 1.0
        return TargetView.of(rounds, left / left.sum(axis=1, keepdims=True))


class MinimumShare(Struct, frozen=True):
    """The policy that sent the emails, with at least a share for each eligible arm.

    Every arm gets the share, and the policy divides what is left.
    """

    share: float

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"at least {self.share:.3g} each"

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Return the mixture.

        Raises:
            InvalidInput: the log has only the probability of the arm that was sent; the shares of
                all arms are more than there is.
        """
        if rounds.probabilities is None:
            detail = "needs the probability of every arm; the log has those of the sent arms only"
            raise InvalidInput.at("/probabilities", detail)
        if not 0 <= self.share * rounds.n_arms <= 1:
            raise InvalidInput.at("/share", f"must be at least 0 and at most 1/{rounds.n_arms}")
        eligible = np.ones((rounds.n, rounds.n_arms), dtype=np.bool_)
        if rounds.eligible is not None:
            eligible = rounds.eligible
        least = np.where(eligible, self.share, 0.0)
        left = 1 - least.sum(axis=1, keepdims=True)
        return TargetView.of(rounds, least + left * rounds.probabilities)


class FrozenPolicy(Struct, frozen=True, eq=False):
    """A registered policy that learns from the first part of a log, and is valued on the rest.

    Attributes:
        policy: its name, or the policy.
        params: of a policy that is named.
        first: the share of rows that it learns from.
        floor: the least probability of an eligible arm.
        seed: of frozen posterior draws.
    """

    policy: str | AnyPolicy
    params: Mapping[str, Any] = {}
    first: float = 0.5
    floor: float = 0.0
    seed: int = 0

    @property
    def label(self) -> str:
        """Its name in tables."""
        name = self.policy if isinstance(self.policy, str) else self.policy.name
        return f"{name}, learned from the first {100 * self.first:g} %"

    def made(self) -> AnyPolicy:
        """Return the policy."""
        return make(self.policy, self.params) if isinstance(self.policy, str) else self.policy

    def view(self, rounds: LoggedRounds) -> TargetView:
        """Learn from the first part, and return probabilities in the rest.

        Raises:
            InvalidInput: at ``/first``: a part is empty; the policy does not take such rewards.
        """
        cut = int(self.first * rounds.n)
        if not 0 < self.first < 1 or cut < _LEAST_ROWS or rounds.n - cut < _LEAST_ROWS:
            detail = f"leaves {cut:,} of {rounds.n:,} rows to learn from; both parts need rows"
            raise InvalidInput.at("/first", detail)
        learning = PolicyState(self.made(), rounds, self.floor, self.seed)
        learning.learn(rounds.take(slice(0, cut)))
        rest = rounds.take(slice(cut, None))
        return TargetView.of(rest, learning.probabilities(rest), rounds)


class PolicyState:
    """A policy with what it has learned from rounds of a log."""

    def __init__(self, policy: AnyPolicy, rounds: LoggedRounds, floor: float, seed: int) -> None:
        """Begin with nothing learned.

        Args:
            policy: it.
            rounds: the log, for its arms, features and range of rewards.
            floor: the least probability of an eligible arm.
            seed: of frozen posterior draws.

        Raises:
            InvalidInput: the policy does not take such rewards, or the floor leaves nothing.
        """
        low, high = policy.support
        if rounds.low < low or rounds.high > high:
            detail = (
                f"{policy.name} takes rewards in [{low:g}, {high:g}], the log's range is "
                f"[{rounds.low:g}, {rounds.high:g}]"
            )
            raise InvalidInput.at("/policy", detail)
        if not 0 <= floor * rounds.n_arms <= 1:
            raise InvalidInput.at("/floor", f"must lie in [0, 1/K] with K = {rounds.n_arms} arms")
        numbers = np.arange(rounds.n_arms)
        levels = numbers[:, None] if rounds.slot_levels is None else rounds.slot_levels
        n_features = rounds.features.shape[1]
        self.problem = Problem(numbers, levels, n_features, rounds.low, rounds.high)
        self._policy, self._floor, self._seed = policy, floor, seed
        self._statistic: Any = policy.statistic.zeros(self.problem)
        self._fitted: list[LoggedRounds] = []

    def learn(self, rounds: LoggedRounds) -> None:
        """Learn from rounds, besides those before."""
        family = self._policy.statistic
        if family.invertible:
            self._statistic = self._statistic + self._summed(rounds)
            return
        self._fitted.append(rounds)
        arms, rewards, features = (
            np.concatenate(columns)
            for columns in zip(
                *((r.arms, r.rewards, r.features) for r in self._fitted), strict=True
            )
        )
        ones = np.ones(len(arms))
        self._statistic = family.from_observations(self.problem, arms, rewards, features, ones)

    def _summed(self, rounds: LoggedRounds) -> Any:
        family, ones = self._policy.statistic, np.ones(rounds.n)
        return family.from_observations(
            self.problem, rounds.arms, rounds.rewards, rounds.features, ones
        )

    def probabilities(self, rounds: LoggedRounds) -> FloatArray:
        """Return the probability of each arm in rounds, (n, K), 0 where it was not eligible."""
        out = np.zeros((rounds.n, rounds.n_arms))
        for arms, rows in _by_eligible(rounds):
            positions = np.flatnonzero(arms)
            prepared = self._policy.prepare(
                self._statistic.take(positions),
                self.problem.take(positions),
                1,
                Generator(SFC64(SeedSequence(self._seed))),
            )
            shares = self._policy.propensities(prepared, rounds.features[rows])
            floored = apply_floor(np.asarray(shares, dtype=np.float64), self._floor)
            out[np.ix_(rows, positions)] = floored
        return out


def _by_eligible(rounds: LoggedRounds) -> list[tuple[BoolArray, IntArray]]:
    """List distinct eligible sets (K,), each with its rows."""
    if rounds.eligible is None:
        return [(np.ones(rounds.n_arms, dtype=np.bool_), np.arange(rounds.n))]
    sets, places = np.unique(rounds.eligible, axis=0, return_inverse=True)
    return [(arms, np.flatnonzero(places.ravel() == i)) for i, arms in enumerate(sets)]


def _among_eligible(row: FloatArray, rounds: LoggedRounds) -> FloatArray:
    rows = np.broadcast_to(row, (rounds.n, rounds.n_arms))
    if rounds.eligible is None:
        return rows
    rows = np.where(rounds.eligible, rows, 0.0)
    sums = rows.sum(axis=1)
    refuse_rows("target", sums <= 0, sums, "is the share of the arms that were eligible")
    return rows / sums[:, None]
