"""What R replications of an environment bring, side by side, the same for every policy."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence

from bandits.array_types import FloatArray, IntArray
from simulations.environments.interfaces import (
    Environment,
    ReplicatedEnvironment,
    Rounds,
    RoundSource,
    SharedNoise,
)
from simulations.running.delays import DelayNoise

BLOCK = 250  # replications side by side: enough to hide Python's own time, few enough to spread
_CELLS = 2_000_000  # numbers of one array in memory at a time: 16 MB
_LONGEST = 4096  # rounds drawn at a time, so that what they need stays near the processor
_FEW = 256  # arms of all replications: less work than the calls for the chosen ones alone
_KEPT_BYTES = 30 * 2**20  # just below the largest block for which glibc does so

_WORLD, _PLAYER, _MAIL = 0, 1, 2  # which stream of random numbers


def world_rng(seed: int, replication: int) -> Generator:
    """Make the generator of a replication's world; it depends on nothing else."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_WORLD, replication))))


def mail_rng(seed: int, replication: int) -> Generator:
    """Make the generator of when a replication's rewards arrive."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_MAIL, replication))))


def player_rng(seed: int, first_replication: int) -> Generator:
    """Make the generator of the policies' own draws in a block of replications.

    Every policy gets the same: what one draws cannot depend on which others are compared.
    """
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_PLAYER, first_replication))))


def warm_allocator() -> None:
    """Make the C library keep the memory of arrays that come and go in every stretch.

    glibc hands a freed block back to the kernel, which clears it before it is used again, until one
    as large has been freed before. That took a third of a simulation's time; elsewhere this does
    nothing.
    """
    np.empty(_KEPT_BYTES, np.uint8)  # freed at once


Earned = Callable[[int, IntArray], FloatArray]  # from a round and its arms (R,) to rewards (R,)


class OutcomeSource(Protocol):
    """What the arms of a stretch would earn."""

    def earned(self, first: int, arms: IntArray, means: FloatArray) -> FloatArray:
        """Tell what arms (R, m) of these means earn in the m rounds from the `first`: (R, m)."""
        ...

    def by_step(self, means: FloatArray) -> "Earned":
        """Do so round by round, where arms have the means (R, n, K), or (R, 1, K) in each."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PotentialOutcomes:
    """All potential rewards, (R, n, K)."""

    values: FloatArray

    def earned(self, first: int, arms: IntArray, means: FloatArray) -> FloatArray:  # noqa: ARG002 - the values hold them
        """Look up those of the chosen arms."""
        return chosen(self.values[:, first : first + arms.shape[1]], arms)

    def by_step(self, means: FloatArray) -> "Earned":  # noqa: ARG002 - the values hold them
        """Look up those of one round."""
        tables, firsts = _tables(self.values)
        return lambda step, arms: tables[step][firsts + arms]


@dataclass(frozen=True, slots=True, eq=False)
class CommonRandomNumbers:
    """One number a round, (R, n), that is every arm's luck."""

    environment: SharedNoise
    luck: FloatArray

    def earned(self, first: int, arms: IntArray, means: FloatArray) -> FloatArray:
        """Compute those of the chosen arms."""
        return self.environment.reward(arms, means, self.luck[:, first : first + arms.shape[1]])

    def by_step(self, means: FloatArray) -> "Earned":
        """Compute those of one round; where arms and replications are few, of all rounds ahead."""
        if means.shape[0] * means.shape[2] <= _FEW:
            every = self.environment.reward(np.arange(means.shape[2]), means, self.luck[:, :, None])
            return PotentialOutcomes(every).by_step(means)
        reward, luck = self.environment.reward, self.luck.T
        if means.shape[1] == 1 and (means == means[0]).all():
            same = means[0, 0]
            return lambda step, arms: reward(arms, same[arms], luck[step])
        tables, firsts = _tables(means)
        if len(tables) == 1:
            tables *= len(luck)
        return lambda step, arms: reward(arms, tables[step][firsts + arms], luck[step])


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some successive rounds of R replications.

    Attributes:
        start: the position of the first.
        contexts: (R, n, d).
        means: (R, n, K), or (R, 1, K) where all n are alike.
        outcomes: what arms would earn.
        mail: what chance decides for how rewards arrive; None if nobody asks.
    """

    start: int
    contexts: FloatArray
    means: FloatArray
    outcomes: OutcomeSource
    mail: DelayNoise | None = None

    @property
    def n(self) -> int:
        """How many rounds."""
        return self.contexts.shape[1]

    def try_out(self, first: int, arms: IntArray) -> tuple[FloatArray, FloatArray]:
        """Send arms (R, m) in the m rounds from the `first`: their means and rewards, (R, m)."""
        means = (
            self.means[:, first : first + arms.shape[1]] if self.means.shape[1] > 1 else self.means
        )
        expected = chosen(means, arms)
        return expected, self.outcomes.earned(first, arms, expected)

    def means_of(self, arms: IntArray) -> FloatArray:
        """Return the means of arms (R, n) sent in all rounds: (R, n)."""
        return chosen(self.means, arms)

    def by_step(self) -> "Earned":
        """Tell what arms earn, round by round."""
        return self.outcomes.by_step(self.means)


class Replications:
    """Replications of an environment; what one brings depends on the seed and its number alone."""

    def __init__(
        self,
        environment: Environment,
        seed: int,
        replications: Sequence[int],
        *,
        by_mail: bool = False,
    ) -> None:
        """Make the worlds of these replications; `by_mail` draws how rewards arrive, too."""
        self._environment = environment
        self._mail_rngs = [mail_rng(seed, r) for r in replications] if by_mail else []
        self._rngs = [world_rng(seed, r) for r in replications]
        self._worlds = [_world(environment, rng) for rng in self._rngs]
        problem = environment.problem
        widest = max(problem.n_arms, problem.n_features)
        self._length = max(1, min(_LONGEST, _CELLS // (BLOCK * widest)))

    def stretches(self, horizon: int, *, by_step: bool) -> Iterator[Chunk]:
        """Draw the rounds from 0 to the horizon, some at a time.

        How many at a time depends on the environment alone, not on who plays, when they learn or
        how many replications there are, so neither do the numbers. `by_step` lays arrays out for a
        reader who takes one round of all replications after another; the numbers are the same.
        """
        for start in range(0, horizon, self._length):
            yield self._stretch(start, min(self._length, horizon - start), by_step=by_step)

    def _stretch(self, start: int, n: int, *, by_step: bool) -> Chunk:
        pairs = zip(self._worlds, self._rngs, strict=True)
        rounds = [world.rounds(start, n, rng) for world, rng in pairs]
        contexts = _stack_rounds([r.contexts for r in rounds], by_step=by_step)
        contexts = np.broadcast_to(contexts, (len(rounds), n, contexts.shape[-1]))
        means = _stack_rounds([r.means for r in rounds], by_step=by_step)
        outcomes = self._outcomes(n, rounds, by_step=by_step)
        return Chunk(start, contexts, means, outcomes, self._mail(n))

    def _mail(self, n: int) -> DelayNoise | None:
        if not self._mail_rngs:
            return None
        draws = [(r.standard_normal(n), r.random(n), r.random(n)) for r in self._mail_rngs]
        return DelayNoise(*(np.stack(parts) for parts in zip(*draws, strict=True)))

    def _outcomes(self, n: int, rounds: list[Rounds], *, by_step: bool) -> OutcomeSource:
        environment = self._environment
        if hasattr(environment, "luck"):
            shared = cast("SharedNoise", environment)
            luck = [shared.luck(n, rng)[:, None] for rng in self._rngs]
            return CommonRandomNumbers(shared, _stack_rounds(luck, by_step=by_step)[:, :, 0])
        size = (n, environment.problem.n_arms)
        values = [
            environment.rewards(np.broadcast_to(r.means, size), rng)
            for r, rng in zip(rounds, self._rngs, strict=True)
        ]
        return PotentialOutcomes(_stack_rounds(values, by_step=by_step))


def _world(environment: Environment, rng: Generator) -> RoundSource:
    if hasattr(environment, "replicated"):
        return cast("ReplicatedEnvironment", environment).replicated(rng)
    return environment


def _stack_rounds(parts: list[FloatArray], *, by_step: bool) -> FloatArray:
    """Stack R arrays (n or 1, last) to (R, n, last), or (R, 1, last) if all have a single row.

    In memory it is (n, R, last) if read by step.
    """
    n, last = max(len(part) for part in parts), parts[0].shape[-1]
    if by_step:
        out = np.empty((n, len(parts), last)).swapaxes(0, 1)
    else:
        out = np.empty((len(parts), n, last))
    for row, part in zip(out, parts, strict=True):
        row[:] = part
    return out


def _tables(values: FloatArray) -> tuple[list[FloatArray], IntArray]:
    """Lay out values (R, n, K) as a table of each round, (R·K,), and where each row begins."""
    replications, n, n_arms = values.shape
    by_step = np.ascontiguousarray(values.swapaxes(0, 1)).reshape(n, replications * n_arms)
    return list(by_step), np.arange(replications) * n_arms


def chosen(values: FloatArray, arms: IntArray) -> FloatArray:
    """Pick from values (R, n or 1, K) those of arms (R, n)."""
    rows = np.arange(len(arms))[:, None]
    if values.shape[1] == 1 and values.flags.c_contiguous:
        # A table (R, K): of constant means, or of one round of all replications.
        return values.reshape(-1).take(rows * values.shape[-1] + arms)
    columns = np.arange(arms.shape[1]) if values.shape[1] > 1 else 0
    return values[rows, columns, arms]
