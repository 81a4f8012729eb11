"""Pages of segments: the variants compared within each value of a feature."""

from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.experiment import Experiment, Variant
from bandits.inference.intervals import Finding, Guarantee, Interval, Promise
from bandits.results import FeatureResult, Results, Segment
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, Figure
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.downloads import bounds
from webapp.pages.experiment.labels import Measure, reward_measure, slot_name, variant_name
from webapp.pages.experiment.results_view import BarScale, missing_reasons
from webapp.pages.formatting import csv_response
from webapp.services import services
from webapp.table_images import interval_picture

_OTHERS = "none of the listed"
_SHOWN = 25  # experiments on the page of all


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
    """One feature's segments, and a sentence on each variant that does better."""

    feature: str
    segments: tuple[SegmentRow, ...]
    winners: tuple[str, ...]
    promise: str


class SegmentsView(Struct, frozen=True):
    """Comparisons of one experiment as the page shows them.

    Attributes:
        trusted: false while emails are not sent as intended: then nothing is compared.
    """

    trusted: bool
    measure: Measure
    features: tuple[FeatureRows, ...]
    scale: BarScale | None
    reasons: tuple[str, ...]
    proof: Interval | None
    guarantees: dict[Promise, Guarantee]


@pages.get("/segments")
@needs("viewer")
def all_segments() -> ResponseReturnValue:
    """Show the segments of all started experiments with features."""
    engine = services().engine
    started = [r for r in engine.store.experiments.records() if r.started and r.state != "archived"]
    with_features = [r for r in started if r.configuration.experiment.context]
    views = [
        (r, segments_view(r.configuration.experiment, engine.results(r.key)))
        for r in with_features[:_SHOWN]
    ]
    others = len(started) - len(with_features)
    return render_template(
        "experiment/all_segments.html", views=views, others=others, more=with_features[_SHOWN:]
    )


@pages.get("/experiments/<key:key>/segments")
@needs("viewer")
def segments(key: str) -> ResponseReturnValue:
    """Show the segments of one experiment."""
    record, view = _read(key)
    pictures = [segment_picture(feature, view.measure) for feature in view.features]
    return render_template(
        "experiment/segments.html", record=record, view=view, pictures=pictures, tab="segments"
    )


@pages.get("/experiments/<key:key>/segments.csv")
@needs("viewer")
def segments_csv(key: str) -> ResponseReturnValue:
    """Export the comparisons of every segment."""
    _, view = _read(key)
    head = ["feature", "segment", "part", "variant", "emails", "lift", "lift_low", "lift_high"]
    rows = [
        [feature.feature, row.label, c.part, c.variant, row.closed, *bounds(c.lift)]
        for feature in view.features
        for row in feature.segments
        for c in row.comparisons
    ]
    return csv_response(f"{key}-segments.csv", head, rows)


def segment_picture(feature: FeatureRows, measure: Measure) -> Figure:
    """Draw a feature's comparisons, the segments of each variant side by side."""
    every = [(c, row.label) for row in feature.segments for c in row.comparisons]
    every.sort(key=lambda pair: (pair[0].part, pair[0].variant))
    rows = [(ArmStyle(f"{c.variant}, {label}", None, 0), c.lift) for c, label in every]
    return interval_picture(rows, is_rate=measure.is_rate)


def _read(key: str) -> tuple[ExperimentRecord, SegmentsView]:
    engine = services().engine
    record = engine.store.experiments.record(key)
    return record, segments_view(record.configuration.experiment, engine.results(key))


def segments_view(experiment: Experiment, results: Results) -> SegmentsView:
    """Build the page's rows and sentences."""
    variants = {(s.key, v.key): v for s in experiment.slots for v in s.variants}
    parts = {s.key: slot_name(s) for s in experiment.slots}
    features = tuple(_feature(f, variants, parts) for f in results.features)
    lifts = [c.lift for f in features for row in f.segments for c in row.comparisons]
    return SegmentsView(
        results.verdict.action != "check_health",
        reward_measure(experiment.reward),
        features,
        BarScale.from_findings(lifts, 0.0),
        tuple(missing_reasons(lifts)),
        next((f for f in lifts if f.measurable), None),
        results.guarantees,
    )


def _feature(
    result: FeatureResult, variants: dict[tuple[str, str], Variant], parts: dict[str, str]
) -> FeatureRows:
    rows = tuple(_segment(segment, variants, parts) for segment in result.segments)
    winners = tuple(
        f"{row.label}: {c.variant} does better than the control ({c.part.lower()})."
        for row in rows
        for c in row.comparisons
        if c.best
    )
    return FeatureRows(result.feature, rows, winners, result.family.sentence)


def _segment(
    segment: Segment, variants: dict[tuple[str, str], Variant], parts: dict[str, str]
) -> SegmentRow:
    comparisons = tuple(
        SegmentComparison(
            parts[comparison.slot],
            variant_name(variants[comparison.slot, comparison.variant]),
            comparison.lift,
            segment.better.get(comparison.slot) == comparison.variant,
        )
        for comparison in segment.lifts
    )
    label = _OTHERS if segment.label is None else segment.label
    return SegmentRow(label, segment.closed, segment.mean, comparisons)
