"""Verdict in words: the headline, the cost of switching, the next step and what they rest on.

Every page, the API and the downloads take their sentences from here, and only from the verdict, so
that none of them contradicts another. No sentence names a leader without what it would cost to be
wrong.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from bandits.actors import actor_of
from bandits.inference.intervals import Interval
from bandits.results import Results
from bandits.store.values import ExperimentRecord
from bandits.verdict import Action, Reason, Statement, Verdict
from webapp.pages.experiment.labels import Measure, arm_name, reward_measure
from webapp.pages.formatting import (
    actor_name,
    chance,
    count,
    duration_text,
    percent,
    plural,
    short_number,
)

_FEW = 2  # versions that are named one by one
_HIGH = 0.9  # a chance to be best that readers take for a proof
_WEEK_DAYS = 7
_PER_THOUSAND = 1000.0
_WAITING: tuple[Reason, ...] = ("not_started", "nothing_sent", "nothing_final")
_DISTRUSTED: tuple[Reason, ...] = ("sender", "split")  # no comparison can be trusted


class VerdictText(Struct, frozen=True):
    """Sentences of a verdict.

    Attributes:
        headline: the state, and the leader where one is named.
        cost: what switching everybody to the leader could cost; empty where none is named.
        cost_holds: the cost is that of emails from now on, not only of those sent so far.
        action: the next step, short enough for a list.
        why: reason for the next step; may be empty.
        basis: what it rests on: emails, days, dates, and the last seven days.
        caution: a warning of a high chance that is no proof; mostly empty.
        earlier: claims of the past, each with its date, the newest first.
        reset: a sentence on claims that were dropped; mostly empty.
        leader: arm that leads so far; None where none is named.
        settled: the next step is to stop and send the leader.
        proof: one of the intervals behind it, whose guarantee is a click away.
    """

    headline: str
    cost: str
    cost_holds: bool
    action: str
    why: str
    basis: tuple[str, ...]
    caution: str
    earlier: tuple[str, ...]
    reset: str
    leader: int | None
    settled: bool
    proof: Interval | None

    @property
    def advice(self) -> str:
        """The next step with its reason."""
        return _joined(self.action, self.why)

    @property
    def text(self) -> str:
        """The whole verdict in one paragraph, as the API answers it."""
        return _joined(self.headline, self.cost, self.action, self.why)


class VerdictContext(Struct, frozen=True):
    """Verdict with the names, units and dates that its sentences need.

    Attributes:
        labels: quoted label of each arm.
        now: seconds since 1970.
    """

    record: ExperimentRecord
    results: Results
    measure: Measure
    labels: Sequence[str]
    now: float

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.results.verdict

    @property
    def sent(self) -> int:
        """Emails sent, the control group's included."""
        group = self.results.holdout
        return sum(a.sent for a in self.results.arms) + (group.sent if group else 0)

    @property
    def window(self) -> str:
        """Time from sending until a result is final, in words."""
        return duration_text(self.record.configuration.experiment.reward.window_seconds)

    @property
    def ended(self) -> bool:
        """True once nothing more is compared."""
        return self.record.stopped_at is not None

    @property
    def personal(self) -> bool:
        """True where the version is chosen by recipient."""
        return self.verdict.against == "policy"

    @property
    def lasting(self) -> bool:
        """True where what the emails so far show may be said of those from now on."""
        verdict = self.verdict
        enough_days = verdict.closed_days >= verdict.days_needed
        return verdict.recent == "agrees" and enough_days and not verdict.lifts_move

    @property
    def final(self) -> bool:
        """True once the result cannot change any more: the last fold was after it closed."""
        return is_final(self.record, self.now)

    @property
    def leader(self) -> str:
        """Label of the leader; there must be one."""
        return "" if self.verdict.arm is None else self.labels[self.verdict.arm]


def verdict_text(record: ExperimentRecord, results: Results, now: float) -> VerdictText:
    """Write the verdict of an experiment as of `now`, in seconds since 1970."""
    experiment = record.configuration.experiment
    labels = [f"“{arm_name(experiment, a.variants)}”" for a in results.arms]
    context = VerdictContext(record, results, reward_measure(experiment.reward), labels, now)
    verdict = results.verdict
    named = verdict.arm is not None and verdict.reason not in (*_WAITING, *_DISTRUSTED)
    return VerdictText(
        headline=_joined(_state(context), _headline(context)),
        cost=_cost(context) if named else "",
        cost_holds=named and verdict.at_most is not None and (context.personal or context.lasting),
        action=_action(context),
        why=_why(context),
        basis=_basis(context) if results.closed and verdict.reason not in _WAITING else (),
        caution=_caution(context) if named else "",
        earlier=tuple(_statement(context, s) for s in _newest_first(results.statements)),
        reset=_reset(context),
        leader=verdict.arm if named else None,
        settled=verdict.action == "ship" and not context.ended,
        proof=_proof(results) if named else None,
    )


def is_final(record: ExperimentRecord, now: float) -> bool:
    """Return true once a result cannot change: its last window closed before the last fold."""
    every = record.configuration.experiment.learn_every_seconds
    return record.closes_at is not None and now > record.closes_at + every


def day_text(moment: datetime, now: float) -> str:
    """Write a day of the past or the far future: "12 May", with its year if that is another."""
    day = moment.astimezone(UTC)
    same_year = day.year == datetime.fromtimestamp(now, UTC).year
    return f"{day:%-d %b}" if same_year else f"{day:%-d %b %Y}"


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _newest_first(statements: Sequence[Statement]) -> list[Statement]:
    return sorted(statements, key=lambda s: s.at, reverse=True)


def _state(context: VerdictContext) -> str:
    """Describe a state in which nothing new is tried; empty while it runs."""
    record = context.record
    if record.state == "paused":
        return "Paused: your sender's requests are refused until you resume."
    if not context.ended:
        return "Archived before it started." if record.state == "archived" else ""
    ended = f"Stopped after {plural(context.sent, 'email')}."
    if record.state == "archived":
        return ended
    if record.shipped is None:
        return f"{ended} Your sender's requests are refused."
    everyone = "Everyone but the control group" if record.keeps_control else "Everyone"
    return f"{ended} {everyone} now gets {context.labels[record.shipped]}."


def _headline(context: VerdictContext) -> str:
    ended, leader = context.ended, context.leader
    earns = "earned" if ended else "earns"
    headlines: dict[Reason, str] = {
        "not_started": "" if context.record.state == "archived" else "Not started yet.",
        "nothing_sent": "" if ended else "No recipients yet.",
        "nothing_final": f"{plural(context.sent, 'email')} sent. No results are final yet.",
        "sender": _sender(context),
        "split": "Emails are not sent as intended, so no comparison can be trusted.",
        "personal_better": f"Choosing by recipient {earns} more than any one version.",
        "personal_equal": f"{leader} for everyone {earns} about as much as choosing by recipient.",
    }
    if context.verdict.reason in headlines:
        return headlines[context.verdict.reason]
    if context.verdict.arm is None:
        return "No version can be compared yet."
    if context.personal and context.verdict.reason == "leads":
        return f"{leader} for everyone {earns} more than choosing by recipient."
    if context.personal:
        would = "would have done best" if ended else "would do best so far"
        return f"Versions are chosen by recipient. For everyone alike, {leader} {would}."
    return _leader(context)


def _sender(context: VerdictContext) -> str:
    """Name the API key that makes comparisons wrong, and what it does; empty where none does."""
    sender = context.verdict.sender
    if sender is None:
        return ""
    name = actor_name(actor_of("key", sender.key))
    does = {
        "split": "drops some versions",
        "cancelled": "cancels emails after results of them came",
    }[sender.check]
    return f"{name[0].upper()}{name[1:]} {does}, so no comparison can be trusted."


def _leader(context: VerdictContext) -> str:
    verdict, leader = context.verdict, context.leader
    is_, could = ("was", "could have been") if context.ended else ("is", "could still be")
    rivals = _names(context, verdict.rivals)
    compared = len(context.results.arms) - 1 - len(verdict.uncompared)
    match verdict.reason:
        case "not_enough" if verdict.at_most is None:
            early = "It was too early to tell." if context.ended else "Too early to tell."
            return f"{early} {leader} {is_} ahead, which may be luck."
        case "lifts_move" | "recent_contradicts" as reason:
            turns = {
                "lifts_move": "was better on average, but differences between versions change.",
                "recent_contradicts": f"{is_} ahead over all days, but not over the last seven.",
            }
            return f"{leader} {turns[reason]}"
        case "little_lost" if rivals:
            slightly = could.replace("still ", "")
            return f"{leader} {is_} ahead by little. {rivals} {slightly} slightly better."
    if verdict.leads:
        others = "every version compared so far" if verdict.uncompared else "every other version"
        return f"{leader} {is_} better than {others}."
    if len(verdict.rivals) >= max(compared, _FEW):
        return f"No clear winner{'' if context.ended else ' yet'}. {leader} {is_} ahead."
    return f"{leader} {is_} ahead, but {rivals} {could} better."


def _names(context: VerdictContext, arms: Sequence[int]) -> str:
    if len(arms) <= _FEW:
        return " and ".join(context.labels[k] for k in arms)
    return f"{count(len(arms))} other versions"


def _cost(context: VerdictContext) -> str:
    """Write what sending one version to everybody could cost, with how sure that is."""
    verdict = context.verdict
    if isinstance(verdict.cost, Interval):
        return _personal_cost(context, verdict.cost)
    if verdict.at_most is None:
        return f"What switching everyone to {context.leader} could cost cannot be told yet."
    return _switching_cost(context, verdict.at_most)


def _switching_cost(context: VerdictContext, at_most: float) -> str:
    sure, adds = _sure(context), context.results.goal == "minimise"
    amount = context.measure.at_most_per_thousand(at_most)
    if context.ended or not context.lasting:
        sending = f"Over these emails, sending only {context.leader} would have"
        if at_most == 0:
            return f"{sending} cost nothing {sure}."
        return f"{sending} {'added' if adds else 'cost'} at most about {amount} {sure}."
    if at_most == 0:
        return f"Switching everyone to {context.leader} now would cost you nothing {sure}."
    could = "add" if adds else "cost you"
    switched = f"If you switched everyone to {context.leader} now"
    return f"{switched}, the most it could {could} is about {amount} {sure}."


def _personal_cost(context: VerdictContext, cost: Interval) -> str:
    """Write what the best single version would cost beside choosing by recipient."""
    sure, adds = _sure(context), context.results.goal == "minimise"
    verb = ("have added" if adds else "have cost") if context.ended else "add" if adds else "cost"
    one = f"One version for all would {verb}"
    if cost.low <= 0:
        if cost.high <= 0:
            return f"{one} nothing {sure}."
        return f"{one} at most about {context.measure.at_most_per_thousand(cost.high)} {sure}."
    about = context.measure.quantity(short_number(_PER_THOUSAND * cost.estimate))
    low, high = (short_number(_PER_THOUSAND * bound) for bound in (cost.low, cost.high))
    return f"{one} about {about} per 1,000 emails (between {low} and {high}, {sure[1:]}."


def _sure(context: VerdictContext) -> str:
    family = context.verdict.family
    return "" if family is None else f"({percent(1 - family.alpha, 0)} sure)"


def _action(context: VerdictContext) -> str:
    if context.ended:
        return "This result is final." if context.final else "Results still arriving are counted."
    if context.record.state == "archived":
        return "Nothing was ever chosen."
    actions: dict[Action, str] = {
        "wait": _wait(context),
        "check_health": "Look at Health before you act.",
        "keep_running": _keep_running(context),
        "ship": f"Stop and send {context.leader}.",
        "keep_personalising": "Keep personalising.",
    }
    return actions[context.verdict.action]


def _keep_running(context: VerdictContext) -> str:
    if context.record.state == "paused":
        return "Resume to learn more."
    until = _when(context, "until") if context.verdict.reason == "few_days" else ""
    return f"Keep running {until}." if until else "Keep running."


def _wait(context: VerdictContext) -> str:
    match context.verdict.reason:
        case "not_started":
            return "Check the set-up, then start."
        case "nothing_sent":
            return "Upload a list or connect your mailer."
    when = _when(context, "on")
    return f"The first results are final {when}." if when else "Wait for the first results."


def _when(context: VerdictContext, word: str) -> str:
    """Write when to look again: "until Thursday", "until 12 May"; empty where that has passed."""
    at = context.verdict.next_at
    now = datetime.fromtimestamp(context.now, UTC)
    if at is None or at <= now:
        return ""
    at = at.astimezone(UTC)
    days = (at.date() - now.date()).days
    if days == 0:
        return f"{'at' if word == 'on' else word} {at:%H:%M} UTC"
    if days == 1:
        return "tomorrow" if word == "on" else f"{word} tomorrow"
    return f"{word} {f'{at:%A}' if days < _WEEK_DAYS else day_text(at, context.now)}"


def _why(context: VerdictContext) -> str:
    verdict = context.verdict
    if context.ended:
        return _until_final(context)
    if context.record.state == "archived":
        return ""
    reasons: dict[Reason, str] = {
        "not_started": f"It chooses between {plural(len(context.labels), 'version')} of the email.",
        "nothing_final": f"Results can change until {context.window} after an email was sent.",
        "sender": (
            "If the key was stolen, revoke it and void what it did."
            " If not, ask your developers what its sender does."
        ),
        "split": "Ask your developers to find where emails are lost or repeated.",
        "not_enough": _not_enough(context),
        "few_days": _few_days(verdict),
        "could_lose": "More results will narrow this down.",
        "recent_unknown": "Whether this still holds cannot be told yet from the last seven days.",
        "recent_contradicts": f"Recent results speak against {context.leader}.",
        "lifts_move": "What was better so far may not be better from now on.",
        "personal_unknown": "Whether one version would do as well cannot be told yet.",
    }
    look = ""
    if verdict.action == "keep_running" and verdict.reason != "few_days":
        when = _when(context, "on")
        look = f"Look again {when}." if when else ""
    return _joined(reasons.get(verdict.reason, ""), _too_new(context), look)


def _not_enough(context: VerdictContext) -> str:
    if _too_new(context):
        return ""
    return "There are not enough final results yet to compare every version."


def _until_final(context: VerdictContext) -> str:
    if context.final:
        return "Nothing that arrives later changes it."
    return f"They count until {context.window} after the stop; then the result is final."


def _few_days(verdict: Verdict) -> str:
    days = f"{count(verdict.closed_days)} of {plural(verdict.days_needed, 'day')}"
    guard = "All days of this short plan are needed" if verdict.short_plan else "A whole week"
    guards = ": weekdays differ." if verdict.short_plan else " guards against weekday effects."
    have = "has" if verdict.closed_days == 1 else "have"
    return f"Only {days} of sending {have} final results. {guard}{guards}"


def _too_new(context: VerdictContext) -> str:
    """Name the versions that are left out of a comparison which others are in."""
    verdict = context.verdict
    others = len(context.results.arms) - 1 - len(verdict.uncompared)
    if not verdict.uncompared or others <= 0 or verdict.reason in (*_WAITING, *_DISTRUSTED):
        return ""
    is_ = "is" if len(verdict.uncompared) == 1 else "are"
    return f"{_names(context, verdict.uncompared)} {is_} too new to compare."


def _basis(context: VerdictContext) -> tuple[str, ...]:
    verdict = context.verdict
    emails = f"Over {plural(context.results.closed, 'email')} with final results"
    days = "one day" if verdict.closed_days == 1 else f"{count(verdict.closed_days)} different days"
    facts = [f"{emails}, sent on {days}{_dates(context)}."]
    if verdict.short_plan:
        facts.append(
            f"The plan is shorter than a week: {plural(verdict.days_needed, 'day')} of sending"
            f" {'is' if verdict.days_needed == 1 else 'are'} enough."
        )
    if verdict.reason not in (*_DISTRUSTED, "not_enough") and verdict.closed_days >= _WEEK_DAYS:
        facts.append(_recent(context))
    if verdict.lifts_move:
        facts.append("Differences between versions changed over time.")
    return tuple(facts)


def _recent(context: VerdictContext) -> str:
    """Write whether the last seven days agree, with the leader or with choosing by recipient."""
    recent = context.verdict.recent
    if recent == "agrees":
        return "Nothing in the last seven days with final results speaks against it."
    if recent == "unknown":
        return "The last seven days cannot be judged yet."
    if context.personal:
        return "In the last seven days too, choosing by recipient did better."
    return "The last seven days with final results disagree."


def _dates(context: VerdictContext) -> str:
    since, until = context.verdict.since, context.verdict.until
    if since is None or until is None:
        return ""
    return f", mostly {_span(since, until, context.now)}"


def _span(since: datetime, until: datetime, now: float) -> str:
    first, last = day_text(since, now), day_text(until, now)
    return f"on {first}" if first == last else f"from {first} to {last}"


def _caution(context: VerdictContext) -> str:
    """Warn of a high chance to be best beside a comparison that shows no leader yet."""
    arms = context.results.arms
    chances = [(a.chance_best, a.index) for a in arms if a.chance_best is not None]
    if context.verdict.leads or not chances:
        return ""
    highest, arm = max(chances)
    if highest < _HIGH:
        return ""
    shown = chance(highest).replace(">", "above")
    return (
        f"{context.labels[arm]} has a chance of {shown} to be best. This figure can look high by"
        " chance if you check often. Don't stop on it alone."
    )


def _statement(context: VerdictContext, statement: Statement) -> str:
    """Write a claim of the past: "On 12 May: over emails sent from 1 May to 11 May, …"."""
    when = day_text(statement.at, context.now)
    over = _span(statement.over_since, statement.over_until, context.now)
    others = "every other version" if statement.kind == "leads" else "the control"
    better = "did better" if context.results.goal == "minimise" else "earned more"
    bounds = sorted(_PER_THOUSAND * abs(b) for b in (statement.lift.low, statement.lift.high))
    low, high = (short_number(bound) for bound in bounds)
    by = context.measure.quantity(f"{low} to {high}")
    return (
        f"On {when}: over emails sent {over}, {context.labels[statement.arm]} {better} than"
        f" {others}, by {by} per 1,000 emails."
    )


def _reset(context: VerdictContext) -> str:
    reset = context.results.statements_reset
    if reset is None:
        return ""
    why = {
        "erasure": "the data of a recipient was erased",
        "void": "what a sender did was voided or restored",
        "machine_rules": "the rules against machines were changed",
        "lifts_move": "differences between versions changed over time",
    }
    return f"Findings before {day_text(reset.at, context.now)} were removed: {why[reset.reason]}."


def _proof(results: Results) -> Interval | None:
    """Return an interval with the guarantee of the leader's comparisons."""
    if isinstance(results.verdict.cost, Interval):
        return results.verdict.cost
    lifts = [a.lift for a in results.arms if isinstance(a.lift, Interval)]
    values = [a.value for a in results.arms if isinstance(a.value, Interval)]
    return next(iter([*lifts, *values]), None) if results.verdict.at_most is not None else None
