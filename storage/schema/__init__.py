"""The tables, as they are after every migration.

``decisions``, ``events``, ``activations`` and ``cancellations`` are the log: rows are inserted and
not changed, and removed only where a subject is erased or retention lets go of them. Each
transaction that writes some of them first writes a row of ``batches`` for each experiment, and the
log's rows point to it. What is the same for all rows of a batch (experiment, time, versions) is in
the batch alone. A fold marks batches: see `storage.snapshots.fold`.

Times are seconds since 1970-01-01 UTC. A decision's `id` is the sender's; inside, its `serial`
stands for it, since integers that grow are what an index takes fastest. A serial is the number of
the decision's batch times `PLACES`, plus its place there: so neither a column nor an index has to
say which batch a decision is of (`batch_of`) or which decisions a batch has (`of_batch`).

The log's rows have no foreign keys: PostgreSQL would look each of them up, and lock it, which costs
more than to write the row. A row is only ever written in the transaction that wrote its batch or
found its decision.
"""

from storage.schema.accounts import (
    ANSWERED,
    answer_sizes,
    api_keys,
    audit_log,
    idempotency_keys,
    identities,
    one_time_links,
    secrets,
    sessions,
    users,
)
from storage.schema.connections import (
    CONNECTION_COUNTS,
    TRACE_FORMAT,
    connections,
    refusal_marks,
    refusals,
    sent_messages,
    unmatched_events,
    waiting_events,
)
from storage.schema.experiments import (
    configurations,
    drafts,
    eligible_set_uses,
    eligible_sets,
    experiments,
)
from storage.schema.log import (
    CHOSEN,
    CLICKED,
    INDEX_PENDING,
    NEW,
    PENDING,
    PLACES,
    UNFROZEN,
    activations,
    actor_counts,
    attributions,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    former_ids,
    message_ids,
    network_counts,
    of_batch,
    repeats,
    subject_pages,
    subject_runs,
    subjects,
    voids,
    withdrawals,
)
from storage.schema.metadata import metadata
from storage.schema.outgoing import (
    OUTBOX_FORMAT,
    alert_choices,
    alert_targets,
    mail_settings,
    outbox,
    workspace,
)
from storage.schema.snapshots import (
    ALLOCATION_FORMAT,
    KEPT,
    QUALITY_COUNTS,
    allocations,
    erasures,
    inference_states,
    receipt_allocations,
    resummations,
    retained_counts,
    retained_sums,
    rule_changes,
    snapshots,
    statements,
)
from storage.schema.tracked_links import (
    TRACKING_COUNTS,
    erased_decisions,
    link_hosts,
    opt_outs,
    tracking_keys,
    unsubscribes,
)

__all__ = [
    "ALLOCATION_FORMAT",
    "ANSWERED",
    "CHOSEN",
    "CLICKED",
    "CONNECTION_COUNTS",
    "INDEX_PENDING",
    "KEPT",
    "NEW",
    "OUTBOX_FORMAT",
    "PENDING",
    "PLACES",
    "QUALITY_COUNTS",
    "TRACE_FORMAT",
    "TRACKING_COUNTS",
    "UNFROZEN",
    "activations",
    "actor_counts",
    "alert_choices",
    "alert_targets",
    "allocations",
    "answer_sizes",
    "api_keys",
    "attributions",
    "audit_log",
    "batch_of",
    "batches",
    "cancellations",
    "configurations",
    "connections",
    "decisions",
    "drafts",
    "eligible_set_uses",
    "eligible_sets",
    "erased_decisions",
    "erasures",
    "events",
    "experiments",
    "former_ids",
    "idempotency_keys",
    "identities",
    "inference_states",
    "link_hosts",
    "mail_settings",
    "message_ids",
    "metadata",
    "network_counts",
    "of_batch",
    "one_time_links",
    "opt_outs",
    "outbox",
    "receipt_allocations",
    "refusal_marks",
    "refusals",
    "repeats",
    "resummations",
    "retained_counts",
    "retained_sums",
    "rule_changes",
    "secrets",
    "sent_messages",
    "sessions",
    "snapshots",
    "statements",
    "subject_pages",
    "subject_runs",
    "subjects",
    "tracking_keys",
    "unmatched_events",
    "unsubscribes",
    "users",
    "voids",
    "waiting_events",
    "withdrawals",
    "workspace",
]
