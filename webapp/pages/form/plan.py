"""Plan of a campaign: read from the form, and converted to the campaign that is simulated."""

from collections.abc import Callable
from math import ceil, exp

import msgspec
import numpy as np
from msgspec import Struct

from bandits.allocation import default_floor
from bandits.array_types import FloatArray
from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment, covers
from bandits.policy import AnyPolicy
from bandits.registry import make, policies
from bandits.rewards import RewardRule
from bandits.versions import Configuration
from simulations.planning.wave_simulation import AnswerTimes, CampaignPlan
from webapp.pages.form.fields import parse_number
from webapp.pages.form.form_model import TypedDraft, TypedDuration, TypedPlan
from webapp.pages.formatting import UNITS

MOST_VERSIONS = 12  # with a field each for their rates; with more, the form asks for two rates
MOST_WAVES = 48  # in a simulation; more of them change nothing visible
_LONGEST_HALF = 366 * 86_400.0
_MOST_EMAILS = 1_000_000_000
SLOWER = 2.0  # times as long as said, where the best version's results are slow
HALF_IN = {"open": 4.0, "click": 4.0}  # hours after which half are in, where nobody says
HALF_OF_OTHERS_IN = 24.0
_SPREAD = 1.2  # of the logarithm of the time until a result
_SIGMA = 0.8  # of the logarithm of an order's value, as `simulations.environments.orders` has it
_CURE_WAVES = 4  # of a plan whose duration is changed


class Plan(Struct, frozen=True):
    """A plan: the emails, their waves, and the expected rates.

    Attributes:
        experiment: the declaration.
        emails: number of emails.
        seconds: duration; one wave leaves every `seconds` / `waves`.
        waves: number of waves.
        rates: success rates of all arms, or of the worst and the best only.
        has_rate_per_version: `rates` holds one for each arm.
        worth: mean reward of a success.
        recipients: number of recipients; as many as emails where each gets one.
        halves: seconds after which half of the results are in, of all arms or of each.
    """

    experiment: Experiment
    emails: int
    seconds: float
    waves: int
    rates: tuple[float, ...]
    has_rate_per_version: bool
    worth: float
    recipients: int = 0
    halves: tuple[float, ...] = (3600 * HALF_OF_OTHERS_IN,)

    @property
    def answers(self) -> AnswerTimes:
        """How late results are."""
        reward, n_arms = self.experiment.reward, len(self.experiment.combinations())
        return AnswerTimes(
            gap=self.wave_gap,
            lag=self.experiment.learn_every_seconds,
            maturity=reward.maturity,
            window=max(reward.window_seconds, reward.maturity, 1.0),
            medians=self.halves if len(self.halves) > 1 else self.halves * n_arms,
            sigma=_SPREAD,
        )

    @property
    def wave_gap(self) -> float:
        """Seconds from wave to wave."""
        return self.seconds / self.waves

    @property
    def reward_delay(self) -> float:
        """Seconds from a send until its reward is part of a snapshot."""
        return self.experiment.reward.maturity + self.experiment.learn_every_seconds

    @property
    def delay(self) -> int:
        """Number of further waves that leave before a wave's rewards are learned."""
        return max(ceil(self.reward_delay / self.wave_gap - 1e-9), 1) - 1

    @property
    def informed(self) -> float:
        """Share of the emails that leave after the first rewards are learned."""
        return max(0, self.waves - 1 - self.delay) / self.waves

    @property
    def chosen(self) -> int:
        """Number of emails with a choice: all but the control group's."""
        return round(self.emails * (1 - self.experiment.holdout))

    @property
    def emails_per_recipient(self) -> float:
        """Emails of each recipient that count: one, where they keep the version of the first."""
        if self.experiment.assignment == "per_subject":
            return 1.0
        return max(1.0, self.emails / self.recipients) if self.recipients else 1.0

    @property
    def floor(self) -> float:
        """The minimum share of each version."""
        floor = self.experiment.floor
        return default_floor(len(self.experiment.combinations())) if floor is None else floor

    def digest(self) -> bytes:
        """Return the identity of the plan, by which it is simulated once."""
        relevant = msgspec.structs.replace(self.experiment, key="plan", name="")
        simulated = msgspec.structs.replace(self, experiment=relevant, recipients=0)
        return msgspec.json.encode(simulated)


def read_plan(form: TypedDraft, experiment: Experiment) -> Plan:
    """Read a plan.

    Raises:
        InvalidInput: each fault is at the name of its field.
    """
    faults: list[Fault] = []
    typed = form.plan

    def read(name: str, text: str, low: float, high: float, requirement: str) -> float:
        try:
            value = parse_number(text.replace(",", "").replace("%", ""))
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            faults.append(Fault(f"plan/{name}", f"must be {requirement}"))
            return low
        return value

    emails = read("emails", typed.emails, 1, _MOST_EMAILS, "a number of emails, such as 50,000")
    waves = read("waves", typed.waves, 1, 10_000, "a whole number of waves, at least 1")
    seconds = _seconds(typed.over)
    if not 0 < seconds <= 10 * 365 * 86_400:
        faults.append(Fault("plan/over/amount", "must be a length of time, such as 3 days"))
    has_rate_per_version, rates = _rates(typed, len(experiment.combinations()), read)
    worth = 1.0
    if not is_binary(experiment.reward):
        worth = read("worth", typed.worth, 1e-9, 1e9, "what a success brings on average, above 0")
    if not faults and emails < waves:
        faults.append(Fault("plan/waves", "must not be more than there are emails"))
    requirement = "a number of recipients, at most one for each email"
    recipients = 0.0
    if typed.recipients.strip():
        recipients = read("recipients", typed.recipients, 1, max(emails, 1), requirement)
    halves = _halves(typed, experiment, faults)
    if faults:
        raise InvalidInput(faults)
    return Plan(
        experiment,
        int(emails),
        seconds,
        int(waves),
        rates,
        has_rate_per_version,
        worth,
        int(recipients),
        halves,
    )


def assumed_half(rule: RewardRule) -> float:
    """Return the hours after which half of the results are taken to be in, where nobody says."""
    return HALF_IN.get(next(iter(rule.metrics)), HALF_OF_OTHERS_IN)


def _halves(typed: TypedPlan, experiment: Experiment, faults: list[Fault]) -> tuple[float, ...]:
    """Read after how many seconds half of the results are in: of all arms, or of each."""
    n_arms = len(experiment.combinations())
    amounts = [a.strip() for a in typed.halves[:n_arms]]
    if any(amounts) and n_arms <= MOST_VERSIONS:
        places = [f"plan/halves/{i}" for i in range(n_arms)]
        amounts = [*amounts, *[""] * n_arms][:n_arms]
        detail = "must be a length of time, such as 4; give all of them, or none"
    else:
        places, amounts = ["plan/half/amount"], [typed.half.amount.strip()]
        detail = "must be a length of time, such as 4 hours"
        if not amounts[0]:
            return (3600 * assumed_half(experiment.reward),)
    seconds = tuple(_seconds(TypedDuration(a, typed.half.unit)) for a in amounts)
    faults += [
        Fault(place, detail)
        for place, half in zip(places, seconds, strict=True)
        if not 1 <= half <= _LONGEST_HALF
    ]
    return seconds


Reader = Callable[[str, str, float, float, str], float]


def _rates(typed: TypedPlan, n_versions: int, read: Reader) -> tuple[bool, tuple[float, ...]]:
    """Read a rate for each arm if any has one, else those of the worst and the best."""
    has_rates = any(r.strip() for r in typed.rates[:n_versions])
    if has_rates and n_versions <= MOST_VERSIONS:
        texts = [*typed.rates, *[""] * n_versions][:n_versions]
        requirement = "a rate from 0 to 100 %; give all of them, or none"
        rates = [read(f"rates/{i}", text, 0, 100, requirement) for i, text in enumerate(texts)]
        return True, tuple(rate / 100 for rate in rates)
    base = read("base", typed.base, 1e-6, 100, "a rate above 0 and at most 100 %") / 100
    better = read("better", typed.better, 0, 10_000, "a number of per cent, such as 10") / 100
    return False, (base, min(1.0, base * (1 + better)))


def _seconds(typed: TypedDuration) -> float:
    try:
        return parse_number(typed.amount) * UNITS.get(typed.unit, 1)
    except ValueError:
        return 0.0


def is_binary(rule: RewardRule) -> bool:
    """Return True if the reward of an email is 0 or 1."""
    (metric, *others) = rule.metrics.values()
    return metric.is_binary and metric.is_own_reward and not others and not rule.costs


def campaign_plan(plan: Plan) -> CampaignPlan:
    """Return the campaign to simulate.

    A rule where less is better is mirrored, as the engine does.
    """
    configuration = Configuration.first(plan.experiment)
    problem, rule = configuration.problem, plan.experiment.reward
    n_arms = problem.n_arms
    rates = (
        np.array(plan.rates)
        if plan.has_rate_per_version
        else np.linspace(plan.rates[0], plan.rates[-1], n_arms)
    )
    waves = min(plan.waves, MOST_WAVES)
    ends = np.arange(waves + 1) * plan.chosen // waves
    wave_gap = plan.seconds / waves
    means, sds = _reward_moments(rates, plan.worth, rule)
    means = means + configuration.costs
    if rule.goal == "minimise":
        means = problem.low + problem.high - means
    return CampaignPlan(
        sizes=tuple(np.diff(ends).tolist()),
        delay=max(ceil(plan.reward_delay / wave_gap - 1e-9), 1) - 1,
        means=tuple(means.tolist()),
        sds=None if sds is None else tuple(sds.tolist()),
        low=problem.low,
        high=problem.high,
        slot_levels=tuple(map(tuple, problem.slot_levels.tolist())),
        shuffled=not plan.has_rate_per_version,
        answers=msgspec.structs.replace(plan.answers, gap=wave_gap),
    )


def slow_best(campaign: CampaignPlan) -> CampaignPlan:
    """Return a campaign whose best arms' results take twice as long, and all others' half."""
    answers = campaign.answers
    if answers is None:
        return campaign
    best = max(campaign.means)
    factors = [SLOWER if mean == best else 1 / SLOWER for mean in campaign.means]
    medians = tuple(m * f for m, f in zip(answers.medians, factors, strict=True))
    return msgspec.structs.replace(
        campaign, answers=msgspec.structs.replace(answers, medians=medians)
    )


def rival_methods(plan: Plan) -> list[AnyPolicy]:
    """Return other methods, as they come, that could learn in a plan whose recipients are alike."""
    experiment = plan.experiment
    situations = {"values"} if not is_binary(experiment.reward) else {"rates"}
    if len(experiment.slots) > 1:
        situations.add("parts")
    return [
        make(name)
        for name, policy in policies().items()
        if policy.advised in situations
        and name != experiment.policy.name
        and covers(policy.support, experiment.reward.bounds)
    ]


def _reward_moments(
    rates: FloatArray, worth: float, rule: RewardRule
) -> tuple[FloatArray, FloatArray | None]:
    """Return mean and standard deviation of an email's reward; None for a binary reward.

    A success happens at its rate; its reward varies as order values do, unless there is one binary
    metric.
    """
    if is_binary(rule):
        return rates, None
    (metric, *others) = rule.metrics.values()
    fixed = not others and metric.is_binary
    variation = 0.0 if fixed else exp(_SIGMA**2) - 1  # of a log-normal value, squared
    means = rates * worth
    return means, np.sqrt(np.maximum(rates * worth**2 * (1 + variation) - means**2, 1e-18))


def success_square(rule: RewardRule) -> float:
    """Return the mean square of a success's worth over its squared mean."""
    (metric, *others) = rule.metrics.values()
    return 1.0 if not others and metric.is_binary else exp(_SIGMA**2)


def nearest_viable_plan(plan: Plan) -> Plan:
    """Return the nearest plan that learns: more waves in the same time, or more time."""
    best = 1 - plan.reward_delay / plan.seconds  # the limit of `informed` with very many waves
    if best >= 1 / _CURE_WAVES:
        for waves in range(2, MOST_WAVES + 1):
            candidate = msgspec.structs.replace(plan, waves=waves)
            if candidate.informed >= 0.75 * best:
                return candidate
    unit = UNITS["hours"] if plan.reward_delay >= 3 * UNITS["hours"] else UNITS["minutes"]
    wave_gap = ceil(plan.reward_delay / unit) * unit
    return msgspec.structs.replace(plan, waves=_CURE_WAVES, seconds=float(wave_gap * _CURE_WAVES))
