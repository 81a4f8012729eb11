"""Lengths of time as people say them: an amount and a unit."""

UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


def split(seconds: float) -> tuple[str, str]:
    """Return the amount and the largest unit that says `seconds` in a whole number."""
    for unit, length in reversed(UNITS.items()):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}", unit
    return f"{seconds:.12g}", "seconds"


def every(seconds: float) -> str:
    """Write how often: "every minute", "every 2 hours"."""
    amount, unit = split(seconds)
    return f"every {unit.removesuffix('s')}" if amount == "1" else f"every {amount} {unit}"


def say(seconds: float) -> str:
    """Write a length of time: "7 days", "1 hour", "90 seconds"."""
    amount, unit = split(seconds)
    return f"{amount} {unit.removesuffix('s') if amount == '1' else unit}"
