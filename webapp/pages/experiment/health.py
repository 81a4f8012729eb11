"""Health checks of an experiment in words: each one sentence, with the remedy."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from bandits.actors import actor_of
from bandits.experiment import Experiment
from bandits.inference.sender_checks import SenderAlarm
from bandits.results import Health, Results
from webapp.pages.experiment.guardrail_text import GuardrailNote, guardrail_view
from webapp.pages.experiment.labels import Measure
from webapp.pages.formatting import actor_name, count, duration_text, percent, plural

_MUCH = 0.05  # share of sent emails: more contexts with repaired values look like a broken feed
_THIN = 0.25  # an effective size below this part of the final emails is a warning,
_EVEN = 0.5  # and from this part on nothing to speak of
_FULL = 0.7  # share of the restrictions that results are kept for; one sender reaches .75
_FEW_PERIODS = 2
_WAIT_LONGER = "In the next campaign, wait longer before an email counts as “no response”."

Tone = Literal["good", "watch", "wrong", "open"]
WORDS: dict[Tone, str] = {
    "good": "in order",
    "watch": "look at this",
    "wrong": "something is wrong",
    "open": "for your information",
}


class HealthCheck(Struct, frozen=True):
    """One row: its tone, its title, and a sentence on its meaning and remedy.

    Attributes:
        actor: whose emails may have to be void; empty for the list of what is void already.
    """

    tone: Tone
    title: str
    sentence: str
    actor: str | None = None

    @property
    def word(self) -> str:
        """Text of the row's mark, for readers who do not see it."""
        return WORDS[self.tone]


def health_checks(
    experiment: Experiment, results: Results, labels: Sequence[str], measure: Measure
) -> tuple[HealthCheck, ...]:
    """List every check; those that need action come first."""
    health = results.health
    sent = sum(a.sent for a in results.arms)
    checks = [
        _split(health, labels),
        _floor(health),
        _maturing(experiment, health),
        _late_rewards(health, labels, measure),
        _levels(health),
        _lifts(health),
        _weight(results, labels),
        _events(health),
        _clocks(health),
        _early(health),
        _resummed(health),
        _left_out(health),
        _voided(health),
        _excluded_bounces(health),
        *(_sender(alarm, labels, measure) for alarm in health.senders),
        *(_guardrail(note) for note in guardrail_view(experiment, results).in_force),
        _eligible_sets(health),
    ]
    if experiment.context:
        checks.append(_context(health, sent))
    order: list[Tone] = ["wrong", "watch", "open", "good"]
    return tuple(sorted((c for c in checks if c is not None), key=lambda c: order.index(c.tone)))


def _resummed(health: Health) -> HealthCheck | None:
    if health.resummed is None:
        return None
    return HealthCheck(
        "open",
        "Being computed anew",
        f"After an upgrade some figures are computed anew: {percent(health.resummed, 0)} of the"
        " emails sent are in so far. Figures that need all of them are back once that is done."
        " Sending and learning go on as ever.",
    )


def _left_out(health: Health) -> HealthCheck | None:
    if not health.left_out:
        return None
    return HealthCheck(
        "open",
        "Older emails left out",
        f"{plural(health.left_out, 'email')} had been removed for their age before this version"
        " began to keep newer figures: events by name, the last seven days, the control group and"
        " what moved do not count them. Rates and comparisons of versions do.",
    )


def _excluded_bounces(health: Health) -> HealthCheck | None:
    """Report emails that were taken out since their address bounced; None without any."""
    if not health.excluded_bounces:
        return None
    return HealthCheck(
        "watch",
        f"{plural(health.excluded_bounces, 'email')} left out after bounces",
        "A connection leaves out emails to addresses that do not exist. Mail servers also decide by"
        " content what bounces. If versions bounce differently, the comparison is biased, and the"
        " check of the split may warn. Turn it off under Settings, Connections.",
    )


def _voided(health: Health) -> HealthCheck | None:
    """Report emails that are void; None without any."""
    if not health.voided:
        return None
    return HealthCheck(
        "open",
        f"{plural(health.voided, 'email')} void",
        "Somebody decided that they do not count. They are in no figure of this page, and nothing"
        " was learned from them.",
        "",
    )


def _sender(alarm: SenderAlarm, labels: Sequence[str], measure: Measure) -> HealthCheck:
    """Report a key whose emails are unlike its draws, or unlike those of the other keys."""
    actor = actor_of("key", alarm.key)
    name = actor_name(actor)
    share, expected = percent(alarm.share), percent(alarm.expected)
    emails = plural(alarm.emails, "email")
    match alarm.check:
        case "split":
            title = f"{name} drops versions"
            label = "one version" if alarm.arm is None else labels[alarm.arm]
            sentence = (
                f"{share} of its {emails} that count are {label}, where chance gave {expected}. It"
                " cancels some versions, or never reports them as sent, so no comparison can be"
                " trusted."
            )
        case "restricted":
            title = f"{name} limits versions"
            sentence = (
                f"{share} of its {emails} could only be some of the versions. For other keys it is"
                f" {expected}. That may be right for its recipients; if not, it steers what is"
                " learned."
            )
        case "unanswered":
            title = f"Hardly any {measure.events} for {name}"
            sentence = (
                f"{share} of its {emails} brought something, and {expected} of the others' did."
                " Its emails may never be sent, or its results never be reported."
            )
        case "cancelled":
            title = f"{name} cancels emails that were sent"
            sentence = (
                f"{share} of its {emails} that were cancelled had results before, so they had been"
                " sent. Cancelling by results makes every comparison wrong."
            )
        case "never_activated":
            title = f"No email of {name} was sent"
            sentence = (
                f"It asked for {emails}, and nobody reported any of them as sent. Of other keys'"
                f" emails, {expected} were."
            )
    remedy = " If the key was stolen, revoke it and void what it did."
    tone: Tone = "wrong" if alarm.check in {"split", "cancelled"} else "watch"
    return HealthCheck(tone, title[0].upper() + title[1:], sentence + remedy, actor)


def _guardrail(note: GuardrailNote) -> HealthCheck:
    """Report what a guardrail did."""
    return HealthCheck("watch", note.title, note.sentence)


def _eligible_sets(health: Health) -> HealthCheck | None:
    """Report who narrowed emails to how many sets of versions; None where nobody did."""
    if not health.eligible_sets:
        return None
    used = sum(c.share for c in health.eligible_sets)
    most = max(health.eligible_sets, key=lambda c: c.sets)
    total = sum(c.sets for c in health.eligible_sets)
    sentence = (
        f"Senders narrowed emails to {plural(total, 'different set')} of versions,"
        f" {percent(used, 0)} of those that results are kept for. {count(most.sets)} came first"
        f" from {actor_name(most.actor)}, {percent(most.share, 0)} of the limit."
    )
    if used < _FULL:
        return HealthCheck("open", "Restricted emails", sentence)
    return HealthCheck(
        "watch",
        "Restrictions nearly used up",
        f"{sentence} Further sets of versions will soon be refused. Ask whether this sender needs"
        " so many.",
    )


def _split(health: Health, labels: Sequence[str]) -> HealthCheck:
    split = health.split
    if not sum(split.sent):
        return HealthCheck("open", "Split", "Shown once emails are sent.")
    if not split.alarmed:
        return HealthCheck(
            "good", "Split as intended", "Each version was sent as often as its chances said."
        )
    worst = min(split.alarmed, key=lambda k: split.p_values[k])
    return HealthCheck(
        "wrong",
        "Split not as intended",
        f"{labels[worst]} was sent {count(split.sent[worst])} times where"
        f" {count(split.expected[worst])} were expected. Something between choosing and sending"
        " loses or repeats emails, so no comparison can be trusted: have your developers look"
        " for it before you act on anything here.",
    )


def _floor(health: Health) -> HealthCheck:
    if health.floor > 0 and health.least_floor == 0:
        return HealthCheck(
            "watch",
            "Not always a minimum share",
            "Some emails that count were chosen without one, so the gain, and whether to stop,"
            " cannot be told. Start another campaign for that.",
        )
    if health.floor > 0:
        return HealthCheck(
            "good",
            f"Minimum share {percent(health.floor)}",
            "Every version goes on being tried, so comparisons keep their promise.",
        )
    return HealthCheck(
        "watch",
        "No minimum share",
        "Versions that fall behind may never be sent again, so the gain, and whether to stop,"
        " cannot be told: set a minimum share above 0 under Edit.",
    )


def _maturing(experiment: Experiment, health: Health) -> HealthCheck:
    rule = experiment.reward
    if health.open is None:
        return HealthCheck("open", "Final results", "Shown once emails are sent.")
    if health.open <= 0:
        return HealthCheck("good", "All results are final", "Nothing that arrives later counts.")
    title = f"{percent(health.open, 0)} of the results may still change"
    sentence = (
        f"A result is final {duration_text(rule.window_seconds)} after sending. Comparisons count"
        " only final results."
    )
    if rule.maturity < rule.window_seconds:
        sentence += f" Learning starts sooner, {duration_text(rule.maturity)} after sending."
    return HealthCheck("open", title, sentence)


def _late_rewards(health: Health, labels: Sequence[str], measure: Measure) -> HealthCheck:
    late = health.late_rewards
    unit = measure.events
    if late.warn and not late.differs and (late.overall or 0.0) <= late.limit:
        return HealthCheck(
            "watch",
            f"Late {unit} at least {percent(late.so_far)}",
            f"Already {percent(late.so_far)} of {unit} came after their email counted as “no"
            " response”, and more may come until all results are final. Learning misses them, and"
            f" favours versions that are answered quickly. {_WAIT_LONGER}",
        )
    if late.overall is None:
        return HealthCheck("open", f"Late {unit}", f"Shown once {unit} arrive.")
    summary = f"{percent(late.overall)} of {unit} came after their email counted as “no response”"
    if not late.overall:
        return HealthCheck(
            "good",
            f"No late {unit}",
            f"All {unit} came before their email counted as “no response”.",
        )
    if not late.warn:
        return HealthCheck(
            "good", f"Late {unit} {percent(late.overall)}", f"{summary}: too few to matter."
        )
    shares = [(s, k) for k, s in enumerate(late.share) if s is not None]
    (least, quick), (most, slow) = min(shares), max(shares)
    apart = (
        f", from {percent(least)} for {labels[quick]} to {percent(most)} for {labels[slow]}, so"
        " learning favours versions that are answered quickly"
        if late.differs
        else ", so learning misses them"
    )
    return HealthCheck(
        "watch",
        f"Late {unit} {percent(late.overall)}",
        f"{summary}{apart}. {_WAIT_LONGER}",
    )


def _levels(health: Health) -> HealthCheck:
    levels = health.levels
    if levels.found:
        return HealthCheck(
            "watch",
            "Rates moved",
            "Versions did not do the same all the time, as over a week or a season. The intervals"
            " shown hold all the same; chances to be best would not, and are left out.",
        )
    if levels.periods < _FEW_PERIODS:
        return HealthCheck("open", "Steady rates", "Shown once results of several days arrive.")
    return HealthCheck(
        "good",
        "Rates look steady",
        f"No version was seen to do better or worse as time went on, over"
        f" {plural(levels.periods, 'period')}. A small change may not show yet.",
    )


def _lifts(health: Health) -> HealthCheck:
    lifts = health.lifts
    if lifts.found:
        return HealthCheck(
            "watch",
            "Comparisons moved",
            "How far versions are ahead of the control, or behind it, was not the same all the"
            " time, beyond what a weekday does to all of them alike. A comparison shown is that of"
            " the emails it rests on, not of the next ones: keep running, and look at the latest"
            " days before you choose one version for good.",
        )
    if not lifts.periods:
        return HealthCheck(
            "open",
            "Steady comparisons",
            "Shown after a week of final results, and again after 2, 4, 8, 16 and 32 weeks.",
        )
    return HealthCheck(
        "good",
        "Comparisons look steady",
        f"How far each version is ahead of the control, or behind it, looks the same over the first"
        f" {'week' if lifts.periods == 1 else plural(lifts.periods, 'week')}."
        " A small change may not show yet.",
    )


def _weight(results: Results, labels: Sequence[str]) -> HealthCheck | None:
    """Report the arm with the smallest effective sample size; None without complete emails."""
    sizes = results.health.effective_sample_size
    weights = [
        (size / a.closed, a) for size, a in zip(sizes, results.arms, strict=True) if a.closed
    ]
    if not weights:
        return None
    least, arm = min(weights, key=lambda pair: pair[0])
    if least >= _EVEN:
        return HealthCheck(
            "good",
            "Sent evenly enough",
            "Shares changed little enough that no comparison loses much by it.",
        )
    return HealthCheck(
        "watch" if least < _THIN else "open",
        "Uneven sending",
        f"Uneven sending makes the result of {labels[arm.index]} less certain:"
        f" {plural(arm.closed, 'email')} are worth about {count(sizes[arm.index])} evenly split"
        " ones. A higher minimum share helps.",
    )


def _events(health: Health) -> HealthCheck:
    if not health.repeated and not health.late and not health.cancelled:
        return HealthCheck(
            "good", "No duplicate or late events", "Every event was counted as it came."
        )
    parts = []
    if health.repeated:
        parts.append(f"{plural(health.repeated, 'duplicate event')} ignored.")
    if health.late:
        parts.append(f"{plural(health.late, 'event')} came too late to count.")
    if health.cancelled:
        parts.append(f"{plural(health.cancelled, 'event')} came for cancelled emails.")
    return HealthCheck("open", "Duplicate and late events", f"{' '.join(parts)} A few are normal.")


def _clocks(health: Health) -> HealthCheck | None:
    """Report events with times in the future; None without any."""
    if not health.skewed:
        return None
    return HealthCheck(
        "watch",
        "A clock is wrong",
        f"{plural(health.skewed, 'event')} claimed to be more than five minutes in the future and"
        " counted as of when it was reported. Windows and late results are judged by these times:"
        " ask your developers to set the sender's clock, or this server's, by a time server.",
    )


def _early(health: Health) -> HealthCheck | None:
    """Report events that came before their email; None without any."""
    if not health.early:
        return None
    return HealthCheck(
        "watch",
        "Events before their email",
        f"{plural(health.early, 'event')} came before the email was decided or reported as sent,"
        " and did not count. Ask your developers to report emails as they leave, to set clocks by a"
        " time server, and to report such events again.",
    )


def _context(health: Health, sent: int) -> HealthCheck:
    counts = (
        (
            health.clipped,
            "value outside its range was cut to it",
            "values outside their range were cut to it",
        ),
        (health.unknown, "category was not listed", "categories were not listed"),
        (health.missing, "value was missing", "values were missing"),
    )
    parts = [f"{count(n)} {one if n == 1 else many}" for n, one, many in counts if n]
    if not parts:
        return HealthCheck(
            "good", "Recipient attributes fit", "Every value was within what is declared."
        )
    summary = ", ".join(parts)
    if health.clipped + health.unknown + health.missing > _MUCH * max(sent, 1):
        return HealthCheck(
            "watch",
            "Recipient attributes do not fit",
            f"{summary}: ask your developers whether the attributes sent are the ones declared.",
        )
    return HealthCheck("open", "Recipient attributes", f"{summary}: few enough not to matter.")
