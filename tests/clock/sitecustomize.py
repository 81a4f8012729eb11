"""A clock that a test sets forward, for a program in a process of its own.

Python imports this by itself where this folder stands in ``PYTHONPATH``. ``time.time()`` then adds
the seconds that the file ``TEST_CLOCK`` holds, as `tests.shifted_clock` writes them; all else, such
as ``time.monotonic()``, stays as it is.
"""

import mmap
import os
import struct
import time

if path := os.environ.get("TEST_CLOCK"):
    with open(path, "rb") as file:  # noqa: PTH123 - at start only what is needed
        _ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    _now = time.time

    def _shifted() -> float:
        return _now() + struct.unpack("d", _ahead[:8])[0]

    time.time = _shifted
