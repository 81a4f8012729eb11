"""Names that stand in the database and in files stay as they are, whatever the code calls them.

A field that is renamed in Python keeps its stored name by `msgspec.field(name="…")`, or by the code
that writes it. What stands in these tables changes with a new number of the format alone.
"""

from collections.abc import Iterator
from dataclasses import fields

import msgspec
from msgspec import inspect
from sqlalchemy import LargeBinary, Text

from bandits.engine.arm_counts import ArmCounts
from bandits.inference import state
from bandits.inference.state import Compared, InferenceState
from bandits.problem import Problem
from bandits.statistics import LogisticSums, Moments, Ridge, SlotRidge, dump
from bandits.store.values import DataQualityCounts
from bandits.verdict import Statements
from bandits.versions import Configuration
from storage.schema import QUALITY_COUNTS, metadata
from storage.stored_format import FormattedBlob, FormattedJson
from webapp.jobs.column_map import RememberedMappings
from webapp.jobs.uploads import Upload
from webapp.pages.form.form_model import TypedDraft
from webapp.webhooks.signal_recorder import RefusedSignal

# Names of JSON objects, by the path to them.
DOCUMENTS = {
    "configuration": "version experiment arms acts",
    "configuration/experiment": (
        "key slots policy reward name exclude control floor holdout forgetting context"
        " assignment learn_every_seconds await_activation send_within_seconds strict starts_at"
        " ends_at retention_days attribution machine_rules guardrails paused"
    ),
    "configuration/experiment/guardrails": "event limit worse_than_control action scope",
    "configuration/acts": (
        "guardrail variants at emails events control_emails control_events version undone"
    ),
    "configuration/acts/guardrail": "event limit worse_than_control action scope",
    "configuration/experiment/slots": "key variants kind name",
    "configuration/experiment/slots/variants": "key payload name paused",
    "configuration/experiment/policy": "name params",
    "configuration/experiment/reward": "metrics window_seconds maturity_seconds goal costs",
    "configuration/experiment/reward/metrics": "weight count low high latest by currency",
    "configuration/experiment/forgetting": "half_life_seconds window_seconds",
    "configuration/experiment/context:number": "kind name low high default",
    "configuration/experiment/context:category": "kind name values default",
    "configuration/arms": "variants newcomer",
    "refusal": "event delivery",
    "refusal/event": (
        "name event_id position occurred_at decision_ids message_id recipient subject_id value link"
        " agent network_address machine head honeypot bounce original_event_id as_of"
    ),
    "refusal/delivery": "method headers body",
    "draft": (
        "name key slots exclude metrics window maturity goal context assignment holdout"
        " floor await_activation send_within strict starts_at ends_at retention_days machine_rules"
        " policy"
        " parameters learn_every forgetting forgetting_time version attribution guardrails paused"
        " answers plan seen edits proposed_by reason"
    ),
    "draft/slots": "kind key name variants control paste",
    "draft/slots/variants": "key name text html percent more paused cost",
    "draft/exclude": "levels",
    "draft/paused": "levels",
    "draft/guardrails": "event on amount kind action scope",
    "draft/metrics": "name weight count low high currency margin basis by",
    "draft/window": "amount unit",
    "draft/maturity": "amount unit",
    "draft/context": "kind name low high values default",
    "draft/starts_at": "local offset",
    "draft/ends_at": "local offset",
    "draft/send_within": "amount unit",
    "draft/learn_every": "amount unit",
    "draft/forgetting_time": "amount unit",
    "draft/answers": "differ late price",
    "draft/plan": "emails over waves base better rates worth earlier recipients half halves",
    "draft/plan/half": "amount unit",
    "draft/plan/over": "amount unit",
    "upload": (
        "id experiment kind name by created_at stage columns events subject anew contents"
        " format forms own one_each totals check confirmed"
        " version total done written faults sent reported in_waves waves best_last"
        " accepted repeated late unmatched"
    ),
    "upload/waves": (
        "recipients at stage only version read rows written prepared_at sent reported faults"
    ),
    "upload/format": "encoding delimiter",
    "upload/forms": "zone day decimal",
    "upload/check": (
        "rows read usable recipients repeated repeated_lines left_out mended events several"
    ),
    "upload/check/left_out": "column problem count examples",
    "upload/check/mended": "column problem count examples",
    "upload/columns": "subject context",
    "upload/events": "decision metrics metric value event occurred_at as_of every_row",
    "column_mappings": "mappings zone",
    "column_mappings/mappings": (
        "id_column by_subject features in_rows metrics extra every_row zone day decimal totals"
        " anew contents own one_each in_waves"
    ),
    "statements": "at statements reset",
    "statements/statements": "at arm over_since over_until kind lift",
    "statements/statements/lift": "type low high estimate alpha promise family",
    "statements/statements/lift/family": "claims comparisons alpha",
    "statements/reset": "at reason",
}
ARRAYS = {  # by family
    "moments": "count total square pending",
    "ridge": "gram moment pending",
    "slot_ridge": "gram moment square count",
    "logistic": "shift precision",
}
# Stored by their order, without names.
ORDERS = {
    "counts": "sent complete reward square metrics",
    "inference": "arms groups ratio periods segments lateness floors recent cohorts "
    "lift_periods late_so_far clusters left_out events overlap segment_overlap "
    "group_overlap group_segment_overlap",
    "inference/ratio": "sent expected square",
    "inference/lateness": "moved earned changed answered",
    "inference/left_out": "drawn held_out",
}
# Bytes that are no encoding of ours, with what they are.
PLAIN_BYTES = {
    "alert_targets.url": "as `storage.connections.encryption` seals",
    "alert_targets.secret": "as `storage.connections.encryption` seals",
    "mail_settings.password": "as `storage.connections.encryption` seals",
    "allocations.eligible_set": "as of the decisions",
    "api_keys.digest": "SHA-256",
    "api_keys.previous_digest": "SHA-256",
    "connections.secrets": "JSON of texts, sealed: the first byte tells whether it is encrypted",
    "connections.previous_secrets": "as the secrets",
    "decisions.context": "little-endian doubles, as the configuration's features are encoded",
    "decisions.digest": "BLAKE2b of the request",
    "decisions.eligible_set": "JSON of slots and variants; a set is known by these very bytes",
    "decisions.match_key": "BLAKE2b under a secret",
    "decisions.subject": "BLAKE2b under a secret",
    "eligible_set_uses.digest": "BLAKE2b of the set",
    "eligible_sets.digest": "BLAKE2b of the set",
    "experiments.salt": "random",
    "erased_decisions.mark": "BLAKE2b under a secret",
    "idempotency_keys.digest": "BLAKE2b under a secret",
    "opt_outs.subject": "as of the decisions",
    "refusal_marks.mark": "BLAKE2b under a secret",
    "refusals.body": "JSON of a refused signal, sealed as secrets are",
    "refusals.digest": "SHA-256",
    "secrets.value": "random",
    "sent_messages.message": "BLAKE2b under a secret",
    "sent_messages.subject": "BLAKE2b under a secret",
    "one_time_links.digest": "SHA-256",
    "sessions.digest": "SHA-256",
    "subject_pages.entries": "big-endian, 8 bytes of a hash under a secret, 8 of a serial",
    "subjects.subject": "BLAKE2b under a secret",
    "tracking_keys.secret": "a text, sealed: the first byte tells whether it is encrypted",
    "unmatched_events.mark": "BLAKE2b under a secret",
}
PLAIN_TEXTS = {  # words, keys, ids, addresses
    *("identities.issuer", "identities.subject"),
    *("api_keys.name", "api_keys.scopes", "api_keys.selector", "api_keys.previous_selector"),
    *("api_keys.created_by", "api_keys.owner"),
    *("actor_counts.actor", "voids.actor", "voids.created_by"),
    *("audit_log.by", "audit_log.action", "audit_log.subject"),
    *("batches.kind", "batches.actor", "decisions.id", "eligible_sets.actor"),
    *("eligible_set_uses.actor", "former_ids.id", "repeats.actor"),
    *("connections.key", "connections.kind", "connections.created_by", "connections.rejection"),
    *("refusals.reason", "unmatched_events.decision_id", "unmatched_events.event_id"),
    *("unmatched_events.metric", "unmatched_events.message_id", "message_ids.message_id"),
    "withdrawals.event_id",
    *("waiting_events.actor", "waiting_events.decision_id", "waiting_events.event_id"),
    "waiting_events.metric",
    *("attributions.source", "attributions.event_id", "experiments.attribution"),
    *("drafts.id", "drafts.created_by", "drafts.changed_by"),
    *(
        "events.event_id",
        "events.metric",
        "experiments.key",
        "experiments.state",
        "sent_messages.state",
    ),
    *("idempotency_keys.key",),
    *("one_time_links.purpose", "one_time_links.email", "one_time_links.role"),
    "one_time_links.created_by",
    "workspace.name",
    *("mail_settings.host", "mail_settings.security", "mail_settings.user"),
    *("mail_settings.sender", "alert_choices.alert", "alert_targets.name"),
    *("alert_targets.kind", "alert_targets.alerts", "alert_targets.created_by"),
    *("outbox.event", "outbox.target", "outbox.kind", "outbox.state", "outbox.error"),
    *("secrets.name", "sessions.agent", "sessions.address", "subjects.decision_id"),
    *("tracking_keys.key_id", "tracking_keys.name", "tracking_keys.created_by"),
    *("link_hosts.host", "link_hosts.added_by", "unsubscribes.decision_id"),
    *("users.email", "users.password_hash", "users.role", "users.totp_secret"),
}


def objects(info: inspect.Type, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and names of each object that values of a type hold."""
    match info:
        case inspect.StructType():
            tag = [] if info.tag is None else [str(info.tag_field)]
            yield path, " ".join([*tag, *(field.encode_name for field in info.fields)])
            for field in info.fields:
                yield from objects(field.type, f"{path}/{field.encode_name}")
        case inspect.UnionType():
            for member in info.types:
                tag_of_member = getattr(member, "tag", None)
                yield from objects(member, f"{path}:{tag_of_member}" if tag_of_member else path)
        case inspect.DictType():
            yield from objects(info.value_type, path)
        case inspect.ListType() | inspect.VarTupleType():
            yield from objects(info.item_type, path)
        case inspect.TupleType():
            for item in info.item_types:
                yield from objects(item, path)


def test_stored_documents_keep_their_names() -> None:
    roots: dict[str, type] = {"configuration": Configuration, "draft": TypedDraft}
    roots |= {"column_mappings": RememberedMappings}
    roots |= {"upload": Upload, "statements": Statements, "refusal": RefusedSignal}
    names = [o for path, root in roots.items() for o in objects(inspect.type_info(root), path)]
    assert dict(names) == DOCUMENTS


def test_stored_statistics_keep_the_names_of_their_arrays() -> None:
    names = {}
    for family in (Moments, Ridge, SlotRidge, LogisticSums):
        content = msgspec.msgpack.decode(dump(family.zeros(Problem.of(2, 3))))
        assert set(content) == {"family", "arrays"}
        names[content["family"]] = " ".join(content["arrays"])
    assert names == ARRAYS


def test_stored_sums_keep_their_order() -> None:
    zeros = InferenceState.zeros(Compared.none(2, 1))
    sums = {
        "counts": ArmCounts.zeros(2, 1),
        "inference": zeros,
        "inference/ratio": zeros.ratio,
        "inference/lateness": zeros.lateness,
        "inference/left_out": zeros.left_out,
    }
    orders = {name: " ".join(f.name for f in fields(value)) for name, value in sums.items()}
    assert orders == ORDERS


def test_stored_counts_are_columns_in_the_order_of_their_fields() -> None:
    assert DataQualityCounts.__struct_fields__ == QUALITY_COUNTS


def test_inference_state_has_one_number() -> None:
    tables = metadata.tables
    columns = (
        tables["inference_states"].c.content,
        tables["retained_sums"].c.inference_state,
        tables["resummations"].c.content,
    )
    assert [column.type.number for column in columns] == [state._FORMAT] * 3


def test_encoded_columns_declare_their_format() -> None:
    plain_bytes, plain_texts = set(), set()
    for column in (c for table in metadata.tables.values() for c in table.columns):
        name = f"{column.table.name}.{column.name}"
        if isinstance(column.type, FormattedBlob | FormattedJson):
            assert (column.type.place, column.type.number >= 1) == (name, True)
        elif isinstance(column.type, LargeBinary):
            plain_bytes.add(name)
        elif isinstance(column.type, Text):
            plain_texts.add(name)
    assert plain_bytes == set(PLAIN_BYTES)
    assert plain_texts == PLAIN_TEXTS
