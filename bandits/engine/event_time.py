"""When something happened: what a sender's clock says, and how far it is believed."""

from datetime import datetime

SKEW_SECONDS = 300.0  # how far a sender's clock may run behind or ahead of ours


def resolve_event_time(
    told: datetime | None, started_at: float, now: float
) -> tuple[float, bool] | None:
    """Place an event in time, by our clock; None where it is too early to be of its decision.

    Nothing happens after it is reported, so what is told from the future happened now. Nobody
    answers an email before it is sent either: where our own clock was stepped back since, what is
    reported without a time happened at the start.

    Args:
        told: when it happened by the sender's clock, if that was told.
        started_at: when the decision's clocks started, seconds since 1970.
        now: the same, by our clock.

    Returns:
        When it happened, and whether the two clocks are further apart than is forgiven.
    """
    newest = max(now, started_at)
    if told is None:
        return newest, False
    moment = told.timestamp()
    if moment < started_at - SKEW_SECONDS:
        return None
    return min(moment, newest), moment > now + SKEW_SECONDS
