"""Rules in force: by which version of the rules against machines each decision is judged.

The configuration names a version. What decisions are judged by follows it: at once where nothing is
learned yet, else in portions of start batches, see `storage.snapshots.rule_change`.
"""

from sqlalchemy import bindparam, delete, insert, select

from bandits.store.values import ExperimentRecord, RulesInForce
from storage.databases import Transaction
from storage.schema import UNFROZEN, batches, rule_changes

_of_experiment = rule_changes.c.experiment_id == bindparam("of_experiment")
# Every fold runs this statement, so it is made once.
_READ = (
    select(
        rule_changes.c.rules,
        rule_changes.c.earlier_rules,
        rule_changes.c.batch_created_at,
        rule_changes.c.batch_id,
        rule_changes.c.left_over,
    )
    .where(_of_experiment)
    .order_by(rule_changes.c.version.desc())
    .limit(1)
)
_READ_AS_OF = _READ.where(rule_changes.c.version <= bindparam("as_of"))
_DELETE = delete(rule_changes).where(
    _of_experiment, rule_changes.c.version == bindparam("of_version")
)
_UNFROZEN = (
    select(batches.c.id)
    .where(
        UNFROZEN,
        batches.c.experiment_id == bindparam("of_experiment"),
        batches.c.counted_version.is_not(None),
    )
    .limit(1)
)


def read_rules(
    transaction: Transaction, record: ExperimentRecord, *, as_of: int | None = None
) -> RulesInForce:
    """Read by what an experiment's decisions are judged, as of a version, now unless given."""
    values = {"of_experiment": record.id}
    if as_of is None:
        row = transaction.execute(_READ, values).one_or_none()
    else:
        row = transaction.execute(_READ_AS_OF, {**values, "as_of": as_of}).one_or_none()
    if row is None:
        return RulesInForce()
    place = None if row.batch_id is None else (row.batch_created_at, row.batch_id)
    return RulesInForce(row.rules, row.earlier_rules, place, row.left_over)


def write_rules(
    transaction: Transaction, record: ExperimentRecord, rules: RulesInForce, *, version: int
) -> None:
    """Put rules in force from a version of the snapshot on; the experiment's lock must be held."""
    values = {"of_experiment": record.id, "of_version": version}
    transaction.execute(_DELETE, values)
    created_at, batch_id = rules.place or (None, None)
    row = {
        "experiment_id": record.id,
        "version": version,
        "rules": rules.version,
        "earlier_rules": rules.earlier,
        "batch_created_at": created_at,
        "batch_id": batch_id,
        "left_over": rules.left,
    }
    transaction.execute(insert(rule_changes).values(row))


def counted_too_soon(transaction: Transaction, record: ExperimentRecord) -> bool:
    """Return true where a fold has counted events whose networks are not counted yet.

    Rules that judged them now would judge them otherwise in two minutes.
    """
    return transaction.execute(_UNFROZEN, {"of_experiment": record.id}).first() is not None
