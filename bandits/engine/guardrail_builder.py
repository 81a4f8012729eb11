"""Guardrail builder: sums of sent decisions for the guardrails that they were made under."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.allocation_reader import AllocationReader
from bandits.inference.event_sums import EventValues
from bandits.inference.guardrail_evidence import BETS, comparison_bets
from bandits.inference.guardrail_sums import (
    ALL_SLOTS,
    COUNTS,
    EMAILS,
    EVENTS,
    GuardrailSums,
    start_period_of,
)
from bandits.store.values import AllocationKey, DecisionColumns, ExperimentRecord
from bandits.versions import Configuration

_SAME = 1e-6  # a probability derived again may differ by rounding between machines


class GuardedUnits(Struct, frozen=True, eq=False, dict=True):
    """What a guardrail watches each by itself: U versions, or U variants of one slot.

    Attributes:
        slot: the slot, `ALL_SLOTS` for whole versions.
        variants: U of them, by slot.
        members: (U, K) the arms of each.
        control: (K,) the arms that they are compared with.
    """

    slot: int
    variants: tuple[dict[str, str], ...]
    members: BoolArray
    control: BoolArray

    @cached_property
    def columns(self) -> IntArray:
        """The first arm of each, (U,): arms that join later come behind it."""
        return np.argmax(self.members, axis=1)


def guarded_units(
    configuration: Configuration, scope: Literal["arm", "variant"]
) -> list[GuardedUnits]:
    """List what a scope watches: all versions at once, or slot by slot; never the control."""
    n_arms, control = len(configuration.arms), configuration.control
    if scope == "arm":
        arms = [k for k in range(n_arms) if k != control]
        variants = tuple(configuration.variants_of(k) for k in arms)
        every = np.eye(n_arms, dtype=np.bool_)
        return [GuardedUnits(ALL_SLOTS, variants, every[arms], every[control])]
    levels = configuration.problem.slot_levels
    units = []
    for i, slot in enumerate(configuration.experiment.slots):
        compared = int(levels[control, i])
        members = levels[:, i] == np.arange(len(slot.variants))[:, None]
        others = [v for v in np.flatnonzero(members.any(axis=1)).tolist() if v != compared]
        if others:
            named = tuple({slot.key: slot.variants[v].key} for v in others)
            units.append(GuardedUnits(i, named, members[others], members[compared]))
    return units


class GuardrailBuilder:
    """Sum sent decisions of one experiment for its guardrails.

    Each counts for the guardrails of its own configuration: one that is declared, or changed, later
    begins with the decisions after it.
    """

    def __init__(self, record: ExperimentRecord, past: AllocationReader) -> None:
        """Sum with as many arms as the record's configuration has."""
        self._past = past
        self._configuration = record.configuration
        self._n_arms = len(record.configuration.arms)
        self._since = record.created_at if record.started_at is None else record.started_at

    def sum_sent(
        self, decisions: DecisionColumns, events: Callable[[], Mapping[str, EventValues]]
    ) -> GuardrailSums:
        """Sum n sent decisions that were not held out; `events` measures theirs, where needed."""
        sums = GuardrailSums.zeros(self._n_arms)
        drawn, versions = ~decisions.holdout, decisions.configuration_versions
        for version in np.unique(versions[drawn]).tolist():
            configuration = self._past.configuration(version)
            guardrails = configuration.experiment.guardrails
            if not guardrails:
                continue
            rows = np.flatnonzero(drawn & (versions == version))
            periods = start_period_of(decisions.started_at[rows], self._since)
            measured = events()
            for (name, slot), (event, times) in _series(configuration).items():
                values = measured[event].values[rows] if event in measured else np.zeros(len(rows))
                emails = _Emails(decisions, rows, periods, values != 0)
                cells = self._cells(emails, slot, times)
                epoch = configuration.guard_epoch
                keyed = {(name, slot, epoch, period): cell for period, cell in cells.items()}
                sums = sums + GuardrailSums(self._n_arms, keyed)
        return sums

    def _cells(self, emails: "_Emails", slot: int, times: float | None) -> dict[int, FloatArray]:
        """Sum emails by period; with bets against the control where it may be so many times."""
        n_bets = 0 if times is None else len(BETS)
        numbers, places = np.unique(emails.periods, return_inverse=True)
        arms = emails.decisions.arms[emails.rows]
        cells = np.zeros((len(numbers), COUNTS + n_bets, self._n_arms))
        flat, size = places.reshape(-1) * self._n_arms + arms, len(numbers) * self._n_arms
        for row, weights in ((EMAILS, None), (EVENTS, emails.happened)):
            counts = np.bincount(flat, weights, size).reshape(len(numbers), self._n_arms)
            cells[:, row] = counts
        if times is not None and emails.happened.any():
            happened = np.flatnonzero(emails.happened)
            columns, bets = self._bets(emails.decisions, emails.rows[happened], slot, times)
            for row, place in enumerate(places[happened].tolist()):
                cells[place, COUNTS:, columns] += bets[row]
        return dict(zip(numbers.tolist(), cells, strict=True))

    def _bets(
        self, decisions: DecisionColumns, rows: IntArray, slot: int, times: float
    ) -> tuple[IntArray, FloatArray]:
        """Return the column of each of U units, and the bets on n decisions with an event.

        A decision whose probabilities cannot be derived, or are not those that were logged, is no
        bet, and neither is one of another version than these two: (n, U, B).
        """
        units = self._units_of(slot)
        shares, arms = self._shares(decisions, rows), decisions.arms[rows]
        own = shares @ units.members.T.astype(np.float64)
        control = (shares @ units.control.astype(np.float64))[:, None]
        is_own = units.members[:, arms].T.astype(np.float64)
        compared = (is_own > 0) | units.control[arms][:, None]
        bets = comparison_bets(own, np.broadcast_to(control, own.shape), is_own, times)
        return units.columns, np.where(compared[..., None], bets, 0.0)

    def _units_of(self, slot: int) -> GuardedUnits:
        scope: Literal["arm", "variant"] = "arm" if slot == ALL_SLOTS else "variant"
        units = guarded_units(self._configuration, scope)
        return next(unit for unit in units if unit.slot == slot)

    def _shares(self, decisions: DecisionColumns, rows: IntArray) -> FloatArray:
        """Return the probabilities that rows (n,) were drawn from, (n, K); 0 where not known."""
        shares = np.zeros((len(rows), self._n_arms))
        for i, row in enumerate(rows.tolist()):
            version = int(decisions.configuration_versions[row])
            key = (version, int(decisions.policy_versions[row]), decisions.eligible_sets[row])
            share = self._share(key, decisions.contexts[row])
            chosen = decisions.arms[row]
            if share is not None and abs(share[chosen] - decisions.propensities[row]) <= _SAME:
                shares[i] = share
        return shares

    def _share(self, key: AllocationKey, context: FloatArray) -> FloatArray | None:
        if not self._past.contextual(key[0]):
            return self._past.allocation(*key)
        active = self._past.policy(*key[:2])
        if active is None:
            return None
        arms = active.eligible(key[2])
        derived = active.probabilities_or_none(arms, context[None])
        if derived is None:
            return None
        share = np.zeros(self._n_arms)
        share[arms] = derived[0]
        return share


class _Emails(Struct, frozen=True, eq=False):
    """Emails of one configuration: their rows among decisions, periods, and who has the event."""

    decisions: DecisionColumns
    rows: IntArray
    periods: IntArray
    happened: BoolArray


def _series(configuration: Configuration) -> dict[tuple[str, int], tuple[str, float | None]]:
    """List the series of a configuration's guardrails: event and times the control's, by key."""
    series: dict[tuple[str, int], tuple[str, float | None]] = {}
    for guardrail in configuration.experiment.guardrails:
        slots = [ALL_SLOTS]
        if guardrail.limit is None:
            slots = [units.slot for units in guarded_units(configuration, guardrail.scope)]
        for slot in slots:
            series[guardrail.series, slot] = (guardrail.event, guardrail.worse_than_control)
    return series
