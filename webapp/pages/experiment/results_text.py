"""Results in words: the leading arm, the cost of a wrong choice, and the next step.

No sentence names a leader without what it would cost to be wrong.
"""

from collections.abc import Sequence

from msgspec import Struct

from bandits.inference.estimates import Lead
from bandits.inference.intervals import Interval
from bandits.results import Results
from bandits.store.values import ExperimentRecord
from webapp.pages.experiment.labels import Measure
from webapp.pages.formatting import chance, count, duration_text, percent, plural

_DAY = 86_400.0
WEEK = 7 * _DAY
_FEW = 2  # rivals that are named one by one
_LITTLE = 0.02  # of the leader's own value: giving up less than that matters little
_HIGH = 0.9  # a chance to be best that readers take for a proof


class ResultsVerdict(Struct, frozen=True):
    """Verdict at the top of an experiment's page.

    Attributes:
        headline: a sentence on the state.
        advice: a sentence on the next step.
        risk: cost of a wrong choice; empty where no arm is named.
        leader: the arm that leads so far.
        settled: stopping now and sending the leader gives up nothing, or next to nothing.
        proof: one of the intervals behind the headline: its guarantee is shown under "why?".
    """

    headline: str
    advice: str
    risk: str = ""
    leader: int | None = None
    settled: bool = False
    proof: Interval | None = None


class ResultFacts(Struct, frozen=True):
    """Input of a verdict.

    Attributes:
        labels: label of each arm.
        now: seconds since 1970.
    """

    record: ExperimentRecord
    results: Results
    measure: Measure
    labels: Sequence[str]
    now: float
    sent: int
    complete: int

    @property
    def window(self) -> str:
        """Reward window, in words."""
        return duration_text(self.record.configuration.experiment.reward.window_seconds)

    @property
    def maturity(self) -> str:
        """Time from sending until a result is mature, in words."""
        return duration_text(self.record.configuration.experiment.reward.maturity)

    @property
    def seconds(self) -> float:
        """Seconds from the start until the stop, or until now."""
        end = self.now if self.record.stopped_at is None else self.record.stopped_at
        return 0.0 if self.record.started_at is None else end - self.record.started_at

    @property
    def final(self) -> bool:
        """True once the result cannot change any more: the last fold was after it closed."""
        closes = self.record.closes_at
        every = self.record.configuration.experiment.learn_every_seconds
        return closes is not None and self.now > closes + every


def results_verdict(facts: ResultFacts) -> ResultsVerdict:
    """Describe the state of an experiment and its next step."""
    versions = plural(len(facts.labels), "version")
    match facts.record.state:
        case "draft":
            return ResultsVerdict(
                "Not started: nothing is chosen yet.",
                f"It will choose between {versions} of the email. Look through the set-up, then"
                " start; emails are chosen once your sender asks for them.",
            )
        case "stopped" | "archived" if facts.record.stopped_at is not None:
            return _stopped_verdict(facts)
        case "archived":
            return ResultsVerdict("Archived before it started.", "Nothing was ever chosen.")
        case "paused":
            verdict = _running_verdict(facts)
            headline = "Paused: your sender's requests are refused until you resume."
            if verdict.leader is not None:
                headline += f" {verdict.headline}"
            rest = "Results of emails already sent go on being counted."
            return _reworded(verdict, headline, rest)
    return _running_verdict(facts)


def loss_text(at_most: float, facts: ResultFacts) -> str:
    """Write the cost of a wrong choice, per 1,000 emails."""
    minimised = facts.results.goal == "minimise"
    more = facts.measure.at_most_per_thousand(at_most)
    return f"have at most {more} too many" if minimised else f"give up at most {more}"


def _reworded(verdict: ResultsVerdict, headline: str, advice: str) -> ResultsVerdict:
    return ResultsVerdict(
        headline, advice, verdict.risk, verdict.leader, verdict.settled, verdict.proof
    )


def _stopped_verdict(facts: ResultFacts) -> ResultsVerdict:
    verdict = _closed_verdict(facts)
    headline = f"Stopped after {plural(facts.sent, 'email')}."
    shipped = facts.record.shipped
    if shipped is not None and facts.record.state == "stopped":
        headline += f" Everybody now gets {facts.labels[shipped]}."
    elif facts.record.state == "stopped":
        headline += " Your sender's requests are refused."
    if verdict.leader is not None:
        headline += f" {verdict.headline}"
    rest = (
        "This result is final: nothing that arrives later changes it."
        if facts.final
        else f"Results still arriving are counted until {facts.window} after the stop; then the"
        " result is final."
    )
    return _reworded(verdict, headline, rest)


def _running_verdict(facts: ResultFacts) -> ResultsVerdict:
    if facts.sent == 0:
        return ResultsVerdict(
            "Running, and waiting for your sender to ask for the first email.",
            f"It chooses between {plural(len(facts.labels), 'version')}. Set-up shows what your"
            " developers need.",
        )
    if facts.complete == 0:
        return ResultsVerdict(
            f"{plural(facts.sent, 'email')} sent; no result is complete yet.",
            f"A result is complete {facts.maturity} after its email was sent. Until then nothing"
            " has been learned.",
        )
    return _closed_verdict(facts)


def _closed_verdict(facts: ResultFacts) -> ResultsVerdict:
    """Describe the comparison of the decisions whose windows have closed."""
    lead = facts.results.lead
    if lead is None:
        share = percent(facts.complete / facts.sent, 0) if facts.sent else "0"
        return ResultsVerdict(
            f"{share} of {plural(facts.sent, 'email')} have a complete result; no comparison holds"
            " yet.",
            f"Versions are compared once results can no longer change, {facts.window} after an"
            " email was sent. Rates before that can mislead.",
        )
    proof = _proof(facts.results, lead)
    if lead.at_most is None:
        return ResultsVerdict(
            f"Too early to tell: {facts.labels[lead.arm]} does best so far, which may be luck.",
            "Keep it running: there is not enough to compare every version yet.",
            "What sending only this one would give up cannot be told yet.",
            lead.arm,
            proof=proof,
        )
    little = lead.at_most <= _LITTLE * abs(_value(facts.results, lead.arm))
    return ResultsVerdict(
        _headline(facts, lead, little=little),
        _advice(facts, lead, little=little),
        " ".join(filter(None, (_risk(facts, lead, lead.at_most), _no_proof(facts, lead)))),
        lead.arm,
        lead.leads or little,
        proof,
    )


def _headline(facts: ResultFacts, lead: Lead, *, little: bool) -> str:
    leader = facts.labels[lead.arm]
    if facts.results.share_basis == "recent":
        return (
            f"It chooses by recipient. Were everybody to get the same version, {leader} would do"
            f" best so far{'' if lead.leads else ', though others could be better'}."
        )
    if lead.leads:
        return f"{leader} leads: every other version is shown to do worse."
    rivals = [facts.labels[k] for k in lead.rivals]
    if little:
        others = _rivals_text(rivals)
        return f"{leader} leads by little: {others} could be better, and it hardly matters."
    if len(rivals) == len(facts.labels) - 1 and len(rivals) > 1:
        ending = "is found yet" if facts.record.stopped_at is None else "was found"
        return f"No difference {ending}. {leader} is the surest choice so far."
    return f"{leader} leads, but {_rivals_text(rivals)} could still be better."


def _rivals_text(rivals: Sequence[str]) -> str:
    if len(rivals) <= _FEW:
        return " and ".join(rivals)
    return f"{count(len(rivals))} other versions"


def _advice(facts: ResultFacts, lead: Lead, *, little: bool) -> str:
    if facts.record.stopped_at is None and facts.seconds < WEEK:
        return "Keep it running over a whole week: it guards against weekday effects."
    if lead.leads or little:
        return "You can stop and keep sending it."
    return "Keep it running: more results will narrow it down."


def _risk(facts: ResultFacts, lead: Lead, at_most: float) -> str:
    sure = f"The risk that this is wrong is at most {percent(lead.family.alpha, 0)}."
    leader = facts.labels[lead.arm]
    only = f"Were you to send only {leader} from now on, you would"
    if at_most == 0:
        return f"{only} give up nothing. {sure}"
    return f"{only} {loss_text(at_most, facts)}. {sure}"


def _no_proof(facts: ResultFacts, lead: Lead) -> str:
    """Explain a high chance to be best beside a comparison without a result yet."""
    chances = [(a.chance_best, a.index) for a in facts.results.arms if a.chance_best is not None]
    if lead.leads or not chances:
        return ""
    highest, arm = max(chances)
    if highest < _HIGH:
        return ""
    shown = chance(highest).replace(">", "above")
    return (
        f"The chance of {facts.labels[arm]} to be best is {shown}, which takes rates as"
        " constant and is no proof: where versions do not differ, whoever looks often meets such"
        " chances too. What is said here holds however often you look."
    )


def _value(results: Results, arm: int) -> float:
    value = results.arms[arm].value
    return value.estimate if value.measurable else results.arms[arm].mean or 0.0


def _proof(results: Results, lead: Lead) -> Interval | None:
    """Return an interval with the guarantee of the leader's comparisons."""
    lifts = [a.lift for a in results.arms if a.lift is not None and a.lift.measurable]
    values = [a.value for a in results.arms if a.value.measurable]
    return next(iter([*lifts, *values]), None) if lead.at_most is not None else None
