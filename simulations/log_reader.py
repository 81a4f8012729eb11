"""Log reader: logs of this engine, of obp's dataset, of VW, and tables by column names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.engine.log_rows import LOG_FORMAT, LogDescription
from bandits.errors import InvalidInput
from bandits.features import CategoryFeature, EncodingCounts, NumberFeature
from simulations.evaluation.logged_rounds import LoggedRounds

_METADATA = b"bandits.log"
_OBD_COLUMNS = {"item_id", "position", "click", "propensity_score"}
_STATES = ("matured", "closed")
_MOST_VALUES = 100  # different texts of a context column; as many as the engine takes
_VW_ENDINGS = {".json", ".jsonl", ".ndjson", ".dsjson"}


class LogFileColumns(Struct, frozen=True):
    """Columns of a table by their meaning.

    Attributes:
        arm: what was sent.
        reward: what it earned.
        propensity: the probability that it was drawn with.
        context: what describes the recipient.
        time: when it was sent; without it, rows are in the order of sending.
        probabilities: of every arm, one column for each, in the order of the arms' names.
        names: of all arms, where the log may not have sent each; those that it sent, unless given.
    """

    arm: str
    reward: str
    propensity: str
    context: tuple[str, ...] = ()
    time: str | None = None
    probabilities: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def read_log(  # noqa: PLR0913 - by keyword, each with a default
    path: str | Path,
    columns: LogFileColumns | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    states: Sequence[str] = _STATES,
    whole_rows: bool = False,
) -> LoggedRounds:
    """Read a log from a file.

    Args:
        path: what `bandits log export` wrote; a CSV file of the Open Bandit Dataset; a file of
            VW's JSON lines (``.json``, ``.jsonl``), whose costs become rewards with the other sign;
            or any ``.csv`` or ``.parquet`` whose `columns` are named.
        columns: of a table of your own.
        low: the smallest reward possible; as declared, else the smaller of 0 and the log's.
        high: the largest; as declared, else the larger of 1 and the log's.
        states: of an exported log, rows that count: emails whose rewards may still come
            (``pending``) have not earned all that they will.
        whole_rows: of an exported log, leave out emails for which the probability of every arm is
            no longer known; else none is used where some are missing.

    Returns:
        Its rounds, in the order of sending; `notes` say what was left out.

    Raises:
        InvalidInput: the file cannot be read, lacks a column, or has values that do not fit.
    """
    path = Path(path)
    try:
        if columns is None and path.suffix in _VW_ENDINGS:
            return _read_vw(path, low, high)
        encoded = _description(path) if columns is None else None
        table = _table(path, encoded)
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidInput.at("", f"cannot read {path}: {error}") from None
    if encoded is not None:
        return _read_exported(table, encoded, low, high, states, whole_rows=whole_rows)
    if columns is None:
        if not set(table.column_names) >= _OBD_COLUMNS:
            detail = f"{path}: name its columns; it is no log that tells by itself what they mean"
            raise InvalidInput.at("", detail)
        items = _obd_items(path, table)
        columns = LogFileColumns("item_id", "click", "propensity_score", names=items)
    return _read_table(path, table, columns, low, high)


def _obd_items(path: Path, table: pa.Table) -> tuple[str, ...]:
    """Name the items of the Open Bandit Dataset, which its file of items beside the log lists."""
    items = path.with_name("item_context.csv")
    count = int(np.max(table["item_id"].to_numpy())) + 1
    if items.exists():
        count = max(count, pa_csv.read_csv(items).num_rows)
    return tuple(map(str, range(count)))


def _description(path: Path) -> bytes | None:
    """Read what an exported log says of itself; None of any other file."""
    if path.suffix == ".parquet":
        return (pq.read_schema(path).metadata or {}).get(_METADATA)
    beside = Path(f"{path}.json")
    return beside.read_bytes() if path.suffix == ".csv" and beside.exists() else None


def _table(path: Path, encoded: bytes | None) -> pa.Table:
    """Read a table; the texts of an exported one are texts, also where they look like numbers."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if encoded is None:
        return pa_csv.read_csv(path)
    described = msgspec.json.decode(encoded)
    features = described.get("features", ())
    categories = [f"context.{f['name']}" for f in features if f["kind"] == "category"]
    texts = ["arm", "probabilities", "eligible", "state", *categories]
    options = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pa_csv.read_csv(path, convert_options=options)


def _read_exported(  # noqa: PLR0913 - as `read_log` has them
    table: pa.Table,
    encoded: bytes,
    low: float | None,
    high: float | None,
    states: Sequence[str],
    *,
    whole_rows: bool,
) -> LoggedRounds:
    version = msgspec.json.decode(encoded).get("format")
    if version != LOG_FORMAT:
        detail = f"the log has format {version}; this version of Bandits reads {LOG_FORMAT}"
        raise InvalidInput.at("", detail)
    description = msgspec.json.decode(encoded, type=LogDescription)
    holdout = table["holdout"].to_numpy(zero_copy_only=False).astype(np.bool_)
    counted = np.isin(np.array(table["state"].to_pylist(), dtype=object), list(states))
    notes = [
        *_left_out(holdout, "were held out, and got the control whatever the policy said"),
        *_left_out(~holdout & ~counted, "are left out, since they may still earn something"),
    ]
    kept = ~holdout & counted
    table = table.filter(pa.array(kept)).sort_by([("time", "ascending")])
    missing = table["probabilities"].is_null().to_numpy(zero_copy_only=False)
    if whole_rows and missing.any():
        notes += _left_out(missing, "are left out: not every arm's probability is known any more")
        table = table.filter(pa.array(~missing))
        missing = missing[~missing]
    if not table.num_rows:
        raise InvalidInput.at("", "no row of the log counts: nothing in it has matured")
    places = {name: arm for arm, name in enumerate(description.arms)}
    encodings = [
        feature.column(table[f"context.{feature.name}"].to_pylist(), EncodingCounts())
        for feature in description.features
    ]
    return LoggedRounds(
        np.array([places[name] for name in table["arm"].to_pylist()]),
        table["reward"].to_numpy(),
        table["propensity"].to_numpy(),
        None if missing.any() else _matrix(table["probabilities"], np.float64),
        np.hstack(encodings) if encodings else None,
        _matrix(table["eligible"], np.bool_),
        _seconds(table["time"]),
        description.slot_levels,
        description.arms,
        description.low if low is None else low,
        description.high if high is None else high,
        tuple(notes),
    )


def _left_out(rows: BoolArray, reason: str) -> list[str]:
    count = int(np.count_nonzero(rows))
    return [f"{count:,} emails {reason}"] if count else []


def _matrix(column: pa.ChunkedArray, dtype: type) -> Any:
    """Turn n lists, or JSON texts of lists, into an array (n, K)."""
    if pa.types.is_string(column.type):
        return np.array([msgspec.json.decode(text) for text in column.to_pylist()], dtype=dtype)
    flat = column.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks)
    values = flat.flatten().to_numpy(zero_copy_only=False)
    return values.astype(dtype).reshape(len(column), -1)


def _seconds(column: pa.ChunkedArray) -> FloatArray:
    if pa.types.is_timestamp(column.type):
        moments = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
        seconds: FloatArray = moments.to_numpy() / 1e6
        return seconds
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _read_table(
    path: Path, table: pa.Table, columns: LogFileColumns, low: float | None, high: float | None
) -> LoggedRounds:
    named = [columns.arm, columns.reward, columns.propensity, *columns.context]
    named += [*columns.probabilities, *filter(None, [columns.time])]
    for name in named:
        if name not in table.column_names:
            have = ", ".join(map(str, table.column_names[:20]))
            raise InvalidInput.at("", f"{path}: has no column {name!r}; it has {have}")
    if not table.num_rows:
        raise InvalidInput.at("", f"{path}: has a header and no rows")
    if columns.time is not None:
        table = table.sort_by([(columns.time, "ascending")])
    values = table[columns.arm].to_pylist()
    if None in values:
        raise InvalidInput.at("/arms", f"row {values.index(None)} is empty")
    names = columns.names or tuple(map(str, sorted(set(values))))
    places = {name: arm for arm, name in enumerate(names)}
    unlisted = {str(value) for value in values} - set(names)
    if unlisted:
        raise InvalidInput.at("/arms", f"{min(unlisted)!r} is not among the arms' names")
    arms = np.array([places[str(value)] for value in values])
    probabilities = None
    if columns.probabilities:
        if len(columns.probabilities) != len(names):
            detail = f"are {len(columns.probabilities)} columns for {len(names)} arms"
            raise InvalidInput.at("/probabilities", detail)
        of_arms = [_numbers(table, name) for name in columns.probabilities]
        probabilities = np.stack(of_arms, axis=1)
    encodings = [_encode(table, name) for name in columns.context]
    rewards = _numbers(table, columns.reward)
    return LoggedRounds(
        arms,
        rewards,
        _numbers(table, columns.propensity),
        probabilities,
        np.hstack(encodings) if encodings else None,
        times=None if columns.time is None else _seconds(table[columns.time]),
        names=names,
        low=_end(low, min(0.0, float(np.nanmin(rewards)))),
        high=_end(high, max(1.0, float(np.nanmax(rewards)))),
    )


def _end(declared: float | None, other: float) -> float:
    return other if declared is None else declared


def _numbers(table: pa.Table, name: str) -> FloatArray:
    column = table[name]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        if not pa.types.is_boolean(column.type):
            raise InvalidInput.at("", f"column {name!r} is not one of numbers")
        column = column.cast(pa.int8())
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InvalidInput.at("", f"column {name!r}, row {row}: is empty")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _encode(table: pa.Table, name: str) -> FloatArray:
    """Encode a context column as the engine does: scaled if numbers, else one feature a value."""
    column = table[name]
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = _numbers(table, name)
        low, high = float(values.min()), float(values.max())
        number = NumberFeature("number", low, high if high > low else low + 1)
        return number.column(values.tolist(), EncodingCounts())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    distinct = sorted({text for text in texts if text})
    if not 0 < len(distinct) <= _MOST_VALUES:
        detail = f"column {name!r} has {len(distinct):,} different texts, not 1 to {_MOST_VALUES}"
        raise InvalidInput.at("", detail)
    return CategoryFeature("category", tuple(distinct)).column(texts, EncodingCounts())


def _read_vw(path: Path, low: float | None, high: float | None) -> LoggedRounds:
    """Read JSON lines of VW's contextual bandits, with or without the decision service's fields."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    examples: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            example = msgspec.json.decode(line)
        except msgspec.DecodeError:
            raise InvalidInput.at("", f"{path}, line {number}: is no JSON") from None
        if not isinstance(example, dict) or "_label_cost" not in example:
            continue  # an observation or a line without a label
        examples.append(example)
    if not examples:
        raise InvalidInput.at("", f"{path}: has no line with a _label_cost")
    arms = np.array([_vw_arm(path, example) for example in examples], dtype=np.int64)
    sizes = np.array([len(_vw_context(e).get("_multi") or e.get("a") or ()) for e in examples])
    n_arms = int(max(sizes.max(), arms.max() + 1))
    rewards = -np.array([example["_label_cost"] for example in examples], dtype=np.float64)
    probabilities = None
    if all("a" in example and "p" in example for example in examples):
        probabilities = _vw_probabilities(examples, n_arms)
    varies = (sizes > 0).all() and (sizes < n_arms).any()
    return LoggedRounds(
        arms,
        rewards,
        np.array([example["_label_probability"] for example in examples], dtype=np.float64),
        probabilities,
        _vw_features(examples),
        np.arange(n_arms) < sizes[:, None] if varies else None,
        names=tuple(map(str, range(1, n_arms + 1))),
        low=_end(low, min(0.0, float(rewards.min()))),
        high=_end(high, max(1.0, float(rewards.max()))),
    )


def _vw_context(example: Mapping[str, Any]) -> Mapping[str, Any]:
    context = example.get("c", example)
    return context if isinstance(context, Mapping) else {}


def _vw_arm(path: Path, example: Mapping[str, Any]) -> int:
    if "_labelIndex" in example:
        return int(example["_labelIndex"])
    for name in ("_label_Action", "_label_action"):
        if name in example:
            return int(example[name]) - 1
    if example.get("a"):
        return int(example["a"][0]) - 1
    raise InvalidInput.at("", f"{path}: a line has no _labelIndex and no _label_Action")


def _vw_probabilities(examples: Sequence[Mapping[str, Any]], n_arms: int) -> FloatArray:
    rows = np.zeros((len(examples), n_arms))
    for row, example in enumerate(examples):
        arms: IntArray = np.array(example["a"], dtype=np.int64) - 1
        rows[row, arms] = example["p"]
    return rows / rows.sum(axis=1, keepdims=True)  # VW writes seven digits


def _vw_features(examples: Sequence[Mapping[str, Any]]) -> FloatArray | None:
    """Collect the shared features, numbers as they are and texts as marks, in order of name."""
    rows = [dict(_vw_flat(_vw_context(example))) for example in examples]
    names = sorted({name for row in rows for name in row})
    if not names:
        return None
    return np.array([[row.get(name, 0.0) for name in names] for row in rows])


def _vw_flat(features: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = []
    for name, value in features.items():
        if name.startswith("_") or name in {"a", "p", "Version", "EventId", "Timestamp"}:
            continue
        if isinstance(value, Mapping):
            pairs += _vw_flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            pairs.append((prefix + name, float(value)))
        elif isinstance(value, str):
            pairs.append((f"{prefix}{name}={value}", 1.0))
    return pairs
