"""When an experiment starts and ends by itself."""

from bandits.store.records import ExperimentRecord, State

SCHEDULE = "schedule"  # who did it, in the audit log


def scheduled(record: ExperimentRecord, now: float) -> State | None:
    """Return the state that `record` should move to by its dates, None where it stays."""
    if over(record, now):
        return "stopped" if record.state in {"running", "paused"} else None
    starts_at = record.configuration.experiment.starts_at
    due = starts_at is not None and starts_at.timestamp() <= now
    return "running" if due and record.state == "draft" else None


def over(record: ExperimentRecord, now: float) -> bool:
    """Tell whether its end has passed."""
    ends_at = record.configuration.experiment.ends_at
    return ends_at is not None and ends_at.timestamp() <= now
