"""Bounces: whether the address or the email is the reason, by the status code of RFC 3463."""

import re

from webapp.signals.signal_event import BounceClass

_CODE = re.compile(r"(?<!\d)(?<!\d\.)5\.(\d{1,3})\.(\d{1,3})(?!\d|\.\d)")
# By subject, the details that say it; other details of these subjects say neither.
_BY_DETAIL: dict[str, dict[str, BounceClass]] = {
    "2": {"1": "address", "3": "content"},  # mailbox disabled; message too long for it
    "3": {"4": "content"},  # message too big for the system
    "4": {"4": "address"},  # unable to route: there is no such domain
}
_SENDERS_ADDRESS = {"7", "8"}


def bounce_class(*texts: object) -> BounceClass | None:
    """Classify a permanent failure by the first status code in texts, which may be anything else.

    ``5.1.…`` is about the address, but for the sender's; ``5.6.…`` and ``5.7.…`` are about the
    email or who sends it. None where no code tells.
    """
    for text in texts:
        if isinstance(text, str) and (code := _CODE.search(text[:1000])):
            return _class_of(*code.groups())
    return None


def _class_of(subject: str, detail: str) -> BounceClass | None:
    if subject == "1" and detail not in _SENDERS_ADDRESS:
        return "address"
    if subject in {"6", "7"}:
        return "content"
    return _BY_DETAIL.get(subject, {}).get(detail)
