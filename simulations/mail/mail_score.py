"""Mail score: what verdicts on a labelled log caught, lost and left."""

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray
from bandits.machines import EventKind
from simulations.mail.mail_log import MailLog


class MailScore(Struct, frozen=True):
    """Score of verdicts on a labelled log, as fractions; NaN of nothing.

    Attributes:
        machine_clicks: machines' part of all clicks,
        machine_emails: and emails with a machine's click, of all emails with any.
        machine_opens: machines' part of all opens, nearly all of them prefetched.
        caught: machines' clicks that are set aside, of all of them,
        caught_emails: and emails without a person's click that count as not clicked, of all that a
            machine clicked.
        lost: people who clicked and count as if they had not, of all who clicked.
        caught_opens: machines' opens that are set aside, of all of them.
        lost_opens: people who opened and count as if they had not, of all whose open is reported.
    """

    machine_clicks: float
    machine_emails: float
    machine_opens: float
    caught: float
    caught_emails: float
    lost: float
    caught_opens: float
    lost_opens: float


def score(log: MailLog, counted: BoolArray) -> MailScore:
    """Score what counts: (n,) bool, the events that are taken for persons'."""
    kinds = log.events.kinds
    n = len(log.clicked)
    caught, lost, share = {}, {}, {}
    emails = {}
    for kind in EventKind:
        of_kind = kinds == kind
        machines, people = of_kind & log.by_machine, of_kind & ~log.by_machine
        share[kind] = _share(machines, of_kind)
        caught[kind] = _share(machines & ~counted, machines)
        with_person = _emails(log, people, n)
        counts = _emails(log, of_kind & counted, n)
        lost[kind] = _share(with_person & ~counts, with_person)
        only_machine = _emails(log, machines, n) & ~with_person
        emails[kind] = (
            _share(_emails(log, machines, n), _emails(log, of_kind, n)),
            _share(only_machine & ~counts, only_machine),
        )
    return MailScore(
        share[EventKind.CLICK],
        emails[EventKind.CLICK][0],
        share[EventKind.OPEN],
        caught[EventKind.CLICK],
        emails[EventKind.CLICK][1],
        lost[EventKind.CLICK],
        caught[EventKind.OPEN],
        lost[EventKind.OPEN],
    )


def _emails(log: MailLog, events: BoolArray, n: int) -> BoolArray:
    """Mark the emails (n,) of some events."""
    marked = np.zeros(n, dtype=np.bool_)
    marked[log.events.emails[events]] = True
    return marked


def _share(part: BoolArray, whole: BoolArray) -> float:
    total = np.count_nonzero(whole)
    return float(np.count_nonzero(part) / total) if total else float("nan")
