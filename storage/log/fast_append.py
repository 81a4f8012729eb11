"""Appending a few decisions in as few exchanges with the database as there can be.

A group of single choices is nearly always the same: the experiment is what it was a moment ago, and
nobody has used the ids. It is written as such, in one transaction of its own; where anything turns
out otherwise nothing is written, and the longer way finds out what it was.
"""

from operator import itemgetter

from sqlalchemy import bindparam, select

from storage.databases import BulkInsert, Database
from storage.log.append_decisions import COLUMNS, columns_of, opened
from storage.log.batches import OPENED
from storage.log.combined_calls import AppendDecisionsCall
from storage.record_cache import RecordCache
from storage.schema import PLACES, batches, decisions, experiments

_NUMBER = bindparam("experiment_id", type_=experiments.c.id.type)
_APPENDING = BulkInsert(
    into=batches,
    names=OPENED,
    row=select(*(bindparam(name, type_=batches.c[name].type) for name in OPENED)).where(
        experiments.c.id == _NUMBER,
        experiments.c.state == bindparam("state"),
        experiments.c.configuration_version == bindparam("configuration_version"),
        experiments.c.shipped.is_not_distinct_from(bindparam("arm_shipped")),
    ),
    returning=(
        batches.c.id,
        select(experiments.c.learned_version)
        .where(experiments.c.id == _NUMBER)
        .scalar_subquery()
        .label("learned_version"),
    ),
    table=decisions,
    numbered="serial",
    columns=COLUMNS,
    unique="id",
    places=PLACES,
)


def append_briefly(database: Database, recent: RecordCache, call: AppendDecisionsCall) -> bool:
    """Append decisions of new ids under a record that holds; tell whether it could be done so."""
    record, chosen = call.record, call.chosen
    if record.configuration.experiment.assignment == "per_subject" and not chosen.shipped:
        return False
    values = opened(record, chosen, call.at) | {
        "kind": "choose",
        "experiment_id": record.id,
        "created_at": call.at,
        "state": record.state,
        "arm_shipped": record.shipped,
    }
    columns = columns_of(chosen, call.hashes)
    rows = sorted(zip(*columns, strict=True), key=itemgetter(0))
    found = database.append(_APPENDING, values, rows)
    if found is None:
        return False
    if found[1] != record.learned_version:
        recent.forget(record.key)
    return True
