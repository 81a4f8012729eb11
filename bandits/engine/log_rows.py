"""Log rows: decisions in columns for an evaluation elsewhere, and the description of a log."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.allocation_reader import AllocationReader
from bandits.engine.analysis.receipts import label
from bandits.engine.sums import measure_rewards
from bandits.features import Feature
from bandits.store.values import AllocationKey, DecisionColumns, ExperimentRecord
from bandits.versions import Configuration, decode_restriction

LOG_FORMAT = 1
LogState = Literal["pending", "matured", "closed"]

_SAME = 1e-6  # a probability derived again may differ by rounding between machines
_AT_ONCE = 10_000  # decisions whose probabilities are derived together


class LogDescription(Struct, frozen=True):
    """Description of an exported log, which travels with the file.

    Attributes:
        format: of the file's columns.
        experiment: its key.
        arms: the names of the K arms; lists by arm in the file have their order.
        slots: the keys of the S slots.
        variants: (K, S), the variant of each slot that each arm shows.
        control: the number of the control.
        policy: the name of the newest policy.
        metrics: the names of the declared metrics.
        features: the context features as they are declared.
        low: the smallest reward that a decision can earn.
        high: the largest.
        goal: the better direction of the reward.
    """

    format: int
    experiment: str
    arms: tuple[str, ...]
    slots: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...]
    control: int
    policy: str
    metrics: tuple[str, ...]
    features: tuple[Feature, ...]
    low: float
    high: float
    goal: Literal["maximise", "minimise"]

    @classmethod
    def of(cls, configuration: Configuration) -> "LogDescription":
        """Describe the log of an experiment by its newest configuration."""
        experiment = configuration.experiment
        low, high = experiment.reward.bounds
        return cls(
            LOG_FORMAT,
            experiment.key,
            tuple(label(configuration, arm) for arm in range(len(configuration.arms))),
            tuple(slot.key for slot in experiment.slots),
            tuple(arm.variants for arm in configuration.arms),
            configuration.control,
            experiment.policy.name,
            tuple(experiment.reward.names),
            tuple(experiment.context),
            low,
            high,
            experiment.reward.goal,
        )

    @property
    def slot_levels(self) -> IntArray:
        """Number of the variant that each arm shows in each slot, (K, S)."""
        columns = [
            np.unique(column, return_inverse=True)[1] for column in zip(*self.variants, strict=True)
        ]
        return np.stack(columns, axis=1).astype(np.int64)


class LogRows(Struct, frozen=True, eq=False):
    """n decisions of a log.

    Attributes:
        arms: (n,) int.
        propensities: (n,) as they were drawn with.
        probabilities: (n, K) of every arm; a row of NaN where it cannot be derived, and of those
            who are held out.
        eligible: (n, K) bool.
        contexts: by feature, n values: numbers or texts, None for an unlisted category.
        metrics: by name, (n,) the aggregated value.
        rewards: (n,) after costs.
        states: n, whether silence counts as zero already, and whether the window is over.
    """

    arms: IntArray
    propensities: FloatArray
    probabilities: FloatArray
    eligible: BoolArray
    contexts: Mapping[str, Sequence[Any]]
    metrics: Mapping[str, FloatArray]
    rewards: FloatArray
    states: Sequence[LogState]


def make_log_rows(
    record: ExperimentRecord, past: AllocationReader, decisions: DecisionColumns
) -> LogRows:
    """Turn stored decisions into rows that need no other table to be read.

    Args:
        record: the experiment.
        past: its probabilities.
        decisions: with the events that count.
    """
    configuration = record.configuration
    rewards = measure_rewards(configuration, decisions)
    probabilities, eligible = _derive_probabilities(record, past, decisions)
    names = configuration.experiment.reward.names
    return LogRows(
        decisions.arms,
        decisions.propensities,
        probabilities,
        eligible,
        _decode_columns(configuration.experiment.context, decisions.contexts),
        dict(zip(names, rewards.metrics, strict=True)),
        rewards.net,
        _states(decisions),
    )


def _states(decisions: DecisionColumns) -> list[LogState]:
    flags = zip(decisions.learned.tolist(), decisions.closed.tolist(), strict=True)
    return ["closed" if over else "matured" if learned else "pending" for learned, over in flags]


def _derive_probabilities(
    record: ExperimentRecord, past: AllocationReader, decisions: DecisionColumns
) -> tuple[FloatArray, BoolArray]:
    n, n_arms = len(decisions), len(record.configuration.arms)
    probabilities = np.full((n, n_arms), np.nan)
    eligible = np.zeros((n, n_arms), dtype=np.bool_)
    for origin, rows in _rows_by_key(decisions):
        arms = past.configuration(origin[0]).eligible(decode_restriction(origin[2]))
        eligible[np.ix_(rows, arms)] = True
        drawn = rows[~decisions.holdout[rows]]
        if not past.contextual(origin[0]):
            allocation = past.allocation(*origin)
            if allocation is not None:
                probabilities[drawn] = allocation
            continue
        active = past.policy(*origin[:2])
        if active is None:
            continue
        for start in range(0, len(drawn), _AT_ONCE):
            part = drawn[start : start + _AT_ONCE]
            derived = active.probabilities_or_none(arms, decisions.contexts[part])
            if derived is not None:
                probabilities[part] = 0.0
                probabilities[np.ix_(part, arms)] = derived
    sent = probabilities[np.arange(n), decisions.arms]
    differs = ~(np.abs(sent - decisions.propensities) <= _SAME)
    probabilities[differs] = np.nan
    return probabilities, eligible


def _rows_by_key(decisions: DecisionColumns) -> list[tuple[AllocationKey, IntArray]]:
    """Group rows by what their probabilities were drawn from."""
    rows: defaultdict[AllocationKey, list[int]] = defaultdict(list)
    keys = zip(
        decisions.configuration_versions.tolist(),
        decisions.policy_versions.tolist(),
        decisions.eligible_sets,
        strict=True,
    )
    for row, key in enumerate(keys):
        rows[key].append(row)
    return [(key, np.array(of_key)) for key, of_key in rows.items()]


def _decode_columns(features: Sequence[Feature], contexts: FloatArray) -> dict[str, list[Any]]:
    """Decode contexts (n, d) to the values of each feature."""
    columns: dict[str, list[Any]] = {}
    at = 1
    for feature in features:
        part = contexts[:, at : at + feature.width]
        at += feature.width
        distinct, places = np.unique(part, axis=0, return_inverse=True)
        values = [feature.read(row) for row in distinct]
        columns[feature.name] = [values[place] for place in places.ravel().tolist()]
    return columns
