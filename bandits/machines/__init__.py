"""Machines: verdicts on opens and clicks, whether a person or a machine made them.

>>> from bandits.machines import count_networks, judge_events
>>> verdicts = judge_events(events, count_networks(events))

`event_traces` reduces what a request says of its sender to what may be kept; `rules` has the rules,
by version.
"""

from bandits.machines.agents import AgentClass, agent_class
from bandits.machines.event_traces import EventTrace, event_trace
from bandits.machines.mailboxes import MailboxClass, mailbox_class
from bandits.machines.networks import FrozenRows, NetworkCounts, network_hash
from bandits.machines.rules import (
    NEWEST_RULES,
    RULES,
    EventVerdict,
    EventVerdicts,
    MachineRules,
    VerdictReason,
    count_networks,
    find_swept,
    judge_events,
)
from bandits.machines.tracked_events import EventKind, EventSign, TrackedEvents

__all__ = [
    "NEWEST_RULES",
    "RULES",
    "AgentClass",
    "EventKind",
    "EventSign",
    "EventTrace",
    "EventVerdict",
    "EventVerdicts",
    "FrozenRows",
    "MachineRules",
    "MailboxClass",
    "NetworkCounts",
    "TrackedEvents",
    "VerdictReason",
    "agent_class",
    "count_networks",
    "event_trace",
    "find_swept",
    "judge_events",
    "mailbox_class",
    "network_hash",
]
