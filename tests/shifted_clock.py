"""Clock of a server that a test sets forward, so that hours pass at once."""

import struct
import time
from pathlib import Path


class ShiftedClock:
    """Clock that is some seconds ahead of this process's.

    Attributes:
        settings: for the environment of a program, which then goes by this clock.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the shift in a file of `folder`."""
        self._file = folder / "clock"
        self._file.write_bytes(struct.pack("d", 0.0))
        self._ahead = 0.0
        self.settings = {
            "TEST_CLOCK": str(self._file),
            "PYTHONPATH": str(Path(__file__).with_name("clock")),
        }

    def __call__(self) -> float:
        """Return the time, in seconds since 1970."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead += seconds
        with self._file.open("r+b") as file:
            file.write(struct.pack("d", self._ahead))
