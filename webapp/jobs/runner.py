"""Working through an upload behind the page that asked for it."""

import logging
from collections.abc import Callable, Mapping
from threading import Thread
from typing import IO

from msgspec.structs import replace

from bandits.engine import Engine
from bandits.errors import BanditsError, InvalidInput
from webapp.jobs.choose_upload import choose
from webapp.jobs.reward_upload import report
from webapp.jobs.uploads import Kind, Stage, Upload, Uploads

Work = Callable[[Uploads, Upload, Engine], None]
_WORK: Mapping[Kind, Work] = {"recipients": choose, "results": report}
_log = logging.getLogger(__name__)


def start(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Work through what is left of an upload in a thread; one that is worked on is left alone."""
    held = uploads.hold(upload)
    if held is not None:
        upload = replace(upload, stage="working", faults=())
        uploads.save(upload)
        work = (held, uploads, upload, engine)
        Thread(target=_work, args=work, name="upload", daemon=True).start()


def _work(held: IO[bytes], uploads: Uploads, upload: Upload, engine: Engine) -> None:
    with held:
        stage, faults = _through(uploads, upload, engine)
        newest = uploads.find(upload.experiment, upload.id)
        uploads.save(replace(newest, stage=stage, faults=faults))


def _through(uploads: Uploads, upload: Upload, engine: Engine) -> tuple[Stage, tuple[str, ...]]:
    try:
        _WORK[upload.kind](uploads, upload, engine)
    except InvalidInput as error:
        return "refused", tuple(fault.detail for fault in error.faults)
    except (BanditsError, OSError) as error:
        return "broken", (str(error),)
    except Exception:  # noqa: BLE001 - whoever waits is told, whatever it was
        _log.exception("an upload of %s failed", upload.experiment)
        return "broken", ("something of ours failed; the server's log tells what",)
    return "done", ()
