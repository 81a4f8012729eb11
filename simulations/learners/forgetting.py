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
    """How fast a policy forgets, counted in decisions."""

    half_life: (
        Annotated[float, Meta(gt=0, description="decisions until an observation counts half")]
        | None
    ) = None
    window: (
        Annotated[int, Meta(ge=1, description="how many of the last decisions are known")] | None
    ) = None

    def __post_init__(self) -> None:
        """Check each field, and that exactly one is given.

        Raises:
            InvalidInput: naming what does not fit.
        """
        Parameters.__post_init__(self)
        if (self.half_life is None) == (self.window is None):
            raise InvalidInput.at("", "give either half_life or window, in decisions")


class Memory(Protocol):
    """What R replications know, as a statistic of lead (R,)."""

    @property
    def known(self) -> Any:
        """The statistic now."""
        ...

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Count n decisions (R, n) as pending, and pack their feedback."""
        ...

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Pack a correction of what was last sent: rewards, not 0, where `changed` (R, n) is 1."""
        ...

    def learn(self, feedback: Any) -> None:
        """Take feedback out of pending into what is known, or correct that."""
        ...


class MemorySums(NamedTuple):
    """How a family sums the decisions of a problem."""

    family: type[Statistic]
    problem: Problem
    replications: int

    def nothing(self) -> Any:
        """Know nothing."""
        return self.family.zeros(self.problem, (self.replications,))

    def learned(self, decisions: "DecisionBatch") -> Any:
        """Sum decisions with their rewards and weights."""
        arms, rewards, contexts, weights = decisions
        return self.family.of(self.problem, arms, rewards, contexts, weights)

    def waiting(self, decisions: "DecisionBatch") -> Any:
        """Sum decisions as pending, each once."""
        arms, _, contexts, _ = decisions
        return self.family.waiting(self.problem, arms, contexts, np.ones(arms.shape))

    def change(self, late: "DecisionBatch") -> Any:
        """Sum what it changes that decisions earned their rewards rather than 0."""
        silent = late._replace(rewards=np.zeros(late.arms.shape))
        return self.learned(late) - self.learned(silent)


class DecisionBatch(NamedTuple):
    """n decisions of R replications: arms, rewards, weights (R, n), contexts (R, n, d)."""

    arms: IntArray
    rewards: FloatArray
    contexts: FloatArray
    weights: FloatArray

    def part(self, columns: slice | BoolArray) -> "DecisionBatch":
        """Take some of the n."""
        return DecisionBatch(
            self.arms[:, columns],
            self.rewards[:, columns],
            self.contexts[:, columns],
            self.weights[:, columns],
        )


class FullMemory:
    """Nothing is forgotten."""

    def __init__(self, sums: MemorySums, *, late: bool) -> None:
        """Start empty; `late` if batches begin before earlier feedback is visible."""
        self._sums, self._late = sums, late
        self.known: Any = sums.nothing()

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Sum n decisions (R, n), as pending and as learned."""
        sent = DecisionBatch(arms, rewards, contexts, np.ones(arms.shape))
        learned = self._sums.learned(sent)
        if not self._late:
            return learned
        waiting = self._sums.waiting(sent)
        self.known = self.known + waiting
        return learned - waiting

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> Any:
        """Sum what changes."""
        return self._sums.change(DecisionBatch(arms, rewards, contexts, changed))

    def learn(self, feedback: Any) -> None:
        """Add what was learned, and take it out of pending."""
        self.known = self.known + feedback


class _DecayedSums(NamedTuple):
    learned: Any
    waiting: Any
    at: int


class ExponentialDecay:
    """An observation weighs 2^(−age / half-life), its age the decisions made since."""

    def __init__(self, sums: MemorySums, half_life: float) -> None:
        self._sums, self._half_life = sums, half_life
        self._now = 0
        self.known: Any = sums.nothing()

    def _weight(self, age: int) -> float:
        return float(2.0 ** (-age / self._half_life))

    def _aged(self, shape: tuple[int, ...]) -> FloatArray:
        """Return the weights of the decisions (R, n) that were made last."""
        ages = np.arange(shape[1] - 1, -1, -1)
        return np.broadcast_to(2.0 ** (-ages / self._half_life), shape)

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> _DecayedSums:
        """Let time pass, and sum n decisions (R, n), the newest with weight 1."""
        sent = DecisionBatch(arms, rewards, contexts, self._aged(arms.shape))
        self._now += arms.shape[1]
        waiting = self._sums.waiting(sent)
        self.known = self.known.decayed(self._weight(arms.shape[1])) + waiting
        return _DecayedSums(self._sums.learned(sent), waiting, self._now)

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> _DecayedSums:
        """Sum what changes, with the weights of the decisions."""
        late = DecisionBatch(arms, rewards, contexts, changed * self._aged(arms.shape))
        return _DecayedSums(self._sums.change(late), self._sums.nothing(), self._now)

    def learn(self, feedback: _DecayedSums) -> None:
        """Add what was learned with the weight that its age has left it."""
        aged = feedback.learned.decayed(self._weight(self._now - feedback.at))
        self.known = self.known - feedback.waiting + aged


class WindowPart(NamedTuple):
    """Decisions, the position of the first, and whether they correct others that were learned."""

    start: int
    decisions: DecisionBatch
    corrects: bool

    @property
    def stop(self) -> int:
        """The position after the last."""
        return self.start + self.decisions.arms.shape[1]

    def cut(self, position: int) -> tuple["WindowPart", "WindowPart"]:
        """Part what was made before a position from the rest."""
        n = max(0, position - self.start)
        before, after = self.decisions.part(slice(None, n)), self.decisions.part(slice(n, None))
        return self._replace(decisions=before), self._replace(start=self.start + n, decisions=after)


class SlidingWindow:
    """Only the last `window` decisions count."""

    def __init__(self, sums: MemorySums, window: int) -> None:
        self._sums, self._window = sums, window
        self._now = 0
        self._inside: list[tuple[int, int, WindowPart]] = []  # a heap by the first one's position
        self._count = 0
        self.known: Any = sums.nothing()

    def _sum(self, placed: WindowPart) -> Any:
        sum_up = self._sums.change if placed.corrects else self._sums.learned
        return sum_up(placed.decisions)

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> WindowPart:
        """Count n decisions (R, n) as pending, and let those go that leave the window."""
        decisions = DecisionBatch(arms, rewards, contexts, np.ones(arms.shape))
        sent = WindowPart(self._now, decisions, corrects=False)
        self._now = sent.stop
        self.known = self.known + self._sums.waiting(decisions)
        self._leave()
        return sent

    def corrected(
        self, arms: IntArray, rewards: FloatArray, contexts: FloatArray, changed: FloatArray
    ) -> WindowPart:
        """Keep what changes, and where it was."""
        decisions = DecisionBatch(arms, rewards, contexts, changed)
        return WindowPart(self._now - arms.shape[1], decisions, corrects=True)

    def learn(self, feedback: WindowPart) -> None:
        """Take decisions out of pending; learn those that are still inside the window."""
        if not feedback.corrects:
            self.known = self.known - self._sums.waiting(feedback.decisions)
        _, inside = feedback.cut(self._now - self._window)
        if inside.stop > inside.start:
            self.known = self.known + self._sum(inside)
            self._enter(inside)

    def _enter(self, placed: WindowPart) -> None:
        self._count += 1  # so that a heap never compares what lies at the same position
        heappush(self._inside, (placed.start, self._count, placed))

    def _leave(self) -> None:
        edge = self._now - self._window
        while self._inside and self._inside[0][0] < edge:
            before, after = heappop(self._inside)[2].cut(edge)
            self.known = self.known - self._sum(before)
            if after.stop > after.start:
                self._enter(after)


class RefitMemory:
    """The log itself, for a family that cannot subtract: it is summed anew before every batch."""

    def __init__(self, sums: MemorySums, forgetting: DecisionForgetting | None) -> None:
        self._sums, self._forgetting = sums, forgetting
        self._now = 0
        self._log: list[WindowPart] = []
        self._learned: list[bool] = []
        self._known: Any = sums.nothing()
        self._stale = False

    @property
    def known(self) -> Any:
        """Sum the log, each decision with the weight that it has now."""
        if self._stale:
            self._known, self._stale = self._summed(), False
        return self._known

    def _summed(self) -> Any:
        log = [p for p, learned in zip(self._log, self._learned, strict=True) if learned]
        positions = np.concatenate([np.arange(p.start, p.stop) for p in log])
        weights = self._weights(self._now - 1 - positions)
        parts = zip(*(p.decisions for p in log), strict=True)
        arms, rewards, contexts, ones = (np.concatenate(part, axis=1) for part in parts)
        inside = weights > 0
        decisions = DecisionBatch(arms, rewards, contexts, ones * weights)
        return self._sums.learned(decisions.part(inside))

    def _weights(self, ages: IntArray) -> FloatArray:
        if self._forgetting is None:
            return np.ones(ages.shape)
        if self._forgetting.window is not None:
            return (ages < self._forgetting.window).astype(np.float64)
        return 2.0 ** (-ages / (self._forgetting.half_life or np.inf))

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> int:
        """Append n decisions (R, n) to the log; they are not known yet."""
        decisions = DecisionBatch(arms, rewards, np.array(contexts), np.ones(arms.shape))
        self._log.append(WindowPart(self._now, decisions, corrects=False))
        self._learned.append(False)
        self._now += arms.shape[1]
        self._stale = any(self._learned)
        return len(self._log) - 1

    def corrected(
        self,
        arms: IntArray,  # noqa: ARG002 - the log has them
        rewards: FloatArray,
        contexts: FloatArray,  # noqa: ARG002 - as arms
        changed: FloatArray,
    ) -> tuple[int, FloatArray, FloatArray]:
        """Keep what changes, and of what."""
        return len(self._log) - 1, rewards, changed

    def learn(self, feedback: int | tuple[int, FloatArray, FloatArray]) -> None:
        """Mark decisions as known, or change their rewards."""
        if isinstance(feedback, tuple):
            position, rewards, changed = feedback
            placed = self._log[position]
            mended = np.where(changed > 0, rewards, placed.decisions.rewards)
            decisions = placed.decisions._replace(rewards=mended)
            self._log[position] = placed._replace(decisions=decisions)
        else:
            self._learned[feedback] = True
        self._stale = True


def memory_for(sums: MemorySums, forgetting: DecisionForgetting | None, *, late: bool) -> Memory:
    """Start a memory that forgets so; `late` if batches begin before earlier feedback is in."""
    if not sums.family.invertible:
        return RefitMemory(sums, forgetting)
    if forgetting is None:
        return FullMemory(sums, late=late)
    if forgetting.window is not None:
        return SlidingWindow(sums, forgetting.window)
    return ExponentialDecay(sums, forgetting.half_life or np.inf)
