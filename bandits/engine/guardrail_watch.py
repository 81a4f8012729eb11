"""Guardrail watch: the figures of guardrails, and their acts, once a fold is committed."""

from collections.abc import Iterator

import numpy as np
from msgspec import Struct, structs

from bandits.engine.guardrail_builder import GuardedUnits, guarded_units
from bandits.errors import NotFound, StaleEdit, WrongState
from bandits.experiment import Experiment
from bandits.guardrails import GUARD, Guardrail, GuardrailAct
from bandits.inference.guardrail_evidence import FALSE_ALARMS, limit_bets, wealth
from bandits.inference.guardrail_sums import (
    ALL_SLOTS,
    COUNTS,
    EMAILS,
    EVENTS,
    GuardrailSums,
    PeriodCells,
)
from bandits.store import Store
from bandits.store.values import ExperimentRecord, Snapshot, State
from bandits.versions import Configuration

_ACTIVE: tuple[State, ...] = ("running", "paused")
_ATTEMPTS = 3  # a person may edit at the same moment


class GuardrailFigures(Struct, frozen=True):
    """Figures of a guardrail for one version, or one variant.

    Attributes:
        variants: a variant of every slot, or of one.
        emails: those that count for it.
        events: those of them with the event.
        control_emails: of the control, or with its variant.
        control_events: those of them with the event.
        wealth: of the bets against it; see `bandits.inference.guardrail_evidence`.
    """

    variants: dict[str, str]
    emails: int
    events: int
    control_emails: int
    control_events: int
    wealth: float


def watched(
    configuration: Configuration, sums: GuardrailSums, guardrail: Guardrail
) -> Iterator[GuardrailFigures]:
    """Go through what a guardrail watches, with its figures as of the sums."""
    for units in guarded_units(configuration, guardrail.scope):
        slot = ALL_SLOTS if guardrail.limit is not None else units.slot
        by_start: dict[int, PeriodCells] = {}
        for u, variants in enumerate(units.variants):
            since = _since(configuration, guardrail, variants)
            if since not in by_start:
                by_start[since] = sums.by_period(guardrail.series, slot, since)
            yield _figures(by_start[since], guardrail, units, u)


def _since(configuration: Configuration, guardrail: Guardrail, variants: dict[str, str]) -> int:
    """Return the configuration from which on emails count: a person undid what was before."""
    of_unit = (a.undone or 0 for a in configuration.acts if a.is_of(guardrail, variants))
    return max(of_unit, default=0)


def _figures(
    series: PeriodCells, guardrail: Guardrail, units: GuardedUnits, u: int
) -> GuardrailFigures:
    cells, members = series.cells, units.members[u]
    own, control = (cells[:, :COUNTS, arms].sum(axis=2) for arms in (members, units.control))
    sent = np.flatnonzero(own[:, EMAILS] > 0)  # it begins with its own first email
    first = int(sent[0]) if len(sent) else len(own)
    if guardrail.limit is not None:
        bets = limit_bets(own[first:, EMAILS], own[first:, EVENTS], guardrail.limit)
    else:
        bets = cells[first:, COUNTS:, units.columns[u]]
    emails, events, of_control, with_event = (
        round(n) for n in (*own.sum(axis=0).tolist(), *control.sum(axis=0).tolist())
    )
    money = float(wealth(bets, series.numbers[first:]))
    return GuardrailFigures(units.variants[u], emails, events, of_control, with_event, money)


def alarm_wealth(configuration: Configuration) -> float:
    """Return the wealth at which a guardrail acts.

    It is 1/α for an α that all that is watched shares, so that no guardrail of an experiment ever
    acts without cause in 95 % of them.
    """
    guardrails = configuration.experiment.guardrails
    sizes = {
        scope: sum(len(units.variants) for units in guarded_units(configuration, scope))
        for scope in {g.scope for g in guardrails}
    }
    return sum(sizes[g.scope] for g in guardrails) / FALSE_ALARMS


class GuardrailWatch:
    """Watch of an experiment's guardrails."""

    def __init__(self, store: Store) -> None:
        """Watch experiments of `store`."""
        self._store = store

    def act(self, key: str, snapshot: Snapshot) -> None:
        """Do what guardrails say as of the newest snapshot, and record it with its figures.

        A version that a guardrail pauses is paused as a person would pause it. The control never
        is; what is paused already, or was alerted of, is let be. Where nothing is sent any more
        there is nothing to guard.

        Raises:
            NotFound: there is no such experiment.
        """
        for _ in range(_ATTEMPTS):
            record = self._store.experiments.record(key)
            if not record.configuration.experiment.guardrails or record.state not in _ACTIVE:
                return
            new = guarded(record, snapshot)
            if new is None:
                return
            try:
                self._store.experiments.configure(
                    key, new, allowed=_ACTIVE, at=snapshot.at, by=GUARD
                )
            except (StaleEdit, WrongState):  # a person was faster
                continue
            return

    def undo(self, key: str, number: int, *, at: float, by: str) -> ExperimentRecord:
        """Take an act back, as `Engine.undo_guardrail` declares."""
        record = self._store.experiments.record(key)
        old = record.configuration
        if not 0 <= number < len(old.acts) or old.acts[number].undone is not None:
            raise NotFound("act of a guardrail", f"{key}/{number}")
        act = old.acts[number]
        paused = act.guardrail.action == "pause"
        experiment = old.experiment
        if paused:
            experiment = with_resumed(experiment, act.variants)
        new = old.next_version(experiment, started=True)
        acts = list(new.acts)
        if not paused:
            acts[number] = structs.replace(act, undone=new.version)
        new = structs.replace(new, acts=tuple(acts))
        return self._store.experiments.configure(key, new, allowed=_ACTIVE, at=at, by=by)


def guarded(record: ExperimentRecord, snapshot: Snapshot) -> Configuration | None:
    """Return the configuration that follows from guardrails as of a snapshot; None for no act."""
    old = record.configuration
    sums = GuardrailSums.load(snapshot.guardrails, len(old.arms))
    alarm, experiment, version = alarm_wealth(old), old.experiment, old.version + 1
    acts: list[GuardrailAct] = []
    for guardrail in old.experiment.guardrails:
        in_force = [a for a in old.acts if a.undone is None]
        for unit in watched(old, sums, guardrail):
            done = any(a.is_of(guardrail, unit.variants) for a in in_force)
            if unit.wealth < alarm or done or experiment.is_paused(unit.variants):
                continue
            figures = (unit.emails, unit.events, unit.control_emails, unit.control_events)
            acts.append(GuardrailAct(guardrail, unit.variants, snapshot.at, *figures, version))
            if guardrail.action == "pause":
                experiment = with_paused(experiment, unit.variants)
    if not acts:
        return None
    new = old.next_version(experiment, started=True)
    return structs.replace(new, acts=(*new.acts, *acts))


def with_paused(experiment: Experiment, variants: dict[str, str]) -> Experiment:
    """Return an experiment with a variant paused, or with an arm where several slots make it."""
    if len(variants) > 1:
        return structs.replace(experiment, paused=(*experiment.paused, variants))
    return _with_variant(experiment, variants, paused=True)


def with_resumed(experiment: Experiment, variants: dict[str, str]) -> Experiment:
    """Return an experiment that sends a variant, or an arm, again."""
    kept = tuple(rule for rule in experiment.paused if rule != variants)
    experiment = structs.replace(experiment, paused=kept)
    return experiment if len(variants) > 1 else _with_variant(experiment, variants, paused=False)


def _with_variant(experiment: Experiment, variants: dict[str, str], *, paused: bool) -> Experiment:
    slots = tuple(
        structs.replace(
            slot,
            variants=tuple(
                structs.replace(v, paused=paused) if variants.get(slot.key) == v.key else v
                for v in slot.variants
            ),
        )
        for slot in experiment.slots
    )
    return structs.replace(experiment, slots=slots)
