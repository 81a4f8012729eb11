"""Page "What if": what another choice would have brought, on the campaign's own log."""

from typing import cast, get_args

from flask import Flask, current_app, render_template, request
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.registry import policies
from bandits.store.values import ExperimentRecord
from storage import SqlStore
from storage.log.export import count_rows
from webapp.jobs.evaluations import MOST_ROWS, Evaluation, Evaluations, Question, QuestionKind
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import arm_name, reward_measure
from webapp.services import services

KINDS: dict[QuestionKind, str] = {
    "without": "one version had been left out",
    "only": "everyone had got one version",
    "equal": "every version had been sent equally often",
    "minimum": "each version had got at least a certain share",
    "method": "another method had decided",
}
_NAME = "bandits.evaluations"


class TypedQuestion(Struct, frozen=True):
    """A question as it is typed, and what is wrong with it, by field."""

    kind: str = "without"
    arm: str = "0"
    share: str = "10"
    method: str = ""
    wrong: str = ""


class AnswerText(Struct, frozen=True):
    """An answer in words: the headline, figures, and what to know besides.

    Attributes:
        value: reward per email that it would have earned, with its interval,
        as_sent: and that the emails earned as they were sent.
    """

    headline: str
    value: tuple[float, float, float] | None = None
    as_sent: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()


def init(app: Flask) -> None:
    """Give `app` its evaluations."""
    app.extensions[_NAME] = Evaluations()


@pages.get("/experiments/<key:key>/what-if")
@needs("viewer")
def what_if(key: str) -> ResponseReturnValue:
    """Ask what another choice would have brought, and show the answer or the progress."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    store = cast("SqlStore", engine.store)
    rows = count_rows(store, key) if record.started else 0
    typed, question = TypedQuestion(), None
    if "what" in request.args:
        typed, question = _question(record)
    evaluation = None
    if question is not None and 0 < rows <= MOST_ROWS:
        evaluations: Evaluations = current_app.extensions[_NAME]
        evaluation = evaluations.request(question, store)
    experiment = record.configuration.experiment
    page = render_template(
        "experiment/what_if.html",
        record=record,
        typed=typed,
        kinds=KINDS,
        arms=[arm_name(experiment, record.configuration.variants_of(k)) for k in _arms(record)],
        methods=_methods(record),
        rows=rows,
        most=MOST_ROWS,
        evaluation=evaluation,
        answer=None if evaluation is None else _answer(evaluation),
        measure=reward_measure(experiment.reward),
        tab="what-if",
    )
    return page, 422 if typed.wrong else 200


def _arms(record: ExperimentRecord) -> range:
    return range(len(record.configuration.arms))


def _methods(record: ExperimentRecord) -> dict[str, str]:
    """List the methods that could decide for this campaign, by name, but for its own."""
    configuration = record.configuration
    has_context = bool(configuration.experiment.context)
    low, high = configuration.experiment.reward.bounds
    return {
        name: policy.label
        for name, policy in policies().items()
        if name != configuration.experiment.policy.name
        and (has_context or not policy.statistic.contextual)
        and (policy.support is None or policy.support[0] <= low <= high <= policy.support[1])
    }


def _question(record: ExperimentRecord) -> tuple[TypedQuestion, Question | None]:
    """Read the question of the address; None where it does not fit, and why."""
    query = request.args
    typed = TypedQuestion(
        query.get("what", ""),
        query.get("arm", "0"),
        query.get("share", ""),
        query.get("method", ""),
    )
    n, wrong = len(_arms(record)), ""
    arm, share = 0, 0.0
    if typed.kind not in get_args(QuestionKind):
        wrong = "Choose a question."
    elif typed.kind in {"only", "without"}:
        arm = int(typed.arm) if typed.arm.isdecimal() and len(typed.arm) < 4 else n  # noqa: PLR2004 - more than any campaign has
        wrong = "" if arm < n else "Choose a version."
    elif typed.kind == "minimum":
        try:
            share = float(typed.share.removesuffix("%").replace(",", ".")) / 100
        except ValueError:
            share = -1.0
        wrong = "" if 0 < share <= 1 / n else f"Enter a share above 0 and at most {100 / n:.3g} %."
    elif typed.kind == "method" and typed.method not in _methods(record):
        wrong = "Choose a method."
    if typed.kind == "without" and n == 1:
        wrong = "This campaign has one version alone."
    if wrong:
        return TypedQuestion(typed.kind, typed.arm, typed.share, typed.method, wrong), None
    kind = cast("QuestionKind", typed.kind)
    method = typed.method if kind == "method" else ""
    version = record.learned_version
    return typed, Question(record.key, record.salt, version, kind, arm, share, method)


def _answer(evaluation: Evaluation) -> AnswerText | None:
    """Write an answer; None while there is none yet."""
    if evaluation.refused:
        return AnswerText("This cannot be answered.", notes=(evaluation.refused,))
    result, as_sent = evaluation.result, evaluation.as_sent
    if result is None or as_sent is None:
        return None
    best, own = result.best, as_sent.best
    if result.refusal is not None or best is None or best.low is None or best.high is None:
        return AnswerText("This log cannot tell.", notes=(result.refusal or "", *result.warnings))
    value = best.value, best.low, best.high
    if own is None or own.low is None or own.high is None:
        return AnswerText("Its value, without a comparison:", value, None, result.warnings)
    sent = own.value, own.low, own.high
    if best.low > own.high:
        headline = "More: its interval lies above that of the emails as they were sent."
    elif best.high < own.low:
        headline = "Less: its interval lies below that of the emails as they were sent."
    else:
        headline = "Too close to call: the intervals overlap."
    return AnswerText(headline, value, sent, result.warnings)
