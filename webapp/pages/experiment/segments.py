"""Which variant does better for whom: a declared feature at a time."""

from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.experiment import Experiment, Variant
from bandits.inference.guarantees import Guarantee, Promise
from bandits.inference.intervals import Finding, Interval
from bandits.results import FeatureResult, Results, Segment
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, Figure
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.downloads import bounds
from webapp.pages.experiment.labels import Measure, called, measure, titled
from webapp.pages.experiment.results_view import BarScale, reasons
from webapp.pages.formatting import csv_response
from webapp.services import services
from webapp.table_images import interval_picture

_OTHERS = "none of the listed"
_SHOWN = 25  # campaigns on the page of all


class SegmentComparison(Struct, frozen=True):
    """One variant against the control's variant of its part, in one segment."""

    part: str
    variant: str
    lift: Finding
    best: bool


class SegmentRow(Struct, frozen=True):
    """One segment: the emails it rests on, and every comparison in it."""

    label: str
    closed: int
    mean: float | None
    comparisons: tuple[SegmentComparison, ...]


class FeatureRows(Struct, frozen=True):
    """One feature's segments, and what was found in a sentence each."""

    feature: str
    segments: tuple[SegmentRow, ...]
    found: tuple[str, ...]
    promise: str


class SegmentsView(Struct, frozen=True):
    """Everything that the page of segments shows."""

    measure: Measure
    features: tuple[FeatureRows, ...]
    scale: BarScale | None
    reasons: tuple[str, ...]
    proof: Interval | None
    guarantees: dict[Promise, Guarantee]


@pages.get("/segments")
@needs("viewer")
def all_segments() -> ResponseReturnValue:
    """Say of each campaign that knows something of its recipients which variant suits whom."""
    engine = services().engine
    begun = [r for r in engine.store.experiments.records() if r.started and r.state != "archived"]
    knowing = [r for r in begun if r.configuration.experiment.context]
    told = [
        (r, segments_view(r.configuration.experiment, engine.results(r.key)))
        for r in knowing[:_SHOWN]
    ]
    others = len(begun) - len(knowing)
    return render_template(
        "experiment/all_segments.html", told=told, others=others, more=knowing[_SHOWN:]
    )


@pages.get("/experiments/<key:key>/segments")
@needs("viewer")
def segments(key: str) -> ResponseReturnValue:
    """Show which variant does better for whom."""
    record, told = _read(key)
    pictures = [picture(feature, told.measure) for feature in told.features]
    return render_template(
        "experiment/segments.html", record=record, told=told, pictures=pictures, tab="segments"
    )


@pages.get("/experiments/<key:key>/segments.csv")
@needs("viewer")
def segments_csv(key: str) -> ResponseReturnValue:
    """Export every comparison."""
    _, told = _read(key)
    head = ["feature", "segment", "part", "variant", "emails", "lift", "lift_low", "lift_high"]
    rows = [
        [feature.feature, row.label, c.part, c.variant, row.closed, *bounds(c.lift)]
        for feature in told.features
        for row in feature.segments
        for c in row.comparisons
    ]
    return csv_response(f"{key}-segments.csv", head, rows)


def picture(feature: FeatureRows, counted: Measure) -> Figure:
    """Draw a feature's comparisons, each variant's segments side by side."""
    every = [(c, row.label) for row in feature.segments for c in row.comparisons]
    every.sort(key=lambda pair: (pair[0].part, pair[0].variant))
    rows = [(ArmStyle(f"{c.variant}, {label}", None, 0), c.lift) for c, label in every]
    return interval_picture(rows, is_rate=counted.is_rate)


def _read(key: str) -> tuple[ExperimentRecord, SegmentsView]:
    engine = services().engine
    record = engine.store.experiments.record(key)
    return record, segments_view(record.configuration.experiment, engine.results(key))


def segments_view(experiment: Experiment, results: Results) -> SegmentsView:
    """Put the page's rows and sentences together."""
    variants = {(s.key, v.key): v for s in experiment.slots for v in s.variants}
    parts = {s.key: titled(s) for s in experiment.slots}
    told = tuple(_feature(f, variants, parts) for f in results.features)
    lifts = [c.lift for f in told for row in f.segments for c in row.comparisons]
    return SegmentsView(
        measure(experiment.reward),
        told,
        BarScale.of(lifts, 0.0),
        tuple(reasons(lifts)),
        next((f for f in lifts if f.measurable), None),
        results.guarantees,
    )


def _feature(
    result: FeatureResult, variants: dict[tuple[str, str], Variant], parts: dict[str, str]
) -> FeatureRows:
    rows = tuple(_segment(segment, variants, parts) for segment in result.segments)
    found = tuple(
        f"{row.label}: {c.variant} does better than the control ({c.part.lower()})."
        for row in rows
        for c in row.comparisons
        if c.best
    )
    return FeatureRows(result.feature, rows, found, result.family.sentence)


def _segment(
    segment: Segment, variants: dict[tuple[str, str], Variant], parts: dict[str, str]
) -> SegmentRow:
    comparisons = tuple(
        SegmentComparison(
            parts[each.slot],
            called(variants[each.slot, each.variant]),
            each.lift,
            segment.better.get(each.slot) == each.variant,
        )
        for each in segment.lifts
    )
    label = _OTHERS if segment.label is None else segment.label
    return SegmentRow(label, segment.closed, segment.mean, comparisons)
