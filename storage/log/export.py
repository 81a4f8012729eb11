"""Export of a log: an experiment's decisions in a file, for an evaluation elsewhere.

The file is written in portions, from one consistent view of the database, and appears under its
name once it is whole.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from sqlalchemy import select, type_coerce
from sqlalchemy.types import NullType

from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.engine.allocation_reader import AllocationReader
from bandits.engine.log_rows import LogDescription, LogRows, make_log_rows
from bandits.engine.sums import load_sums
from bandits.errors import InvalidInput
from bandits.features import NumberFeature
from bandits.store.values import ExperimentRecord
from storage.databases import Transaction
from storage.schema import decisions
from storage.snapshots import snapshots
from storage.snapshots.observations import NumberedDecisions, Observations
from storage.snapshots.snapshots import SqlHistoryReader
from storage.store import SqlStore

METADATA = b"bandits.log"  # of a parquet file: `LogDescription` in JSON

_IDS_AT_ONCE = 10_000
_SUBJECT_BYTES = 12
_TIME = pa.timestamp("us", tz="UTC")
_IDS = select(decisions.c.serial, decisions.c.id, type_coerce(decisions.c.subject, NullType))


def check_log_path(path: Path) -> None:
    """Refuse a path that no log can be written to.

    Raises:
        InvalidInput: it has another ending than .parquet or .csv, or its folder does not exist.
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise InvalidInput.at("", f"{path}: the name must end in .parquet or .csv")
    if not path.absolute().parent.is_dir():
        raise InvalidInput.at("", f"{path}: there is no such folder")


def count_rows(store: SqlStore, key: str) -> int:
    """Count the decisions that folds have counted; retention may have removed some of them."""
    with store.database.reading() as transaction:
        record = store.experiments.read(transaction, key)
        newest = snapshots.newest_snapshot(transaction, record)
        return int(load_sums(record.configuration, newest).counts.sent.sum())


def export_log(
    store: SqlStore, key: str, path: Path, progress: Callable[[int], object] = lambda _: None
) -> int:
    """Write the log of an experiment to a file; return the number of its rows.

    Args:
        store: that has it.
        key: the experiment's.
        path: ends in ``.parquet`` or ``.csv``; a CSV file's description is beside it, in a file
            of its name with ``.json`` behind it.
        progress: called with the number of each portion's rows.

    Raises:
        InvalidInput: as `check_log_path`; the file cannot be written.
        NotFound: there is no such experiment.
    """
    check_log_path(path)
    unfinished = path.with_name(f"{path.name}.part")
    rows = 0
    try:
        with store.database.reading(consistent=True) as transaction:
            record = store.experiments.read(transaction, key)
            description = LogDescription.of(record.configuration)
            encoded = msgspec.json.encode(description)
            schema = _schema(description, encoded)
            history = SqlHistoryReader(transaction, record, store.experiments)
            past = AllocationReader(record, history)
            with _writer(unfinished, schema, is_csv=path.suffix == ".csv") as write:
                for part in Observations(transaction, record).sent():
                    write(_table(transaction, record, past, part, schema))
                    rows += len(part.columns)
                    progress(len(part.columns))
        if path.suffix == ".csv":
            Path(f"{path}.json").write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")
        unfinished.replace(path)
    except OSError as error:
        raise InvalidInput.at("", f"cannot write {path}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _schema(description: LogDescription, encoded: bytes) -> pa.Schema:
    fields = [
        ("decision_id", pa.string()),
        ("time", _TIME),
        ("started_at", _TIME),
        ("subject", pa.string()),
        ("arm", pa.string()),
        *((f"slot.{slot}", pa.string()) for slot in description.slots),
        ("propensity", pa.float64()),
        ("probabilities", pa.list_(pa.float64())),
        ("eligible", pa.list_(pa.bool_())),
        *(
            (f"context.{f.name}", pa.float64() if isinstance(f, NumberFeature) else pa.string())
            for f in description.features
        ),
        *((f"metric.{name}", pa.float64()) for name in description.metrics),
        ("reward", pa.float64()),
        ("state", pa.string()),
        ("holdout", pa.bool_()),
        ("snapshot", pa.int64()),
        ("configuration", pa.int64()),
    ]
    return pa.schema(fields, metadata={METADATA: encoded})


def _table(
    transaction: Transaction,
    record: ExperimentRecord,
    past: AllocationReader,
    part: NumberedDecisions,
    schema: pa.Schema,
) -> pa.Table:
    columns, order = part.columns, np.lexsort((part.serials, part.made_at))
    ids, hashes = _read_ids(transaction, part.serials)
    rows = make_log_rows(record, past, columns)
    description = LogDescription.of(record.configuration)
    values: dict[str, Any] = {
        "decision_id": ids,
        "time": _times(part.made_at),
        "started_at": _times(columns.started_at),
        "subject": [_hash_anew(subject, record.salt) for subject in hashes],
        "arm": [description.arms[arm] for arm in rows.arms.tolist()],
        "propensity": rows.propensities,
        "probabilities": _lists(rows.probabilities, np.isfinite(rows.probabilities[:, 0])),
        "eligible": _lists(rows.eligible, None),
        "reward": rows.rewards,
        "state": rows.states,
        "holdout": columns.holdout,
        "snapshot": columns.policy_versions,
        "configuration": columns.configuration_versions,
        **_slot_columns(description, rows),
        **{f"context.{name}": of_name for name, of_name in rows.contexts.items()},
        **{f"metric.{name}": of_name for name, of_name in rows.metrics.items()},
    }
    return pa.table(values, schema=schema).take(pa.array(order))


def _slot_columns(description: LogDescription, rows: LogRows) -> dict[str, list[str]]:
    by_slot = zip(description.slots, zip(*description.variants, strict=True), strict=True)
    arms = rows.arms.tolist()
    return {f"slot.{slot}": [variants[arm] for arm in arms] for slot, variants in by_slot}


def _read_ids(transaction: Transaction, serials: IntArray) -> tuple[Sequence[str], Sequence[bytes]]:
    """Read the ids and the subjects' hashes of decisions, in the order of their serials here."""
    statement = transaction.where_any(_IDS, decisions.c.serial)
    by_serial: dict[int, tuple[str, bytes]] = {}
    for start in range(0, len(serials), _IDS_AT_ONCE):
        packed = transaction.pack(serials[start : start + _IDS_AT_ONCE].tolist())
        for serial, decision_id, subject in transaction.fetch_plain(statement, {"values": packed}):
            by_serial[serial] = (decision_id, bytes(subject))
    ids, hashes = zip(*(by_serial[serial] for serial in serials.tolist()), strict=True)
    return ids, hashes


def _hash_anew(subject: bytes, salt: bytes) -> str:
    return blake2b(subject, key=salt[:64], digest_size=_SUBJECT_BYTES, person=b"log").hexdigest()


def _times(seconds: FloatArray) -> pa.Array:
    return pa.array(np.rint(seconds * 1e6).astype(np.int64)).cast(_TIME)


def _lists(rows: FloatArray | BoolArray, present: BoolArray | None) -> pa.Array:
    """Turn rows (n, K) into n lists; those that are not `present` (n,) are null."""
    n, size = rows.shape
    lengths = np.full(n, size) if present is None else np.where(present, size, 0)
    kept: AnyArray = rows if present is None else rows[present]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    mask = None if present is None else pa.array(~present)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(kept.ravel()), mask=mask)


@contextmanager
def _writer(
    path: Path, schema: pa.Schema, *, is_csv: bool
) -> Iterator[Callable[[pa.Table], object]]:
    """Open a writer of tables; lists are JSON texts in CSV."""
    if not is_csv:
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield parquet.write_table
        return
    plain = pa.schema([(f.name, pa.string() if _is_list(f) else f.type) for f in schema])
    with pa_csv.CSVWriter(path, plain) as file:
        yield lambda table: file.write_table(_without_lists(table, plain))


def _is_list(field: pa.Field) -> bool:
    return bool(pa.types.is_list(field.type))


def _without_lists(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in table.schema:
        column = table[field.name]
        if _is_list(field):
            texts = [
                None if v is None else msgspec.json.encode(v).decode() for v in column.to_pylist()
            ]
            column = pa.array(texts, pa.string())
        columns.append(column)
    return pa.table(columns, schema=schema)
