"""The engine: its use cases, and what decides, learns and tells beneath them."""

from bandits.engine.use_cases import MAX_BATCH, Clock, Engine

__all__ = ["MAX_BATCH", "Clock", "Engine"]
