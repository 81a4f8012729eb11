"""What a simulated policy remembers: everything, with a half-life, or a window."""

from collections import deque
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from msgspec import Meta

from bandits.arrays import FloatArray, IntArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.statistics import Statistic


class Forgetting(Parameters, frozen=True):
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

    def learn(self, feedback: Any) -> None:
        """Take feedback out of pending into what is known."""
        ...


class Everything:
    """Nothing is forgotten."""

    def __init__(
        self, family: type[Statistic], problem: Problem, replications: int, *, late: bool
    ) -> None:
        """Start empty; `late` if batches begin before earlier feedback is visible."""
        self._family, self._problem, self._late = family, problem, late
        self.known: Any = family.zeros(problem, (replications,))

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> Any:
        """Sum n decisions (R, n), as pending and as learned."""
        weights = np.ones(arms.shape)
        learned = self._family.of(self._problem, arms, rewards, contexts, weights)
        if not self._late:
            return learned
        waiting = self._family.waiting(self._problem, arms, contexts, weights)
        self.known = self.known + waiting
        return learned - waiting

    def learn(self, feedback: Any) -> None:
        """Add what was learned, and take it out of pending."""
        self.known = self.known + feedback


class _Aged(NamedTuple):
    learned: Any
    waiting: Any
    at: int


class Fading:
    """An observation weighs 2^(−age / half-life), its age the decisions made since."""

    def __init__(
        self, family: type[Statistic], problem: Problem, replications: int, half_life: float
    ) -> None:
        self._family, self._problem = family, problem
        self._half_life = half_life
        self._now = 0
        self.known: Any = family.zeros(problem, (replications,))

    def _weight(self, age: int) -> float:
        return float(2.0 ** (-age / self._half_life))

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> _Aged:
        """Let time pass, and sum n decisions (R, n), the newest with weight 1."""
        n = arms.shape[1]
        self._now += n
        ages = np.arange(n - 1, -1, -1)
        weights = np.broadcast_to(2.0 ** (-ages / self._half_life), arms.shape)
        learned = self._family.of(self._problem, arms, rewards, contexts, weights)
        waiting = self._family.waiting(self._problem, arms, contexts, np.ones(arms.shape))
        self.known = self.known.decayed(self._weight(n)) + waiting
        return _Aged(learned, waiting, self._now)

    def learn(self, feedback: _Aged) -> None:
        """Add what was learned with the weight that its age has left it."""
        aged = feedback.learned.decayed(self._weight(self._now - feedback.at))
        self.known = self.known - feedback.waiting + aged


class _Sent(NamedTuple):
    start: int
    arms: IntArray
    rewards: FloatArray
    contexts: FloatArray

    def after(self, start: int) -> "_Sent":
        """Keep the decisions from position `start` on."""
        cut = max(0, start - self.start)
        return _Sent(
            self.start + cut, self.arms[:, cut:], self.rewards[:, cut:], self.contexts[:, cut:]
        )

    def before(self, start: int) -> "_Sent":
        """Keep the decisions before position `start`."""
        cut = max(0, start - self.start)
        return _Sent(self.start, self.arms[:, :cut], self.rewards[:, :cut], self.contexts[:, :cut])

    @property
    def stop(self) -> int:
        """The position after the last."""
        return self.start + self.arms.shape[1]


class Windowed:
    """Only the last `window` decisions count."""

    def __init__(
        self, family: type[Statistic], problem: Problem, replications: int, window: int
    ) -> None:
        self._family, self._problem = family, problem
        self._window = window
        self._now = 0
        self._inside: deque[_Sent] = deque()
        self.known: Any = family.zeros(problem, (replications,))

    def _sum(self, sent: _Sent) -> Any:
        weights = np.ones(sent.arms.shape)
        return self._family.of(self._problem, sent.arms, sent.rewards, sent.contexts, weights)

    def _waiting(self, sent: _Sent) -> Any:
        weights = np.ones(sent.arms.shape)
        return self._family.waiting(self._problem, sent.arms, sent.contexts, weights)

    def sent(self, arms: IntArray, rewards: FloatArray, contexts: FloatArray) -> _Sent:
        """Count n decisions (R, n) as pending, and let those go that leave the window."""
        sent = _Sent(self._now, arms, rewards, contexts)
        self._now = sent.stop
        self.known = self.known + self._waiting(sent)
        self._leave()
        return sent

    def learn(self, feedback: _Sent) -> None:
        """Take decisions out of pending; learn those that are still inside the window."""
        self.known = self.known - self._waiting(feedback)
        inside = feedback.after(self._now - self._window)
        if inside.arms.shape[1]:
            self.known = self.known + self._sum(inside)
            self._inside.append(inside)

    def _leave(self) -> None:
        edge = self._now - self._window
        while self._inside and self._inside[0].start < edge:
            oldest = self._inside.popleft()
            self.known = self.known - self._sum(oldest.before(edge))
            if oldest.stop > edge:
                self._inside.appendleft(oldest.after(edge))
