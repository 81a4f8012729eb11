"""Verification: stored sums compared with sums rebuilt from the log and the retained sums."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import msgspec
import numpy as np
from msgspec import Struct

from bandits.array_types import AnyArray, FloatArray
from bandits.engine.arm_counts import ArmCounts
from bandits.engine.fold import rebuild
from bandits.engine.sums import Sums, load_sums
from bandits.inference.event_verdict_counts import EventVerdictCounts
from bandits.inference.guardrail_sums import COUNTS, GuardrailSums
from bandits.inference.sender_sums import SenderSums
from bandits.inference.state import InferenceState
from bandits.store.fold import LogAudit
from bandits.store.values import DataQualityCounts, DecisionColumns

_COUNTABLE = 2.0**50  # a larger number is no count, and is whole by rounding
TOLERANCE = 1e-9  # of the largest number of a sum: what rounding in another order may make

# Sums that decisions are in whose probabilities are known.
_OF_PROBABILITIES = (
    "ratio",
    "lift_periods",
    "overlap",
    "segment_overlap",
    "group_overlap",
    "group_segment_overlap",
)


class VerifyReport(Struct, frozen=True, eq=False):
    """Array of a statistic or of other sums, rebuilt from the log and as stored.

    Attributes:
        name: ``statistic.count``, ``arm_counts.sent``, …
        logged: rebuilt from the log.
        stored: in the newest snapshot, of the same shape.
    """

    name: str
    logged: FloatArray
    stored: FloatArray

    @property
    def wrong(self) -> AnyArray:
        """Places of a difference: any of whole numbers, of others more than by rounding."""
        whole = (self.logged == np.rint(self.logged)) & (self.stored == np.rint(self.stored))
        whole &= np.abs(self.logged) < _COUNTABLE
        largest = max(1.0, *(float(np.max(np.abs(a), initial=0.0)) for a in self._both))
        allowed = np.where(whole, 0.0, TOLERANCE * largest)
        return ~(np.abs(self.logged - self.stored) <= allowed)  # so that NaN is wrong

    @property
    def _both(self) -> tuple[FloatArray, FloatArray]:
        return self.logged, self.stored

    def differences(self) -> list[tuple[str, float, float]]:
        """List each wrong place: its name with indices, the log's number, the stored one."""
        return [
            (
                f"{self.name}[{', '.join(str(i) for i in place)}]",
                float(self.logged[tuple(place)]),
                float(self.stored[tuple(place)]),
            )
            for place in np.argwhere(self.wrong)
        ]


def compare(audit: LogAudit, progress: Callable[[int], None]) -> list[VerifyReport]:
    """Compare an experiment's stored sums with those rebuilt from its log.

    Args:
        audit: the log and the newest snapshot, in one view.
        progress: called after each portion, with its number of decisions.
    """
    watched = msgspec.structs.replace(
        audit,
        learned=_report_progress(audit.learned, progress),
        pending=_report_progress(audit.pending, progress),
    )
    logged = rebuild(watched)
    stored = load_sums(audit.record.configuration, audit.snapshot)
    return [
        *(
            VerifyReport(
                f"{name}.{field.name}", getattr(of_log, field.name), getattr(held, field.name)
            )
            for name, of_log, held in (
                ("statistic", logged.statistic, stored.statistic),
                ("arm_counts", logged.counts, stored.counts),
            )
            for field in fields(of_log)  # type: ignore[arg-type]  # every family is a dataclass
        ),
        *_compare_inference(
            logged.inference,
            stored.inference,
            names=_whole_fields(audit),
            derivable=(derivable := _is_whole(audit, logged)),
        ),
        *_compare_senders(
            logged.senders,
            stored.senders,
            derivable=derivable,
            older=audit.snapshot is not None and SenderSums.is_older(audit.snapshot.senders),
        ),
        _compare_verdicts(logged.verdicts, stored.verdicts),
        *_compare_guardrails(logged.guardrails, stored.guardrails, derivable=derivable),
        *(
            VerifyReport(
                f"data_quality.{name}",
                _count(audit.data_quality, name),
                _count(audit.record.data_quality, name),
            )
            for name in DataQualityCounts.__struct_fields__
        ),
    ]


def _count(counts: DataQualityCounts, name: str) -> FloatArray:
    return np.array([getattr(counts, name)], dtype=np.float64)


def _is_whole(audit: LogAudit, logged: Sums) -> bool:
    """Return true where the probabilities of every decision are in the sums of them."""
    ratio = logged.inference.ratio
    return _is_derivable(audit) and np.array_equal(ratio.sent, logged.counts.sent[:-1])


def _is_derivable(audit: LogAudit) -> bool:
    """Return true where the probabilities of every decision are kept, or can be derived again."""
    return audit.derivable or not audit.record.configuration.policy.statistic.contextual


def _whole_fields(audit: LogAudit) -> tuple[str, ...]:
    """Name the sums of inference that have every decision: not all while some are made anew."""
    if audit.resummation is not None:
        return InferenceState.fields_since(audit.resummation.from_format)
    if audit.snapshot is None:
        return tuple(f.name for f in fields(InferenceState))
    return InferenceState.fields_since(InferenceState.format_of(audit.snapshot.inference_state))


def _compare_inference(
    logged: InferenceState, stored: InferenceState, *, names: Sequence[str], derivable: bool
) -> list[VerifyReport]:
    """Compare `names` of the sums of inference, each in the places that either has.

    Where the policy uses the context, probabilities of decisions whose snapshot was erased, or is
    no longer kept, cannot be derived again, neither to add nor to subtract them: once there are
    any, the sums of probabilities are left out.
    """
    logged, stored = (state.restricted_to(names) for state in (logged, stored))
    both = logged + stored
    one, other = (g.parts(like=both) for g in (logged, stored))
    return [
        VerifyReport(f"results.{name}", one[name], other[name])
        for name in one
        if name.partition(".")[0] in names and (derivable or not name.startswith(_OF_PROBABILITIES))
    ]


def _compare_senders(
    logged: SenderSums, stored: SenderSums, *, derivable: bool, older: bool
) -> list[VerifyReport]:
    """Compare sums by key, in the places that either has; probabilities as `_compare_inference`.

    Sums of an `older` format have no closed decisions until the next fold.
    """
    if older:
        logged = logged.without_closed()
    keys = np.union1d(logged.keys, stored.keys)
    one, other = logged.spread(keys), stored.spread(keys)
    reports = [VerifyReport("senders.counts", one.counts, other.counts)]
    if derivable:
        reports.append(VerifyReport("senders.ratio", one.ratio, other.ratio))
    return reports


def _compare_verdicts(logged: EventVerdictCounts, stored: EventVerdictCounts) -> VerifyReport:
    """Compare counts of judged events, in the places that either has."""
    keys = tuple(sorted({*logged.keys, *stored.keys}))
    return VerifyReport("verdicts.counts", logged.spread(keys), stored.spread(keys))


def _compare_guardrails(
    logged: GuardrailSums, stored: GuardrailSums, *, derivable: bool
) -> list[VerifyReport]:
    """Compare sums of guardrails; bets rest on probabilities, as `_compare_inference` says."""
    heights = stored.heights | logged.heights
    names = {"counts": slice(COUNTS), **({"bets": slice(COUNTS, None)} if derivable else {})}
    return [
        VerifyReport(
            f"guardrails.{name}", logged.spread(heights, rows), stored.spread(heights, rows)
        )
        for name, rows in names.items()
    ]


def _report_progress(
    portions: Iterator[DecisionColumns], progress: Callable[[int], None]
) -> Iterator[DecisionColumns]:
    for portion in portions:
        yield portion
        progress(len(portion))


def count_sent(audit: LogAudit) -> int:
    """Count the decisions that a comparison reads."""
    counts = load_sums(audit.record.configuration, audit.snapshot).counts
    gone = (
        0.0
        if audit.retained is None
        else float(ArmCounts.load(audit.retained.arm_counts).sent.sum())
    )
    return int(counts.sent.sum() - gone)
