"""The store that the engine needs: a port. Tables and SQL are in the package ``storage``."""

from bandits.store.store import Beside, StaleRead, Store, UnfitRepeat

__all__ = ["Beside", "StaleRead", "Store", "UnfitRepeat"]
