"""File alerts: who uploaded a file is told once its job has ended, or a wave of it is ready."""

from collections.abc import Callable

from bandits.engine import Engine
from storage.accounts import AccountStore
from storage.outgoing import NewNotice, OutgoingStores
from webapp.jobs.uploads import Upload
from webapp.notices.alert_kinds import listeners
from webapp.notices.alert_watch import ALERT
from webapp.services import Services


def tell_uploader(services: Services) -> Callable[[Upload], None]:
    """Return what puts the alert of an upload that ended into the outbox."""
    return file_alerts(services.engine, services.accounts, services.outgoing)


def file_alerts(
    engine: Engine, accounts: AccountStore, outgoing: OutgoingStores
) -> Callable[[Upload], None]:
    """Return what puts the alert of an upload that ended into the outbox.

    Args:
        engine: tells the time.
        accounts: of the people who are told.
        outgoing: has the outbox.
    """

    def tell(upload: Upload) -> None:
        ready = sum(wave.stage == "ready" for wave in upload.waves)
        event = f"file:{upload.id}:{upload.stage}:{upload.done}"
        if ready and upload.stage in {"waves", "done"}:
            alert, subject = "file_ready", f"Wave {ready} of {upload.name} is ready"
            text = f"Download wave {ready} of {len(upload.waves)}, and send it."
            event = f"wave:{upload.id}:{ready}"
        elif upload.stage == "done":
            alert, subject, text = "file_ready", f"{upload.name} is ready", "Every row is done."
        elif upload.stage in {"refused", "broken"}:
            alert, subject = "file_failed", f"{upload.name} has failed"
            text = " ".join(upload.faults[:3])
        else:  # somebody looks at it on its page
            return
        at = engine.clock()
        targets = listeners(outgoing.alerts, accounts, alert, since=at, only=upload.by)
        content = {
            "alert": alert,
            "subject": subject,
            "text": text,
            "path": f"/experiments/{upload.experiment}/files/{upload.id}",
        }
        outgoing.outbox.add([NewNotice(event, t, ALERT, content) for t in targets], at=at)

    return tell
