"""What every test runs under."""

import os

from hypothesis import settings

SOAK = os.environ.get("SOAK") == "1"

# The same examples in every run, so that a failure is the change's; soak looks for new ones.
# No deadline: the machine may be busy.
settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=2000)
settings.load_profile("soak" if SOAK else "test")
