"""Withdraw: events taken back, such as a cancelled order, as if they had never been reported."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bandits.actors import Actor
from bandits.engine.choose import MAX_BATCH
from bandits.errors import Fault, InvalidInput, Unavailable
from bandits.identifiers import pointer
from bandits.schemas import (
    ID_TOLD,
    RefusalReason,
    RefusedRow,
    Withdrawal,
    WithdrawalReceipt,
    misfits,
)
from bandits.store import StaleRead, Store
from bandits.store.values import WithdrawnEvent

_ATTEMPTS = 5
_MOST_FAULTS = 100
_ANOTHER_KEY = (
    "was reported by another; only that one may withdraw it, or a key with the scope manage"
)
_Refusals = dict[int, tuple[RefusalReason, str, str]]  # reason, field and words, by row


def withdraw(  # noqa: PLR0913 - what is withdrawn, by whom and how
    store: Store,
    rows: Sequence[Withdrawal],
    clock: Callable[[], float],
    *,
    actor: Actor,
    own_only: bool,
    partial: bool,
) -> WithdrawalReceipt:
    """Withdraw events, as `Engine.withdraw` declares."""
    if len(rows) > MAX_BATCH:
        raise InvalidInput.at("/withdrawals", f"must be at most {MAX_BATCH:,}")
    refused: _Refusals = {
        row: ("invalid", name, f"must be {ID_TOLD}")
        for name in ("decision_id", "event_id")
        for row in misfits([getattr(withdrawal, name) for withdrawal in rows])
    }
    _refuse(refused, partial=partial)
    for _ in range(_ATTEMPTS):
        attempt = _Attempt(store, rows, refused, clock())
        _refuse(attempt.refused, partial=partial)
        try:
            return attempt.run(actor, own_only=own_only, partial=partial)
        except StaleRead:  # a decision was erased since it was looked up: it is unknown now
            continue
    raise Unavailable("decisions of these events are being erased")


class _Attempt:
    """Attempt to withdraw events whose decisions are looked up at a time."""

    def __init__(
        self, store: Store, rows: Sequence[Withdrawal], refused: _Refusals, now: float
    ) -> None:
        self.refused = dict(refused)
        self._store = store
        self._rows = rows
        self._now = now
        left = [row for row in range(len(rows)) if row not in refused]
        targets = store.log.targets([rows[row].decision_id for row in left])
        self._places: list[int] = []
        self._events: list[WithdrawnEvent] = []
        self._unknown: list[int] = []
        for row, ref, number in zip(left, targets.refs, targets.numbers, strict=True):
            if ref is None:
                self._unknown.append(row)
                continue
            closes_at = store.experiments.record(ref.experiment).closes_at
            if closes_at is not None and now > closes_at:
                since = datetime.fromtimestamp(closes_at, UTC).isoformat(timespec="seconds")
                words = f"the result of experiment {ref.experiment} is final since {since}"
                self.refused[row] = "too_late", "decision_id", words
                continue
            self._places.append(row)
            self._events.append(WithdrawnEvent(number, rows[row].event_id, ref.experiment_id))

    def run(self, actor: Actor, *, own_only: bool, partial: bool) -> WithdrawalReceipt:
        """Withdraw them.

        Raises:
            InvalidInput: some are another actor's, and not `partial`.
            StaleRead: a decision was erased meanwhile.
        """
        result = self._store.log.withdraw(
            self._events, actor=actor, own_only=own_only, partial=partial, at=self._now
        )
        for place in result.foreign:
            self.refused[self._places[place]] = "another_key", "event_id", _ANOTHER_KEY
        _refuse(self.refused, partial=partial)
        keys = [(self._rows[row].decision_id, self._rows[row].event_id) for row in self._unknown]
        dropped = set(
            self._store.log.drop_waiting(keys, actor=actor if own_only else None) if keys else ()
        )
        lost = [key for key in keys if key not in dropped]
        accepted = len(self._events) - len(result.repeated) - len(result.foreign)
        return WithdrawalReceipt(
            accepted + len(keys) - len(lost),
            len(result.repeated),
            [decision_id for decision_id, _ in lost],
            [
                RefusedRow(row, self._rows[row].decision_id, reason, words)
                for row, (reason, _, words) in sorted(self.refused.items())
            ],
        )


def _refuse(refused: _Refusals, *, partial: bool) -> None:
    """Refuse all, where some do not fit and the others are not to be done.

    Raises:
        InvalidInput: at ``/withdrawals/{row}/...``.
    """
    if refused and not partial:
        faults = [
            Fault(pointer("withdrawals", row, name), words)
            for row, (_, name, words) in sorted(refused.items())
        ]
        raise InvalidInput(faults[:_MOST_FAULTS])
