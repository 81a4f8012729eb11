"""Replacements: events that stand in the place of earlier ones of their id, which are void.

An event is in the log once by its decision and id. Where what was reported under an id is void, the
id is free again: the next event of it is stored under the id, a space, which is in no id, and the
number of its place among all of this id. Nothing is removed, so that a snapshot from before the
void can be made again. Of the events of one id the newest that is not void counts, also after the
void is restored.
"""

from collections.abc import Sequence

_MARK = " "


def replacement_id(event_id: str, place: int) -> str:
    """Name the event that is the `place`-th of an id, from 2 on."""
    return f"{event_id}{_MARK}{place}"


def split_id(stored_id: str) -> tuple[str, int]:
    """Return the id that was reported, and the place of an event among those of this id."""
    event_id, _, place = stored_id.partition(_MARK)
    return event_id, int(place or 1)


def newest_places(decisions: Sequence[int], stored_ids: Sequence[str]) -> list[int] | None:
    """Find the positions of the newest event of each decision and id, ascending.

    Args:
        decisions: n numbers.
        stored_ids: n ids, as they are stored.

    Returns:
        None where that is all of them.
    """
    if not any(_MARK in stored_id for stored_id in stored_ids):
        return None
    newest: dict[tuple[int, str], tuple[int, int]] = {}
    for position, (decision, stored_id) in enumerate(zip(decisions, stored_ids, strict=True)):
        event_id, place = split_id(stored_id)
        key = (decision, event_id)
        newest[key] = max(newest.get(key, (0, 0)), (place, position))
    return sorted(position for _, position in newest.values())
