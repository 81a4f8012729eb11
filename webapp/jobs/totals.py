"""Totals so far: a later file replaces what an earlier one said of a metric that adds up."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from bandits.actors import Actor
from bandits.engine import Engine
from bandits.rewards import RewardRule
from bandits.schemas import Reward, Withdrawal
from bandits.store.values import Event
from webapp.files.repeated_recipients import subject_digests

_OWN = "+"  # stands between the metric and the upload in ids of events of totals
_EXACT = 1e-9


class TotalLine(Struct, frozen=True):
    """Total of a decision and metric, and the line that it is complete with."""

    line: int
    reward: Reward


class FileTotals:
    """Totals of a file by decision and metric: rows of one decision are added up."""

    def __init__(self, rule: RewardRule) -> None:
        """Begin with no rows."""
        self._sums = {name for name in rule.event_names if rule.event(name).count == "sum"}
        self._rows: Counter[int] = Counter()
        self._open: dict[tuple[str, str], tuple[int, float]] = {}

    def count(self, rewards: Sequence[Reward]) -> None:
        """Count the rows of each total, in a first reading of the file."""
        keys = [f"{r.decision_id} {r.metric}" for r in rewards if r.metric in self._sums]
        self._rows.update(subject_digests(keys).tolist())

    def end_count(self) -> None:
        """Forget totals of a single row: they are complete with it."""
        self._rows = Counter({key: n for key, n in self._rows.items() if n > 1})

    def split(
        self, lines: Sequence[int], rewards: Sequence[Reward]
    ) -> tuple[list[TotalLine], list[tuple[int, Reward]]]:
        """Split rows into totals that are complete by now, and other events."""
        totals, others = [], []
        for line, reward in zip(lines, rewards, strict=True):
            if reward.metric not in self._sums:
                others.append((line, reward))
                continue
            (digest,) = subject_digests([f"{reward.decision_id} {reward.metric}"]).tolist()
            rows = self._rows.get(digest, 1)
            key = reward.decision_id, reward.metric
            n, total = self._open.pop(key, (0, 0.0))
            n, total = n + 1, total + reward.value
            if n < rows:
                self._open[key] = n, total
            else:
                totals.append(TotalLine(line, replace(reward, value=total)))
        return totals, others


class TotalWriter:
    """Writer of totals as events: what is new, or instead of earlier totals that were higher."""

    def __init__(self, engine: Engine, upload_id: str, actor: Actor) -> None:
        """Report for an upload."""
        self._engine = engine
        self._upload = upload_id
        self._actor = actor

    def events(self, totals: Sequence[TotalLine]) -> Iterator[tuple[int, Reward]]:
        """Yield the events that make these totals true, withdrawing what is too much."""
        for total in totals:
            event = self._event(total.reward)
            if event is not None:
                yield total.line, event

    def _event(self, reward: Reward) -> Reward | None:
        events = self._engine.store.log.events(reward.decision_id)
        counted = [e for e in events if e.metric == reward.metric and not (e.withdrawn or e.void)]
        missing = reward.value - sum(event.value for event in counted)
        occurred_at = reward.occurred_at
        if missing < -_EXACT:
            earlier = [e for e in counted if _is_of_file(e)]
            if not earlier or not self._withdraw(reward.decision_id, earlier):
                return None
            missing += sum(event.value for event in earlier)
            # What replaces an event is of its time: it may be too late for a new one.
            occurred_at = occurred_at or datetime.fromtimestamp(
                max(event.occurred_at for event in earlier), UTC
            )
        if missing <= _EXACT:
            return None
        event_id = f"{reward.metric}{_OWN}{self._upload}"
        return replace(reward, event_id=event_id, value=missing, occurred_at=occurred_at)

    def _withdraw(self, decision_id: str, events: Sequence[Event]) -> bool:
        rows = [Withdrawal(decision_id, event.event_id) for event in events]
        receipt = self._engine.withdraw(rows, actor=self._actor, partial=True)
        return not receipt.refused


def _is_of_file(event: Event) -> bool:
    """Return True for an event that an uploaded file reported without an id of its own."""
    return event.event_id.startswith((f"{event.metric}{_OWN}", f"{event.metric}="))
