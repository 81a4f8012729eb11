"""Wave worker: chooses for the waves of lists when their time has come."""

import logging
from threading import Event

from bandits.engine import Engine
from webapp.jobs.runner import UploadListener
from webapp.jobs.uploads import Uploads
from webapp.jobs.wave_job import prepare_due_waves

_LOOK_SECONDS = 5.0
_log = logging.getLogger(__name__)


class WaveWorker:
    """Thread that looks for waves that are due until it is stopped."""

    def __init__(
        self, uploads: Uploads, engine: Engine, ended: UploadListener, stop: Event
    ) -> None:
        """Choose by `engine` for lists in `uploads`, and hand those with a new wave to `ended`."""
        self._uploads = uploads
        self._engine = engine
        self._ended = ended
        self._stop = stop

    def run(self) -> None:
        """Look until stopped; no error ends the loop."""
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - without it no wave is ever ready
                _log.warning("cannot prepare waves: %s", error)
            self._stop.wait(_LOOK_SECONDS)

    def look(self) -> int:
        """Prepare the waves that are due; return how many are ready now."""
        return prepare_due_waves(self._uploads, self._engine, self._ended)
