"""File alerts: who uploaded a file is told once its job has ended."""

from collections.abc import Callable

from storage.outgoing import NewNotice
from webapp.jobs.uploads import Upload
from webapp.notices.alert_kinds import listeners
from webapp.notices.alert_watch import ALERT
from webapp.services import Services


def tell_uploader(services: Services) -> Callable[[Upload], None]:
    """Return what puts the alert of an upload that ended into the outbox."""

    def tell(upload: Upload) -> None:
        if upload.stage == "done":
            alert, subject, text = "file_ready", f"{upload.name} is ready", "Every row is done."
        elif upload.stage in {"refused", "broken"}:
            alert, subject = "file_failed", f"{upload.name} has failed"
            text = " ".join(upload.faults[:3])
        else:  # somebody looks at it on its page
            return
        outgoing, at = services.outgoing, services.engine.clock()
        targets = listeners(outgoing.alerts, services.accounts, alert, since=at, only=upload.by)
        content = {
            "alert": alert,
            "subject": subject,
            "text": text,
            "path": f"/experiments/{upload.experiment}/files/{upload.id}",
        }
        event = f"file:{upload.id}:{upload.stage}:{upload.done}"
        outgoing.outbox.add([NewNotice(event, t, ALERT, content) for t in targets], at=at)

    return tell
