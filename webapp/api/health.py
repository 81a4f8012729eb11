"""Health of the server for operators and their machines: liveness, readiness and metrics."""

from importlib.metadata import version

from msgspec import Struct

from bandits.engine import Engine
from bandits.errors import NoDatabase, NotUpgraded, Unavailable
from bandits.store.values import FoldBacklog
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.metrics import MEDIA_TYPE, family
from webapp.services import Services

operations = OperationGroup("operations")


class ServerHealth(Struct, frozen=True):
    """State of the server in a word, and the version that runs."""

    status: str
    version: str = version("email-bandits")


@operations("GET", "/healthz", scope=None, answers={200: ServerHealth})
def healthz(_services: Services) -> OperationResponse:
    """Answer that the process is alive; it does not look at the database."""
    return OperationResponse(ServerHealth("alive"))


@operations(
    "GET",
    "/readyz",
    scope=None,
    answers={200: ServerHealth},
    refusals=(Unavailable, NotUpgraded, NoDatabase),
)
def readyz(services: Services) -> OperationResponse:
    """Answer that requests can be served: the database answers and is migrated."""
    services.readiness.check(services.engine.store.experiments.look)
    return OperationResponse(ServerHealth("ready"))


@operations("GET", "/metrics", scope="read", answers={200: str}, media_type=MEDIA_TYPE)
def metrics(services: Services) -> OperationResponse:
    """Read the metrics for Prometheus: of this worker process, and of every live experiment."""
    lines = [
        *services.metrics.lines(),
        *services.folds.lines(),
        *family(
            "bandits_spool_bytes",
            "gauge",
            "Events that are answered and not in the database yet.",
            [({}, services.spool.size())],
        ),
        *_experiment_lines(services.engine),
    ]
    return OperationResponse("\n".join([*lines, ""]))


def _experiment_lines(engine: Engine) -> list[str]:
    """Write the gauges of every live experiment."""
    store = engine.store
    now = engine.clock()
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
