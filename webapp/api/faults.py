"""What does not fit in a request's body: found in its text, once msgspec has refused that."""

import json
from typing import Any

from bandits.errors import Fault, InvalidInput
from bandits.faults import misfit
from webapp.api.outline import repeated_name

_DIGITS = 400  # more than the largest double has


def invalid(text: bytes, kind: Any) -> InvalidInput:
    """Make the error for a valid JSON text that is not of a type."""
    fault = misfit(json.loads(text.decode(), parse_int=_whole), kind)
    if fault is None and (place := repeated_name(text)) is not None:  # of which one does not fit
        fault = Fault(place, "comes twice in one object")
    return InvalidInput([fault or Fault("", "is not as declared")])


def _whole(digits: str) -> float:
    """Read a whole number; one that no double holds is infinite, however long it is."""
    return int(digits) if len(digits) < _DIGITS else float(digits)
