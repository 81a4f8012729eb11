"""Features: their declarations, and the encoder from contexts to vectors x (d,)."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise, repeat
from math import isfinite, nan
from operator import attrgetter
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta, Struct, field

from bandits.array_types import FloatArray, IntArray
from bandits.errors import Fault, InvalidInput
from bandits.identifiers import Key, pointer

_BANDS = 4  # segments of a number

Context = Mapping[str, float | str | bool | None]
Scalar = float | str | bool | None


class NumberFeature(
    Struct, frozen=True, tag_field="kind", tag="number", forbid_unknown_fields=True
):
    """A number, scaled so that `low` becomes 0 and `high` becomes 1, and clipped to them."""

    name: Key
    low: float
    high: float
    default: float | None = None

    numeric: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Number of features that it becomes."""
        return 1

    def faults(self) -> list[Fault]:
        """List what is wrong with the declaration."""
        faults = []
        if not (self.low < self.high and isfinite(self.high - self.low)):
            faults.append(Fault("/high", "must be a finite number above low"))
        elif self.default is not None and not self.low <= self.default <= self.high:
            faults.append(Fault("/default", "must lie between low and high"))
        return faults

    def labels(self) -> list[str]:
        """Name its features."""
        return [self.name]

    def column(self, values: Sequence[Scalar], counts: "EncodingCounts") -> FloatArray:
        """Encode n values to (n, 1)."""
        return self._scaled(np.array(values, dtype=np.float64), counts)  # None becomes NaN

    def usual_column(self, values: Sequence[Scalar], counts: "EncodingCounts") -> FloatArray | None:
        """Encode usual values as `column` does, and quickly; None where there may be a fault."""
        types, missing = set(map(type, values)), 0
        if not types <= {int, float, type(None)}:
            return None
        if type(None) in types:
            missing, values = values.count(None), [nan if v is None else v for v in values]
        raw = np.array(values, dtype=np.float64)
        if np.count_nonzero(np.isfinite(raw)) < len(values) - missing:
            return None
        return self._scaled(raw, counts)

    def _scaled(self, raw: FloatArray, counts: "EncodingCounts") -> FloatArray:
        low, span = self.low, self.high - self.low
        default = 0.5 if self.default is None else (self.default - low) / span
        missing = np.isnan(raw)
        clipped = np.clip(raw, low, self.high)
        counts.missing += int(np.count_nonzero(missing))
        counts.clipped += int(np.count_nonzero(~missing & (clipped != raw)))
        return np.where(missing, default, (clipped - low) / span)[:, None]

    def segments(self) -> list[str | None]:
        """Name the segments that results are computed for: bands of equal width."""
        edges = np.linspace(self.low, self.high, _BANDS + 1)
        return [f"{low:g} to {high:g}" for low, high in pairwise(edges)]

    def segment_of(self, part: FloatArray) -> IntArray:
        """Return the segment of each of n encoded values (n, 1), (n,)."""
        return np.clip((part[:, 0] * _BANDS).astype(np.int64), 0, _BANDS - 1)

    def read(self, part: FloatArray) -> Scalar:
        """Return the number that was encoded as `part` (1,)."""
        return float(self.low + part[0] * (self.high - self.low))

    def refuse(self, value: Scalar, *, strict: bool) -> str | None:
        """Return what is wrong with a value, or None."""
        if value is None:
            return "is missing" if strict else None
        if isinstance(value, bool):
            return "must be a number, not true or false"
        if isinstance(value, str):
            return f"must be a number, not text {value[:40]!r}"
        if not isfinite(value):
            return "must be a finite number"
        if strict and not self.low <= value <= self.high:
            return f"must lie in [{self.low:g}, {self.high:g}]"
        return None


class CategoryFeature(
    Struct, frozen=True, tag_field="kind", tag="category", forbid_unknown_fields=True
):
    """One of some values, each a feature that is 0 or 1; any other value is none of them."""

    name: Key
    values: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        Meta(min_length=1, max_length=100),
    ]
    default: str | None = None

    numeric: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Number of features that it becomes."""
        return len(self.values)

    def faults(self) -> list[Fault]:
        """List what is wrong with the declaration."""
        faults = [
            Fault(f"/values/{i}", f"{value!r} is listed twice")
            for i, value in enumerate(self.values)
            if value in self.values[:i]
        ]
        if self.default is not None and self.default not in self.values:
            faults.append(Fault("/default", "must be one of the values"))
        return faults

    def labels(self) -> list[str]:
        """Name its features."""
        return [f"{self.name}={value}" for value in self.values]

    def column(self, values: Sequence[Scalar], counts: "EncodingCounts") -> FloatArray:
        """Encode n values to (n, number of listed values)."""
        return self._marked([None if v is None else _text(v) for v in values], counts)

    def usual_column(self, values: Sequence[Scalar], counts: "EncodingCounts") -> FloatArray | None:
        """Encode usual values as `column` does, and quickly; None where there may be a fault."""
        others = set(map(type, values)) - {str, type(None)}
        if not others <= {bool, int}:
            return None
        return self.column(values, counts) if others else self._marked(values, counts)

    def _marked(self, texts: Sequence[Scalar], counts: "EncodingCounts") -> FloatArray:
        unknown, missing = len(self.values), len(self.values) + 1
        places: dict[Scalar, int] = {value: i for i, value in enumerate(self.values)}
        places[None] = missing
        indices = np.array(list(map(places.get, texts, repeat(unknown))), dtype=np.int64)
        counts.missing += int(np.count_nonzero(indices == missing))
        counts.unknown += int(np.count_nonzero(indices == unknown))
        default = unknown if self.default is None else self.values.index(self.default)
        return np.eye(missing)[[*range(missing), default], :unknown][indices]

    def segments(self) -> list[str | None]:
        """Name the segments that results are computed for: its values, and None for any other."""
        return [*self.values, None]

    def segment_of(self, part: FloatArray) -> IntArray:
        """Return the segment of each of n encoded values (n, number of values), (n,)."""
        return np.where(part.any(axis=1), part.argmax(axis=1), len(self.values))

    def read(self, part: FloatArray) -> Scalar:
        """Return the value that was encoded as `part` (number of values,), None for any other."""
        hits = np.flatnonzero(part)
        return self.values[int(hits[0])] if len(hits) else None

    def refuse(self, value: Scalar, *, strict: bool) -> str | None:
        """Return what is wrong with a value, or None."""
        if value is None:
            return "is missing" if strict else None
        if isinstance(value, float) and not isfinite(value):
            return "must not be NaN or infinite"
        if strict and _text(value) not in self.values:
            return "must be one of " + ", ".join(self.values)
        return None


Feature = NumberFeature | CategoryFeature


class EncodingCounts(Struct):
    """Counts of values that did not fit their declaration and were mended."""

    clipped: int = 0
    unknown: int = 0
    missing: int = 0


class EncodedContexts(Struct, frozen=True, eq=False):
    """Contexts (n, d) and how many of their values had to be mended."""

    contexts: FloatArray
    counts: EncodingCounts = field(default_factory=EncodingCounts)


class Encoder:
    """Turn contexts into arrays: a leading 1, then each declared feature in its order."""

    def __init__(self, features: Sequence[Feature], *, strict: bool = False) -> None:
        """Prepare for these features; `strict` refuses what would otherwise be mended."""
        self.features = tuple(features)
        self.strict = strict
        self._refusals: dict[str, Callable[..., str | None]] = {
            f.name: f.refuse for f in self.features
        }
        self._names = frozenset(self._refusals)

    @cached_property
    def n_features(self) -> int:
        """d, with the leading 1."""
        return 1 + sum(map(attrgetter("width"), self.features))

    @property
    def labels(self) -> list[str]:
        """Name the d features."""
        return ["always 1", *(label for f in self.features for label in f.labels())]

    @cached_property
    def unknown_subject(self) -> FloatArray:
        """Encoded context (d,) of a subject of whom nothing is known: every declared default."""
        return Encoder(self.features).encode([None]).contexts[0]

    def encode(self, contexts: Sequence[Context | None]) -> EncodedContexts:
        """Encode n contexts to (n, d).

        Raises:
            InvalidInput: at ``/{row}/{feature}``: an undeclared feature, NaN, infinity, text where
                a number belongs; if strict, also what is missing, out of range or unlisted.
        """
        if not self.features and not any(contexts):
            return EncodedContexts(np.ones((len(contexts), 1)))
        rows = [c or {} for c in contexts]
        values = [[row.get(f.name) for row in rows] for f in self.features]
        if (encoded := self._encode_usual(rows, values)) is not None:
            return encoded
        if faults := [fault for i, row in enumerate(rows) for fault in self._faults(i, row)]:
            raise InvalidInput(faults[:100])
        counts = EncodingCounts()
        columns = [f.column(v, counts) for f, v in zip(self.features, values, strict=True)]
        return _with_constant(len(rows), columns, counts)

    def _encode_usual(
        self, rows: Sequence[Context], values: Sequence[Sequence[Scalar]]
    ) -> EncodedContexts | None:
        """Encode, or return None where there may be a fault: looking at each value costs more."""
        if self.strict:
            return None
        counts = EncodingCounts()
        pairs = zip(self.features, values, strict=True)
        columns = [c for f, v in pairs if (c := f.usual_column(v, counts)) is not None]
        n_values = len(rows) * len(values) - counts.missing
        declared = sum(map(len, rows)) <= n_values or all(map(self._names.issuperset, rows))
        if not declared or len(columns) < len(values):
            return None
        return _with_constant(len(rows), columns, counts)

    def _faults(self, index: int, row: Context) -> list[Fault]:
        faults = []
        for name, value in row.items():
            refuse = self._refusals.get(name)
            if refuse is None:
                expected = ", ".join(self._refusals) or "none"
                detail = f"undeclared feature; this experiment declares {expected}"
            else:
                detail = refuse(value, strict=self.strict) or ""
            if detail:
                faults.append(Fault(pointer(index, name), detail))
        if self.strict and len(row) < len(self._names):
            faults += [
                Fault(pointer(index, name), "is missing")
                for name in self._refusals
                if name not in row
            ]
        return faults


def _with_constant(
    n: int, columns: Sequence[FloatArray], counts: EncodingCounts
) -> EncodedContexts:
    return EncodedContexts(np.concatenate([np.ones((n, 1)), *columns], axis=1), counts)


def decode(features: Sequence[Feature], x: FloatArray) -> dict[str, Any]:
    """Decode a context x (d,) to the value of each feature, for a receipt."""
    out: dict[str, Any] = {}
    at = 1
    for feature in features:
        part = x[at : at + feature.width]
        at += feature.width
        out[feature.name] = feature.read(part)
    return out


def _text(value: Scalar) -> str:
    """Write a category the way it is declared: true and 1 both as JSON would."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
