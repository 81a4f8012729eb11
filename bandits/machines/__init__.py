"""Machines: verdicts on opens and clicks, whether a person or a machine made them.

>>> from bandits.machines import count_networks, judge_events
>>> verdicts = judge_events(events, count_networks(events))

`agents` and `networks` reduce what a request says of its sender to what may be kept; `rules` has
the rules, by version.
"""

from bandits.machines.agents import AgentClass, agent_class
from bandits.machines.networks import NetworkCounts, network_hash
from bandits.machines.rules import (
    NEWEST_RULES,
    RULES,
    EventVerdict,
    EventVerdicts,
    MachineRules,
    VerdictReason,
    count_networks,
    judge_events,
)
from bandits.machines.tracked_events import EventKind, TrackedEvents

__all__ = [
    "NEWEST_RULES",
    "RULES",
    "AgentClass",
    "EventKind",
    "EventVerdict",
    "EventVerdicts",
    "MachineRules",
    "NetworkCounts",
    "TrackedEvents",
    "VerdictReason",
    "agent_class",
    "count_networks",
    "judge_events",
    "network_hash",
]
