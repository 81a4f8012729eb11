"""What is learned, one module per family; policies of one family can follow each other."""

from bandits.statistics.family import NOTHING, Additive, Statistic, dump, load
from bandits.statistics.logistic import Logistic
from bandits.statistics.moments import Moments
from bandits.statistics.ridge import Ridge
from bandits.statistics.slot_ridge import SlotRidge

__all__ = [
    "NOTHING",
    "Additive",
    "Logistic",
    "Moments",
    "Ridge",
    "SlotRidge",
    "Statistic",
    "dump",
    "load",
]
