"""Replications of an environment: R side by side, in chunks of rounds, alike for every policy."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import SFC64, Generator, SeedSequence

from bandits.array_types import FloatArray, IntArray
from simulations.environments.interfaces import Environment, Rounds
from simulations.running.delays import DelayNoise

BLOCK = 250  # replications side by side: enough to hide Python's own time, few enough to spread
_CELLS = 2_000_000  # numbers of one array in memory at a time: 16 MB
_LONGEST = 4096  # rounds drawn at a time, so that what they need stays near the processor
_FEW = 256  # arms of all replications: less work than the calls for the chosen ones alone
_KEPT_BYTES = 30 * 2**20  # just below the largest block for which glibc does so

_ENVIRONMENT, _LEARNER, _DELAYS = 0, 1, 2  # streams of random numbers


def environment_rng(seed: int, replication: int) -> Generator:
    """Make the generator of a replication's rounds; it depends on nothing else."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_ENVIRONMENT, replication))))


def delay_rng(seed: int, replication: int) -> Generator:
    """Make the generator of the delays of a replication's rewards."""
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_DELAYS, replication))))


def learner_rng(seed: int, first_replication: int) -> Generator:
    """Make the generator of a learner's own draws in a block of replications.

    Every learner gets the same: the draws of one cannot depend on which others are compared.
    """
    return Generator(SFC64(SeedSequence(seed, spawn_key=(_LEARNER, first_replication))))


def warm_allocator() -> None:
    """Make the C library keep the memory of arrays that come and go in every chunk.

    glibc hands a freed block back to the kernel, which clears it before it is used again, until one
    as large has been freed before. That took a third of a simulation's time; elsewhere this does
    nothing.
    """
    np.empty(_KEPT_BYTES, np.uint8)  # freed at once


StepRewards = Callable[[int, IntArray], FloatArray]  # from a round and its arms (R,) to (R,)


@dataclass(frozen=True, slots=True, eq=False)
class CommonRandomNumbers:
    """Noise of each round, (R, n), which every arm's reward would have."""

    environment: Environment
    noise: FloatArray

    def rewards(self, first: int, arms: IntArray, means: FloatArray) -> FloatArray:
        """Return the rewards of arms (R, m) with these means in m rounds from the `first`."""
        return self.environment.reward(arms, means, self.noise[:, first : first + arms.shape[1]])

    def by_step(self, means: FloatArray) -> StepRewards:
        """Return the rewards round by round, of arms with means (R, n, K) or (R, 1, K).

        Where arms and replications are few, the rewards of all arms are computed ahead.
        """
        if means.shape[0] * means.shape[2] <= _FEW:
            all_arms, noise = np.arange(means.shape[2]), self.noise[:, :, None]
            rewards, firsts = _tables(self.environment.reward(all_arms, means, noise))
            return lambda step, arms: rewards[step][firsts + arms]
        reward, noise = self.environment.reward, self.noise.T
        if means.shape[1] == 1 and (means == means[0]).all():
            same = means[0, 0]
            return lambda step, arms: reward(arms, same[arms], noise[step])
        tables, firsts = _tables(means)
        if len(tables) == 1:
            tables *= len(noise)
        return lambda step, arms: reward(arms, tables[step][firsts + arms], noise[step])


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Successive rounds of R replications.

    Attributes:
        start: the position of the first.
        contexts: (R, n, d).
        means: (R, n, K), or (R, 1, K) where all n are alike.
        outcomes: the rewards of arms.
        delay_noise: the noise of the rewards' delays; None where feedback has no delays.
    """

    start: int
    contexts: FloatArray
    means: FloatArray
    outcomes: CommonRandomNumbers
    delay_noise: DelayNoise | None = None

    @property
    def n(self) -> int:
        """Number of rounds."""
        return self.contexts.shape[1]

    def send(self, first: int, arms: IntArray) -> tuple[FloatArray, FloatArray]:
        """Send arms (R, m) in the m rounds from the `first`: their means and rewards, (R, m)."""
        means = (
            self.means[:, first : first + arms.shape[1]] if self.means.shape[1] > 1 else self.means
        )
        expected = take_arms(means, arms)
        return expected, self.outcomes.rewards(first, arms, expected)

    def means_of(self, arms: IntArray) -> FloatArray:
        """Return the means of arms (R, n) sent in all rounds: (R, n)."""
        return take_arms(self.means, arms)

    def rewards_by_step(self) -> StepRewards:
        """Return the rewards of arms round by round."""
        return self.outcomes.by_step(self.means)


class Replications:
    """Replications of an environment; the rounds of one depend on the seed and its number alone."""

    def __init__(
        self,
        environment: Environment,
        seed: int,
        replications: Sequence[int],
        *,
        delayed: bool = False,
    ) -> None:
        """Begin these replications; `delayed` draws the noise of delays, too."""
        self._environment = environment
        self._delay_rngs = [delay_rng(seed, r) for r in replications] if delayed else []
        self._rngs = [environment_rng(seed, r) for r in replications]
        self._sources = [environment.replicate(rng) for rng in self._rngs]
        problem = environment.problem
        widest = max(problem.n_arms, problem.n_features)
        self._length = max(1, min(_LONGEST, _CELLS // (BLOCK * widest)))

    def chunks(self, horizon: int, *, by_step: bool) -> Iterator[Chunk]:
        """Draw the rounds from 0 to the horizon in chunks.

        Their length depends on the environment alone, not on the learner, its schedule or the
        number of replications, so neither do the numbers. `by_step` lays arrays out for a reader
        who takes one round of all replications after another; the numbers are the same.
        """
        for start in range(0, horizon, self._length):
            yield self._chunk(start, min(self._length, horizon - start), by_step=by_step)

    def _chunk(self, start: int, n: int, *, by_step: bool) -> Chunk:
        pairs = zip(self._sources, self._rngs, strict=True)
        rounds: list[Rounds] = [source.rounds(start, n, rng) for source, rng in pairs]
        contexts = _stack_rounds([r.contexts for r in rounds], by_step=by_step)
        contexts = np.broadcast_to(contexts, (len(rounds), n, contexts.shape[-1]))
        means = _stack_rounds([r.means for r in rounds], by_step=by_step)
        noise = [self._environment.noise(n, rng)[:, None] for rng in self._rngs]
        stacked = _stack_rounds(noise, by_step=by_step)[:, :, 0]
        outcomes = CommonRandomNumbers(self._environment, stacked)
        return Chunk(start, contexts, means, outcomes, self._delay_noise(n))

    def _delay_noise(self, n: int) -> DelayNoise | None:
        if not self._delay_rngs:
            return None
        draws = [(r.standard_normal(n), r.random(n), r.random(n)) for r in self._delay_rngs]
        return DelayNoise(*(np.stack(parts) for parts in zip(*draws, strict=True)))


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


def take_arms(values: FloatArray, arms: IntArray) -> FloatArray:
    """Take the values (R, n or 1, K) of arms (R, n)."""
    rows = np.arange(len(arms))[:, None]
    if values.shape[1] == 1 and values.flags.c_contiguous:
        # A table (R, K): of constant means, or of one round of all replications.
        return values.reshape(-1).take(rows * values.shape[-1] + arms)
    columns = np.arange(arms.shape[1]) if values.shape[1] > 1 else 0
    return values[rows, columns, arms]
