"""What operators and their machines read: is it alive, is it ready, what has it done."""

from flask import current_app
from msgspec import Struct

from bandits.errors import NoDatabase, NotUpgraded, Unavailable
from bandits.store.values import FoldBacklog
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.metrics import MEDIA_TYPE, DecisionMetrics, FoldMetrics, HttpMetrics, family
from webapp.services import services

operations = OperationGroup("operations")

METRICS = "bandits.metrics"
WORK = "bandits.work"
FOLDS = "bandits.folds"


class ServerHealth(Struct, frozen=True):
    """The server's state in a word."""

    status: str


@operations("GET", "/healthz", scope=None, answers={200: ServerHealth})
def healthz() -> OperationResponse:
    """Tell that the process answers; it does not look at the database."""
    return OperationResponse(ServerHealth("alive"))


@operations(
    "GET",
    "/readyz",
    scope=None,
    answers={200: ServerHealth},
    refusals=(Unavailable, NotUpgraded, NoDatabase),
)
def readyz() -> OperationResponse:
    """Tell that requests can be served: the database answers and is migrated."""
    services().engine.store.experiments.records()
    return OperationResponse(ServerHealth("ready"))


@operations("GET", "/metrics", scope="read", answers={200: str}, media_type=MEDIA_TYPE)
def metrics() -> OperationResponse:
    """Read the metrics, for Prometheus: of this worker process, and of every live experiment."""
    requests: HttpMetrics = current_app.extensions[METRICS]
    folds: FoldMetrics = current_app.extensions[FOLDS]
    lines = [*requests.lines(), *work().lines(), *folds.lines(), *_experiments()]
    return OperationResponse("\n".join([*lines, ""]))


def work() -> DecisionMetrics:
    """Return the running application's counts of what it answered."""
    counts: DecisionMetrics = current_app.extensions[WORK]
    return counts


def _experiments() -> list[str]:
    store = services().engine.store
    now = services().engine.clock()
    live = [r for r in store.experiments.records() if r.state in {"running", "paused"}]
    newest = {r.key: store.snapshots.history(r.key, 1) for r in live}
    waiting = store.snapshots.backlog(now)
    queues = [(r.key, waiting.get(r.id, FoldBacklog(0, now))) for r in live]
    return [
        *family(
            "bandits_policy_version",
            "gauge",
            "The snapshot that decides now.",
            (({"experiment": r.key}, r.learned_version) for r in live),
        ),
        *family(
            "bandits_snapshot_age_seconds",
            "gauge",
            "Seconds since something was last learned.",
            (({"experiment": k}, max(now - p[-1].at, 0.0)) for k, p in newest.items() if p),
        ),
        *family(
            "bandits_waiting_batches",
            "gauge",
            "Batches of decisions, rewards and cancellations that the next fold would take in.",
            (({"experiment": k}, w.batches) for k, w in queues),
        ),
        *family(
            "bandits_waiting_seconds",
            "gauge",
            "How long the oldest of them has waited.",
            (({"experiment": k}, max(now - w.since, 0.0)) for k, w in queues),
        ),
    ]
