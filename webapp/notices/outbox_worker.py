"""Outbox worker: sends what is in the outbox, tries again what may help, and says what failed."""

import logging
from threading import Event

from bandits.engine import Engine
from bandits.engine.arm_counts import ArmCounts
from bandits.errors import AlreadyExists, NotFound
from bandits.experiment import DAY
from storage.accounts import AccountStore
from storage.outgoing import MailSettings, Notice, OutgoingStores
from webapp.egress import EgressGuard, EgressRefused
from webapp.notices.alert_kinds import WEEKLY
from webapp.notices.alert_watch import verdict_sentences
from webapp.notices.mails import (
    MailText,
    Unwritable,
    WeeklyCampaign,
    encode_mail,
    mail_of_alert,
    mail_of_invitation,
    mail_of_reset,
    mail_of_week,
    submission_by,
)
from webapp.notices.webhook_calls import CallFailed, call_target
from webapp.pages.experiment.labels import STATES
from webapp.pages.formatting import plural
from webapp.smtp import MailDeferred, MailRefused, MailSubmission, MailUncertain

INVITATION, RESET = "invitation", "reset"  # kinds of notice, beside alerts and the weekly summary
MOST_ATTEMPTS = 6
KEPT_SECONDS = 400 * DAY
_FIRST_RETRY_SECONDS = 60.0
_RETRY_FACTOR = 4.0
_LOOK_SECONDS = 2.0
_RESET_SECONDS = 3600.0  # after which nobody waits for the link any more
_log = logging.getLogger(__name__)


class NotSent(Exception):
    """A notice that was not sent; `again` where another attempt may help."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


class TakenOver(Exception):
    """Another sender took the notice over, so it is not sent here."""


class OutboxWorker:
    """Thread that sends until it is stopped."""

    def __init__(  # noqa: PLR0913 - what it sends, by what, and from where
        self,
        engine: Engine,
        accounts: AccountStore,
        outgoing: OutgoingStores,
        *,
        guard: EgressGuard,
        public_url: str | None,
        stop: Event,
    ) -> None:
        """Send what `outgoing` has; links begin with `public_url`."""
        self._engine = engine
        self._accounts = accounts
        self._outgoing = outgoing
        self._guard = guard
        self._root = (public_url or "").rstrip("/")
        self._stop = stop
        self._mail: tuple[MailSettings, MailSubmission] | None = None
        self._clean_at = 0.0

    def run(self) -> None:
        """Send until stopped; no error ends the loop."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without it nobody is told any more
                _log.warning("cannot send what is in the outbox: %s", error)
            self._stop.wait(_LOOK_SECONDS)
        self.close()

    def close(self) -> None:
        """End the connections that are idle."""
        if self._mail is not None:
            self._mail[1].close()

    def look(self) -> int:
        """Send everything that is due; return how many notices were sent."""
        outbox, at, sent = self._outgoing.outbox, self._engine.clock(), 0
        if at >= self._clean_at:
            self._clean_at = at + _FIRST_RETRY_SECONDS
            outbox.give_up(at=at)
            outbox.remove_before(at - KEPT_SECONDS)
        while not self._stop.is_set():
            notice = outbox.claim(at=self._engine.clock())
            if notice is None:
                break
            sent += self._try(notice)
        return sent

    def _try(self, notice: Notice) -> bool:
        outbox = self._outgoing.outbox
        try:
            self._send(notice)
        except TakenOver:
            return False
        except NotSent as error:
            _log.warning("notice %d was not sent: %s", notice.id, error)
            if error.again and notice.attempts < MOST_ATTEMPTS:
                wait = _FIRST_RETRY_SECONDS * _RETRY_FACTOR ** (notice.attempts - 1)
                outbox.retry(notice, str(error), due_at=self._engine.clock() + wait)
            else:
                outbox.fail(notice, str(error))
            return False
        outbox.confirm(notice, at=self._engine.clock())
        return True

    def _send(self, notice: Notice) -> None:
        """Send a notice.

        Raises:
            NotSent: it was not sent.
            TakenOver: another sender has it.
        """
        kind, _, number = notice.target.partition(":")
        if kind == "target":
            self._call(notice, int(number))
            return
        try:
            recipient, mail = self._write(notice)
        except (NotFound, AlreadyExists):
            raise NotSent("it is for nobody any more") from None
        self._send_mail(notice, recipient, mail)

    def _call(self, notice: Notice, number: int) -> None:
        try:
            target = self._outgoing.alerts.target(number)
        except NotFound:
            raise NotSent("its webhook or chat was removed") from None
        self._begin(notice)
        address = self._address(notice.content.get("path", ""))
        try:
            call_target(self._guard, target, notice, address, at=self._engine.clock())
        except CallFailed as error:
            raise NotSent(str(error), again=error.again) from None

    def _write(self, notice: Notice) -> tuple[str, MailText]:
        """Write a mail; return whom it is for and what it says.

        Raises:
            NotFound: it is for nobody any more.
            NotSent: it comes too late, or the server does not know its own address.
        """
        at, content = self._engine.clock(), notice.content
        if notice.kind in {INVITATION, RESET}:
            return self._write_link(notice, at)
        user = self._accounts.user_by_id(int(notice.target.partition(":")[2]))
        account = self._address("/settings")
        if notice.kind == WEEKLY:
            return user.email, mail_of_week(self._campaigns(at), account)
        address = self._address(content["path"])
        return user.email, mail_of_alert(content["subject"], content["text"], address, account)

    def _write_link(self, notice: Notice, at: float) -> tuple[str, MailText]:
        if not self._root:
            raise NotSent("BANDITS_PUBLIC_URL is not set, so a link leads nowhere")
        links, email = self._accounts.links, notice.content["email"]
        if notice.kind == RESET:
            if at - notice.created_at > _RESET_SECONDS:
                raise NotSent("the mail server did not take it within an hour")
            code = links.create_reset(email, at=at, by=notice.content["by"])
            return email, mail_of_reset(f"{self._root}/new-password#{code}")
        code = links.renew_invitation(int(notice.content["number"]), at=at)
        address, workspace = f"{self._root}/invitation#{code}", self._outgoing.workspace.name()
        return email, mail_of_invitation(address, notice.content["by"], workspace)

    def _campaigns(self, at: float) -> list[WeeklyCampaign]:
        """Return the campaigns that ran in the last week."""
        campaigns = []
        for record in self._engine.store.experiments.records():
            is_recent = record.stopped_at is None or at - record.stopped_at <= 7 * DAY
            if not record.started or record.state == "archived" or not is_recent:
                continue
            newest = self._engine.store.snapshots.history(record.key, 1)
            sent = round(ArmCounts.load(newest[-1].arm_counts).sent.sum()) if newest else 0
            campaigns.append(
                WeeklyCampaign(
                    record.configuration.experiment.title,
                    STATES[record.state],
                    plural(sent, "email"),
                    verdict_sentences(record, self._engine.results(record.key), at),
                    self._address(f"/experiments/{record.key}"),
                )
            )
        return campaigns

    def _send_mail(self, notice: Notice, recipient: str, mail: MailText) -> None:
        settings = self._outgoing.mail_settings.read()
        if settings is None:
            raise NotSent("no mail server is set under Settings → Email", again=True)
        submission = self._submission(settings)
        sender = (self._outgoing.workspace.name(), settings.sender)
        name = f"{notice.event} {notice.target}"
        try:
            content = encode_mail(mail, sender, recipient, message_id=name)
            submission.send(
                settings.sender, recipient, content, before_data=lambda: self._begin(notice)
            )
        except (Unwritable, MailRefused) as error:
            raise NotSent(str(error)) from None
        except MailUncertain as error:
            raise NotSent(f"{error}; it may have arrived, so it is not sent again") from None
        except (MailDeferred, EgressRefused) as error:
            raise NotSent(str(error), again=True) from None

    def _submission(self, settings: MailSettings) -> MailSubmission:
        if self._mail is None or self._mail[0] != settings:
            self.close()
            self._mail = (settings, submission_by(settings, self._guard))
        return self._mail[1]

    def _begin(self, notice: Notice) -> None:
        if not self._outgoing.outbox.begin(notice):
            raise TakenOver

    def _address(self, path: str) -> str:
        return f"{self._root}{path}" if self._root and path else ""
