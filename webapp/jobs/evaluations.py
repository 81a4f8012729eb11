"""Evaluations: what another choice would have brought on a campaign's own log, one at a time."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Literal

from msgspec import Struct

from bandits.errors import BanditsError
from simulations.evaluation.estimators import EstimatorName
from simulations.evaluation.evaluation import evaluate
from simulations.evaluation.logged_rounds import LoggedRounds
from simulations.evaluation.policy_evaluation import PolicyEvaluation
from simulations.evaluation.targets import (
    FixedShares,
    FrozenPolicy,
    LoggedPolicy,
    MinimumShare,
    Target,
    WithoutArm,
)
from simulations.log_reader import read_log
from storage import SqlStore
from storage.log.export import count_rows, export_log

QuestionKind = Literal["equal", "only", "without", "minimum", "method"]

MOST_ROWS = 300_000  # that a web worker evaluates; more are for the command line
_KEPT = 32
_PATIENCE_SECONDS = 1.5  # a request waits so long; then its page shows the progress
_ESTIMATORS: tuple[EstimatorName, ...] = ("dr", "snipw")
_log = logging.getLogger(__name__)


class Question(Struct, frozen=True):
    """A question of a campaign's log.

    Attributes:
        experiment: its key.
        salt: its own, which no other experiment of that key has.
        version: of the snapshot, so that the same question is asked anew once more is known.
        kind: every version ``equal``ly often, one version ``only``, ``without`` one, a ``minimum``
            share for each, or another ``method``.
        arm: number of the version that `kind` is about.
        share: of a ``minimum``.
        method: name of a policy.
    """

    experiment: str
    salt: bytes
    version: int
    kind: QuestionKind
    arm: int = 0
    share: float = 0.0
    method: str = ""

    def target(self, rounds: LoggedRounds) -> Target:
        """Return the policy that the question is about."""
        names = rounds.names
        match self.kind:
            case "equal":
                return FixedShares(dict.fromkeys(names, 1 / len(names)))
            case "only":
                return FixedShares.always(names[self.arm])
            case "without":
                return WithoutArm(names[self.arm])
            case "minimum":
                return MinimumShare(self.share)
        return FrozenPolicy(self.method)


class Evaluation:
    """A question's answer.

    Attributes:
        progress: part that is done, from 0 to 1.
        result: of the policy that the question is about, None while it is under way.
        as_sent: of the emails as they were sent, in the same rounds.
        refused: why there is no answer, "" where there is one.
        over: set when it has ended.
    """

    def __init__(self, question: Question) -> None:
        """Start without an answer."""
        self.question = question
        self.progress = 0.0
        self.result: PolicyEvaluation | None = None
        self.as_sent: PolicyEvaluation | None = None
        self.refused = ""
        self.over = Event()

    def run(self, read: Callable[[Callable[[float], None]], LoggedRounds]) -> None:
        """Answer; `read` reads the log, and reports the part that is read."""
        try:
            rounds = read(self._note_progress)
            target = self.question.target(rounds)
            view = target.view(rounds)
            self.as_sent = evaluate(view.rounds, LoggedPolicy(), estimators=("snipw",))
            self.progress = 0.8
            self.result = evaluate(rounds, target, estimators=_ESTIMATORS)
        except BanditsError as error:
            self.refused = str(error)
        except Exception:  # noqa: BLE001 - the page shows every failure
            _log.exception("a question of %s failed", self.question.experiment)
            self.refused = "something of ours failed; the server's log tells what"
        finally:
            self.over.set()

    def _note_progress(self, part: float) -> None:
        self.progress = 0.7 * part


class Evaluations:
    """Questions that are being answered, or were lately, of one web worker."""

    def __init__(self) -> None:
        """Start without a question."""
        self._by_question: OrderedDict[Question, Evaluation] = OrderedDict()
        self._rounds: tuple[tuple[bytes, int], LoggedRounds] | None = None  # of the last log
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evaluation")

    def request(self, question: Question, store: SqlStore) -> Evaluation:
        """Answer a question, unless it was or is being answered."""
        with self._lock:
            evaluation = self._by_question.get(question)
            if evaluation is None:
                evaluation = self._by_question[question] = Evaluation(question)
                while len(self._by_question) > _KEPT:
                    self._by_question.popitem(last=False)
                self._thread.submit(evaluation.run, self._reader(question, store))
        evaluation.over.wait(_PATIENCE_SECONDS)
        return evaluation

    def _reader(
        self, question: Question, store: SqlStore
    ) -> Callable[[Callable[[float], None]], LoggedRounds]:
        """Return what reads a question's log, or takes the last one where it is the same."""
        place = question.salt, question.version

        def read(note: Callable[[float], None]) -> LoggedRounds:
            if self._rounds is None or self._rounds[0] != place:
                self._rounds = None  # before the next one takes room
                self._rounds = place, _read(store, question.experiment, note)
            return self._rounds[1]

        return read


def _read(store: SqlStore, key: str, note: Callable[[float], None]) -> LoggedRounds:
    """Read an experiment's log by way of a file that nobody else can read."""
    total, done = max(count_rows(store, key), 1), 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        note(min(done / total, 1.0))

    with TemporaryDirectory(prefix="bandits-") as folder:
        path = Path(folder) / "log.parquet"
        export_log(store, key, path, progress)
        return read_log(path, whole_rows=True)
