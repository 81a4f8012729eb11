"""Engine: the use cases, and the handlers, folds and analysis that they call."""

from bandits.engine.choose import MAX_BATCH
from bandits.engine.engine import Clock, Engine

__all__ = ["MAX_BATCH", "Clock", "Engine"]
