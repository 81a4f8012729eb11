"""Labelled logs of opens and clicks: mailboxes, the machines that look at them, and the people.

>>> from simulations.mail import WORLDS, count_judged, draw_mail_log, score
>>> log = draw_mail_log(WORLDS["newsletter"], rng.random(20_000) < 0.04, rng)
>>> score(log, count_judged(log))

`mail_world` has the figures, each with its reason, `named_worlds` worlds to begin with, `mail_log`
draws a log, `mail_score` scores verdicts on it, and `mail_campaign` learns from it.
"""

from simulations.mail.mail_campaign import (
    CampaignCourse,
    MailCampaign,
    count_all,
    count_judged,
    count_people,
    run_mail_campaign,
)
from simulations.mail.mail_log import MailLog, draw_mail_log
from simulations.mail.mail_score import MailScore, score
from simulations.mail.mail_world import MailScanner, MailWorld
from simulations.mail.named_worlds import BEYOND, DEVELOPMENT, HELD_OUT, WORLDS, draw_world

__all__ = [
    "BEYOND",
    "DEVELOPMENT",
    "HELD_OUT",
    "WORLDS",
    "CampaignCourse",
    "MailCampaign",
    "MailLog",
    "MailScanner",
    "MailScore",
    "MailWorld",
    "count_all",
    "count_judged",
    "count_people",
    "draw_mail_log",
    "draw_world",
    "run_mail_campaign",
    "score",
]
