"""When something happened, by our clock and by the sender's."""

from datetime import UTC, datetime

import pytest

from bandits.engine.attribution import SKEW_SECONDS
from bandits.engine.event_time import resolve_event_time

START, NOW = 1_000_000.0, 1_010_000.0


def told(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("said", "when"),
    [
        (None, (NOW, False)),
        (told(START + 5), (START + 5, False)),
        (told(START - SKEW_SECONDS), (START - SKEW_SECONDS, False)),
        (told(START - SKEW_SECONDS - 1), None),
        (told(NOW + SKEW_SECONDS), (NOW, False)),
        (told(NOW + SKEW_SECONDS + 1), (NOW, True)),
    ],
)
def test_event_time_in_the_future_is_now_and_too_early_is_refused(
    said: datetime | None, when: tuple[float, bool] | None
) -> None:
    assert resolve_event_time(said, START, NOW) == when


def test_event_time_is_never_before_the_start_while_our_clock_is_behind() -> None:
    stepped_back = START - 3600
    assert resolve_event_time(None, START, stepped_back) == (START, False)
    assert resolve_event_time(told(START + 60), START, stepped_back) == (START, True)
