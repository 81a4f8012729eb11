"""Memories of a simulated policy: full, with a half-life, in a window, or refitted."""

from heapq import heappop, heappush
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from msgspec import Meta

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.statistics import Statistic


class DecisionForgetting(Parameters, frozen=True):
    """Half-life or window of a policy's memory, counted in decisions."""

    half_life: (
        Annotated[float, Meta(gt=0, description="decisions until an observation counts half")]
        | None
    ) = None
    window: (
        Annotated[int, Meta(ge=1, description="number of the last decisions that are remembered")]
        | None
    ) = None

    def __post_init__(self) -> None:
        """Check each field, and that exactly one is given.

        Raises:
            InvalidInput: naming each field that does not fit.
        """
        Parameters.__post_init__(self)
        if (self.half_life is None) == (self.window is None):
            raise InvalidInput.at("", "give either half_life or window, in decisions")


class Memory(Protocol):
    """Memory of R replications: a statistic of lead (R,), and the decisions that are pending."""

    @property
    def statistic(self) -> Any:
        """The statistic now."""
        ...

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count n decisions (R, n) as pending, and return their feedback."""
        ...

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Return a correction of the last `send`: rewards, not 0, where `changed` (R, n) is 1."""
        ...

    def learn(self, feedback: Any) -> None:
        """Move feedback from pending to matured, or correct the matured."""
        ...


class DecisionBatch(NamedTuple):
    """n decisions of R replications: arms, rewards, weights (R, n), contexts (R, n, d)."""

    arms: IntArray
    rewards: FloatArray
    contexts: FloatArray
    weights: FloatArray

    def part(self, columns: slice | BoolArray) -> "DecisionBatch":
        """Take these columns of the n."""
        return DecisionBatch(
            self.arms[:, columns],
            self.rewards[:, columns],
            self.contexts[:, columns],
            self.weights[:, columns],
        )


class MemorySums(NamedTuple):
    """Sums of decisions, as the statistics of a family for a problem."""

    family: type[Statistic]
    problem: Problem
    replications: int

    def zeros(self) -> Any:
        """Return the statistic of no decision."""
        return self.family.zeros(self.problem, (self.replications,))

    def matured(self, decisions: DecisionBatch) -> Any:
        """Sum decisions with their rewards and weights."""
        arms, rewards, contexts, weights = decisions
        return self.family.from_observations(self.problem, arms, rewards, contexts, weights)

    def pending(self, decisions: DecisionBatch) -> Any:
        """Sum decisions as pending, each once."""
        arms, _, contexts, _ = decisions
        return self.family.from_pending(self.problem, arms, contexts, np.ones(arms.shape))

    def correction(self, late: DecisionBatch) -> Any:
        """Sum the difference between decisions with their rewards and with 0."""
        silent = late._replace(rewards=np.zeros(late.arms.shape))
        return self.matured(late) - self.matured(silent)


class FullMemory:
    """A memory that forgets nothing."""

    def __init__(self, sums: MemorySums, *, late: bool) -> None:
        """Start empty; `late` if batches begin before earlier feedback is visible."""
        self._sums, self._late = sums, late
        self.statistic: Any = sums.zeros()

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count n decisions (R, n) as pending, and return the sum that matures them."""
        decisions = DecisionBatch(arms, rewards, contexts, np.ones(arms.shape))
        matured = self._sums.matured(decisions)
        if not self._late:
            return matured
        pending = self._sums.pending(decisions)
        self.statistic = self.statistic + pending
        return matured - pending

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Return the sum that corrects decisions."""
        return self._sums.correction(DecisionBatch(arms, rewards, contexts, changed))

    def learn(self, feedback: Any) -> None:
        """Add the sum."""
        self.statistic = self.statistic + feedback


class _DecayedSums(NamedTuple):
    matured: Any
    pending: Any
    summed_at: int


class ExponentialDecay:
    """A memory in which an observation weighs 2^(−age / half-life), its age in later decisions."""

    def __init__(self, sums: MemorySums, half_life: float) -> None:
        self._sums, self._half_life = sums, half_life
        self._now = 0
        self.statistic: Any = sums.zeros()

    def _weight(self, age: int) -> float:
        return float(2.0 ** (-age / self._half_life))

    def _newest_weights(self, shape: tuple[int, ...]) -> FloatArray:
        """Return the weights of the newest decisions (R, n)."""
        ages = np.arange(shape[1] - 1, -1, -1)
        return np.broadcast_to(2.0 ** (-ages / self._half_life), shape)

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> _DecayedSums:
        """Let time pass, and sum n decisions (R, n), the newest with weight 1."""
        decisions = DecisionBatch(arms, rewards, contexts, self._newest_weights(arms.shape))
        self._now += arms.shape[1]
        pending = self._sums.pending(decisions)
        self.statistic = self.statistic.decayed(self._weight(arms.shape[1])) + pending
        return _DecayedSums(self._sums.matured(decisions), pending, self._now)

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> _DecayedSums:
        """Return the sum that corrects decisions, with their weights."""
        weights = changed * self._newest_weights(arms.shape)
        late = DecisionBatch(arms, rewards, contexts, weights)
        return _DecayedSums(self._sums.correction(late), self._sums.zeros(), self._now)

    def learn(self, feedback: _DecayedSums) -> None:
        """Add the sum with the weight of its age."""
        decayed = feedback.matured.decayed(self._weight(self._now - feedback.summed_at))
        self.statistic = self.statistic - feedback.pending + decayed


class WindowPart(NamedTuple):
    """Successive decisions, or a correction of them.

    Attributes:
        start: the position of the first.
        decisions: the decisions.
        corrects: true where they correct decisions that were learned.
    """

    start: int
    decisions: DecisionBatch
    corrects: bool

    @property
    def stop(self) -> int:
        """The position after the last."""
        return self.start + self.decisions.arms.shape[1]

    def cut(self, position: int) -> tuple["WindowPart", "WindowPart"]:
        """Part the decisions before a position from the others."""
        n = max(0, position - self.start)
        before, after = self.decisions.part(slice(None, n)), self.decisions.part(slice(n, None))
        return self._replace(decisions=before), self._replace(start=self.start + n, decisions=after)


class SlidingWindow:
    """A memory of the last `window` decisions."""

    def __init__(self, sums: MemorySums, window: int) -> None:
        self._sums, self._window = sums, window
        self._now = 0
        self._inside: list[tuple[int, int, WindowPart]] = []  # a heap by the first one's position
        self._count = 0
        self.statistic: Any = sums.zeros()

    def _sum(self, part: WindowPart) -> Any:
        sum_up = self._sums.correction if part.corrects else self._sums.matured
        return sum_up(part.decisions)

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> WindowPart:
        """Count n decisions (R, n) as pending, and drop those that leave the window."""
        decisions = DecisionBatch(arms, rewards, contexts, np.ones(arms.shape))
        part = WindowPart(self._now, decisions, corrects=False)
        self._now = part.stop
        self.statistic = self.statistic + self._sums.pending(decisions)
        self._drop_old()
        return part

    def correct(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> WindowPart:
        """Return the correction at the position of its decisions."""
        decisions = DecisionBatch(arms, rewards, contexts, changed)
        return WindowPart(self._now - arms.shape[1], decisions, corrects=True)

    def learn(self, feedback: WindowPart) -> None:
        """Take decisions out of pending; learn those that are still inside the window."""
        if not feedback.corrects:
            self.statistic = self.statistic - self._sums.pending(feedback.decisions)
        _, inside = feedback.cut(self._now - self._window)
        if inside.stop > inside.start:
            self.statistic = self.statistic + self._sum(inside)
            self._push(inside)

    def _push(self, part: WindowPart) -> None:
        self._count += 1  # so that a heap never compares parts at the same position
        heappush(self._inside, (part.start, self._count, part))

    def _drop_old(self) -> None:
        edge = self._now - self._window
        while self._inside and self._inside[0][0] < edge:
            before, after = heappop(self._inside)[2].cut(edge)
            self.statistic = self.statistic - self._sum(before)
            if after.stop > after.start:
                self._push(after)


class RefitMemory:
    """A memory of the log itself, for a family that cannot subtract: refitted in every batch."""

    def __init__(self, sums: MemorySums, forgetting: DecisionForgetting | None) -> None:
        self._sums, self._forgetting = sums, forgetting
        self._now = 0
        self._log: list[WindowPart] = []
        self._matured: list[bool] = []
        self._statistic: Any = sums.zeros()
        self._stale = False

    @property
    def statistic(self) -> Any:
        """The statistic of the log, each decision with the weight that it has now."""
        if self._stale:
            self._statistic, self._stale = self._refit(), False
        return self._statistic

    def _refit(self) -> Any:
        log = [part for part, matured in zip(self._log, self._matured, strict=True) if matured]
        positions = np.concatenate([np.arange(part.start, part.stop) for part in log])
        weights = self._weights(self._now - 1 - positions)
        columns = zip(*(part.decisions for part in log), strict=True)
        arms, rewards, contexts, ones = (np.concatenate(column, axis=1) for column in columns)
        inside = weights > 0
        decisions = DecisionBatch(arms, rewards, contexts, ones * weights)
        return self._sums.matured(decisions.part(inside))

    def _weights(self, ages: IntArray) -> FloatArray:
        if self._forgetting is None:
            return np.ones(ages.shape)
        if self._forgetting.window is not None:
            return (ages < self._forgetting.window).astype(np.float64)
        return 2.0 ** (-ages / (self._forgetting.half_life or np.inf))

    def send(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> int:
        """Append n decisions (R, n) to the log, not matured yet."""
        decisions = DecisionBatch(arms, rewards, np.array(contexts), np.ones(arms.shape))
        self._log.append(WindowPart(self._now, decisions, corrects=False))
        self._matured.append(False)
        self._now += arms.shape[1]
        self._stale = any(self._matured)
        return len(self._log) - 1

    def correct(
        self,
        arms: IntArray,  # noqa: ARG002 - the log has them
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG002 - as arms
        changed: FloatArray,
    ) -> tuple[int, FloatArray, FloatArray]:
        """Return the position in the log, with the rewards that change there."""
        return len(self._log) - 1, rewards, changed

    def learn(self, feedback: int | tuple[int, FloatArray, FloatArray]) -> None:
        """Mark decisions as matured, or change their rewards."""
        if isinstance(feedback, tuple):
            position, rewards, changed = feedback
            part = self._log[position]
            corrected = np.where(changed > 0, rewards, part.decisions.rewards)
            decisions = part.decisions._replace(rewards=corrected)
            self._log[position] = part._replace(decisions=decisions)
        else:
            self._matured[feedback] = True
        self._stale = True


def create_memory(sums: MemorySums, forgetting: DecisionForgetting | None, *, late: bool) -> Memory:
    """Create a memory that forgets so; `late` if batches begin before earlier feedback is in."""
    if not sums.family.invertible:
        return RefitMemory(sums, forgetting)
    if forgetting is None:
        return FullMemory(sums, late=late)
    if forgetting.window is not None:
        return SlidingWindow(sums, forgetting.window)
    return ExponentialDecay(sums, forgetting.half_life or np.inf)
