"""Statistics of policies, one module per family; policies of one family can follow each other."""

from bandits.statistics.answer_delays import AGEING, AnswerDelays, SendTimes
from bandits.statistics.logistic import LogisticSums
from bandits.statistics.moments import Moments
from bandits.statistics.ridge import Ridge
from bandits.statistics.slot_ridge import SlotRidge
from bandits.statistics.statistic import NOTHING, Statistic, dump, load

__all__ = [
    "AGEING",
    "NOTHING",
    "AnswerDelays",
    "LogisticSums",
    "Moments",
    "Ridge",
    "SendTimes",
    "SlotRidge",
    "Statistic",
    "dump",
    "load",
]
