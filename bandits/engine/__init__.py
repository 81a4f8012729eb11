"""The engine: its use cases, and what decides, learns and tells beneath them."""

from bandits.engine.deciding import MAX_BATCH
from bandits.engine.use_cases import Clock, Engine

__all__ = ["MAX_BATCH", "Clock", "Engine"]
