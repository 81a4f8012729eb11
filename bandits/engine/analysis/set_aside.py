"""Set-aside events in figures: by reason, by name, by mailbox and by arm, from sums alone."""

from collections import Counter, defaultdict

import numpy as np

from bandits.engine.analysis.receipts import moment
from bandits.engine.sums import load_inference_state
from bandits.inference.event_verdict_counts import EventVerdictCounts
from bandits.machines import EventVerdict, MailboxClass, VerdictReason
from bandits.results import ArmJudgedEvents, JudgedEvents, SetAside, SetAsideReason
from bandits.store.values import ExperimentState

_PERSON = VerdictReason.NONE


def describe_set_aside(state: ExperimentState, now: float) -> SetAside:
    """Describe what was set aside of an experiment, as of its newest snapshot.

    Args:
        state: of the experiment.
        now: seconds since 1970.
    """
    record, snapshot = state.record, state.snapshot
    n_arms = len(record.configuration.arms)
    packed = b"" if snapshot is None else snapshot.verdicts
    verdicts = EventVerdictCounts.load(packed, n_arms)
    rules = state.rules
    return SetAside(
        record.key,
        record.learned_version,
        None if snapshot is None else moment(snapshot.at),
        record.configuration.experiment.machine_rules,
        rules.version,
        _rescored(state, now),
        rules.left,
        record.closes_at is not None and now > record.closes_at,
        _reasons(verdicts),
        _by_name(state, verdicts),
        _by_mailbox(verdicts),
        _by_arm(state, verdicts),
    )


def _rescored(state: ExperimentState, now: float) -> float | None:
    """Return the part that is judged by the configuration's rules; None where all are."""
    rules, version = state.rules, state.record.configuration.experiment.machine_rules
    if state.snapshot is None or not rules.needs_change(state.record, now):
        return None
    if rules.place is None or rules.version != version or state.record.started_at is None:
        return 0.0
    period = state.snapshot.at - state.record.started_at
    return float(np.clip((rules.place[0] - state.record.started_at) / max(period, 1.0), 0.0, 1.0))


def _reasons(verdicts: EventVerdictCounts) -> list[SetAsideReason]:
    by_reason: defaultdict[int, Counter[str]] = defaultdict(Counter)
    arms: defaultdict[int, np.ndarray] = defaultdict(lambda: np.zeros(verdicts.counts.shape[-1]))
    for name, reason, _, counts in verdicts.rows():
        if reason != _PERSON:
            by_reason[reason][name] += round(counts.sum())
            arms[reason] += counts
    rows = []
    for number, events in by_reason.items():
        reason, groups = VerdictReason(number), np.rint(arms[number]).astype(int).tolist()
        rows.append(
            SetAsideReason(
                reason.name.lower(),
                reason.words,
                "unsure" if reason.verdict is EventVerdict.UNSURE else "machine",
                dict(sorted(events.items())),
                events.total(),
                groups[:-1],
                groups[-1],
            )
        )
    return sorted(rows, key=lambda row: (-row.total, row.reason))


def _by_name(state: ExperimentState, verdicts: EventVerdictCounts) -> list[JudgedEvents]:
    persons: Counter[str] = Counter()
    aside: Counter[str] = Counter()
    for name, reason, _, counts in verdicts.rows():
        (persons if reason == _PERSON else aside)[name] += round(counts.sum())
    names = sorted({*persons, *aside})
    events = load_inference_state(state.record.configuration, state.snapshot).events
    times = events.counts(names)[0][:, 1].sum(axis=-1) if names else []
    return [
        JudgedEvents(name, name, persons[name], aside[name], max(0, round(n) - persons[name]))
        for name, n in zip(names, times, strict=True)
    ]


def _by_mailbox(verdicts: EventVerdictCounts) -> list[JudgedEvents]:
    persons: Counter[int] = Counter()
    aside: Counter[int] = Counter()
    for _, reason, mailbox, counts in verdicts.rows():
        (persons if reason == _PERSON else aside)[mailbox] += round(counts.sum())
    classes = [c for c in MailboxClass if c in persons or c in aside]
    by_name = sorted(classes, key=lambda c: c is MailboxClass.UNKNOWN)  # which comes last
    return [JudgedEvents(c.name.lower(), c.words, persons[c], aside[c]) for c in by_name]


def _by_arm(state: ExperimentState, verdicts: EventVerdictCounts) -> list[ArmJudgedEvents]:
    if not verdicts.keys:
        return []
    reasons = np.array([reason for _, reason, *_ in verdicts.keys])
    persons, aside = (
        np.rint(verdicts.counts[mask].sum(axis=0)).astype(int).tolist()
        for mask in (reasons == _PERSON, reasons != _PERSON)
    )
    configuration = state.record.configuration
    slots = [slot.key for slot in configuration.experiment.slots]
    rows = [
        ArmJudgedEvents(dict(zip(slots, arm.variants, strict=True)), persons[k], aside[k])
        for k, arm in enumerate(configuration.arms)
    ]
    if configuration.experiment.holdout > 0:
        rows.append(ArmJudgedEvents(None, persons[-1], aside[-1]))
    return rows
