"""Waves of a list: who is in which, when each is chosen for, and how far it is.

A list is dealt to waves by a keyed hash of the recipients, so a wave is a random part of it however
the list is sorted, and a plan that is read again deals the same way.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from bandits.array_types import IntArray
from bandits.errors import InvalidInput
from bandits.experiment import DAY, Combination

MOST_WAVES = 50
LONGEST_SECONDS = 60 * DAY  # from the plan to its last wave: for so long the list is kept
LEAST_GAP_SECONDS = 60.0
LATE_SECONDS = 60.0  # a wave that is later than that moves those after it

# waiting: for its time. working: it is being chosen for. ready: to be downloaded and sent.
# broken: it cannot be chosen for. cancelled: by somebody.
WaveStage = Literal["waiting", "working", "ready", "broken", "cancelled"]


class Wave(Struct, frozen=True, kw_only=True):
    """A wave of a list.

    Attributes:
        recipients: different ones in it.
        at: when it is to be chosen for, seconds since 1970.
        only: the version that all of it get but the control group; None where the policy chooses.
        version: of the configuration that it is chosen under.
        read: rows of the list that are read through.
        rows: choices in its file.
        written: bytes of these.
        prepared_at: when it was ready.
        sent: somebody says that its emails are sent,
        reported: and of so many that is reported.
        faults: why it is broken, or not done yet.
    """

    recipients: int
    at: float
    stage: WaveStage = "waiting"
    only: Combination | None = None
    version: int = 0
    read: int = 0
    rows: int = 0
    written: int = 0
    prepared_at: float | None = None
    sent: bool = False
    reported: int = 0
    faults: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """True for a wave that is still to be chosen for."""
        return self.stage in {"waiting", "working", "broken"}


class WavePlan(Struct, frozen=True):
    """Waves to be planned for a list.

    Attributes:
        waves: number of them.
        first: part of the list that the first one has; the others have the rest in equal parts.
        start: time of the first one, seconds since 1970.
        gap: seconds between two.
    """

    waves: int
    first: float
    start: float
    gap: float

    def deal(self, recipients: int, *, now: float) -> tuple[Wave, ...]:
        """Return the waves of a list of so many different recipients.

        Raises:
            InvalidInput: at ``/waves``, ``/first``, ``/start`` or ``/gap``, what does not fit.
        """
        if not 2 <= self.waves <= MOST_WAVES:  # noqa: PLR2004 - one is no plan
            raise InvalidInput.at("/waves", f"Enter a number from 2 to {MOST_WAVES}.")
        if recipients < self.waves:
            detail = f"This list has {recipients} recipients: plan at most as many waves."
            raise InvalidInput.at("/waves", detail)
        size = round(self.first * recipients)
        rest = recipients - size
        if not 1 <= size <= recipients - (self.waves - 1):
            detail = "Enter a part that leaves at least one recipient for each wave."
            raise InvalidInput.at("/first", detail)
        if self.start < now - LATE_SECONDS:
            detail = "This time is over. Choose a later one, or leave it empty."
            raise InvalidInput.at("/start", detail)
        if self.gap < LEAST_GAP_SECONDS:
            raise InvalidInput.at("/gap", "Leave at least a minute between two waves.")
        if self.start + (self.waves - 1) * self.gap > now + LONGEST_SECONDS:
            detail = "The last wave would be more than 60 days from now. Plan fewer or sooner ones."
            raise InvalidInput.at("/gap", detail)
        ends = [size + rest * i // (self.waves - 1) for i in range(self.waves)]
        sizes = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
        start = max(self.start, now)
        return tuple(Wave(recipients=n, at=start + i * self.gap) for i, n in enumerate(sizes))


def wave_of_rows(digests: Sequence[IntArray], waves: Sequence[Wave]) -> IntArray:
    """Return the wave of each usable row of a list, from portions of `wave_digests`, (n,)."""
    if not digests:
        return np.zeros(0, dtype=np.int64)
    _, rank = np.unique(np.concatenate(digests), return_inverse=True)
    ends = np.cumsum([wave.recipients for wave in waves])
    numbers = np.searchsorted(ends, rank, side="right")
    return np.minimum(numbers, len(waves) - 1)


def wave_digests(key: str, subjects: Iterable[str]) -> IntArray:
    """Return a digest of each subject under a key (n,): in their order a list is dealt."""
    joined = b"".join(
        blake2b(subject.encode(errors="surrogatepass"), digest_size=8, key=key.encode()).digest()
        for subject in subjects
    )
    return np.frombuffer(joined, dtype=np.int64)


def due_wave(waves: Sequence[Wave], now: float) -> int | None:
    """Return the wave whose turn it is, None where that is later or never."""
    for number, wave in enumerate(waves):
        if wave.is_open:
            return number if wave.at <= now and wave.stage != "broken" else None
    return None


def moved(waves: Sequence[Wave], seconds: float) -> tuple[Wave, ...]:
    """Return waves of which those that wait are moved by a time."""
    return tuple(
        replace(wave, at=wave.at + seconds) if wave.stage == "waiting" else wave for wave in waves
    )


def changed(waves: Sequence[Wave], number: int, change: Callable[[Wave], Wave]) -> tuple[Wave, ...]:
    """Return waves of which one is changed."""
    return tuple(change(wave) if i == number else wave for i, wave in enumerate(waves))


def cancelled(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """Return waves of which none is chosen for any more."""
    return tuple(
        replace(wave, stage="cancelled", faults=()) if wave.is_open else wave for wave in waves
    )
