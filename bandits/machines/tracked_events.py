"""Tracked events: opens and clicks with what verdicts rest on, column by column."""

from collections.abc import Sequence
from enum import IntEnum, IntFlag

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray


class EventKind(IntEnum):
    """Kind of a tracked event; the numbers are stored."""

    OPEN = 0
    CLICK = 1


class EventSign(IntFlag):
    """Sign that a sender or a link itself gives; the sum of an event's is stored."""

    FLAGGED = 1
    HEAD = 2
    HONEYPOT = 4
    UNSUBSCRIBE = 8


class TrackedEvents(Struct, frozen=True, eq=False):
    """n opens and clicks in any order. Times are seconds since 1970-01-01 UTC.

    Attributes:
        emails: (n,) int, the number of the email that each is of.
        kinds: (n,) int, `EventKind`.
        times: (n,) when each happened.
        received: (n,) when each was received here.
        since_delivery: (n,) seconds from the email's delivery, below 0 before it; where that is not
            known, from a time that is surely no later, or NaN.
        links: (n,) int, the link that was followed, 0 where that is not known.
        networks: (n,) int, `network_hash` of the address, 0 where that is not known.
        agents: (n,) int, `AgentClass`.
        flagged: (n,) bool, the sender says that a machine did it.
        head: (n,) bool, an HTTP request for the head alone.
        honeypot: (n,) bool, the link cannot be seen in the email.
        unsubscribe: (n,) bool, the link unsubscribes.
    """

    emails: IntArray
    kinds: IntArray
    times: FloatArray
    received: FloatArray
    since_delivery: FloatArray
    links: IntArray
    networks: IntArray
    agents: IntArray
    flagged: BoolArray
    head: BoolArray
    honeypot: BoolArray
    unsubscribe: BoolArray

    def __len__(self) -> int:
        return len(self.emails)

    def take(self, rows: IntArray | BoolArray) -> "TrackedEvents":
        """Return those at positions, or of a mask."""
        return TrackedEvents(*(getattr(self, name)[rows] for name in self.__struct_fields__))

    @classmethod
    def concatenate(cls, parts: Sequence["TrackedEvents"]) -> "TrackedEvents":
        """Put one part or more behind each other."""
        names = cls.__struct_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @property
    def minutes(self) -> IntArray:
        """(n,) int, the minute in which each happened."""
        return (self.times // 60).astype(np.int64)
