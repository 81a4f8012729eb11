"""The engine: its use cases, and what decides, learns and tells beneath them."""

from bandits.engine.choose import MAX_BATCH
from bandits.engine.engine import Clock, Engine

__all__ = ["MAX_BATCH", "Clock", "Engine"]
