"""From what is typed about a plan to the campaign that is simulated."""

from collections.abc import Callable
from math import ceil, exp

import msgspec
import numpy as np
from msgspec import Struct

from bandits.allocation import default_floor
from bandits.array_types import FloatArray
from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.rewards import RewardRule
from bandits.versions import Configuration
from simulations.planning.wave_simulation import CampaignPlan
from webapp.pages.form.fields import number
from webapp.pages.form.form_model import TypedDraft, TypedDuration, TypedPlan
from webapp.pages.formatting import UNITS

MOST_VERSIONS = 12  # for which a rate each is asked; with more, two figures say it all
MOST_WAVES = 48  # that are simulated; finer ones change nothing that could be seen
_MOST_EMAILS = 1_000_000_000
_SIGMA = 0.8  # of the logarithm of an order's value, as `simulations.environments.orders` has it
_CURE_WAVES = 4  # where the time is to be chosen anyway


class Plan(Struct, frozen=True):
    """What is sent when, and what is expected of it.

    Attributes:
        experiment: what is declared.
        emails: how many.
        over: seconds; one wave leaves every `over` / `waves`.
        rates: success rates, one for each version, or the worst and the best only.
        worth: what a success brings.
    """

    experiment: Experiment
    emails: int
    over: float
    waves: int
    rates: tuple[float, ...]
    each: bool
    worth: float

    @property
    def gap(self) -> float:
        """Seconds from wave to wave."""
        return self.over / self.waves

    @property
    def wait(self) -> float:
        """Seconds from a send until its result is learned from."""
        return self.experiment.reward.maturity + self.experiment.learn_every_seconds

    @property
    def delay(self) -> int:
        """How many further waves leave before a wave's results are known."""
        return max(ceil(self.wait / self.gap - 1e-9), 1) - 1

    @property
    def informed(self) -> float:
        """The part of the emails that leaves when some results are known."""
        return max(0, self.waves - 1 - self.delay) / self.waves

    @property
    def chosen(self) -> int:
        """How many emails are chosen: all but the control group's."""
        return round(self.emails * (1 - self.experiment.holdout))

    @property
    def floor(self) -> float:
        """The minimum share of each version."""
        given = self.experiment.floor
        return default_floor(len(self.experiment.combinations())) if given is None else given

    def digest(self) -> bytes:
        """Name the plan: the same plan is simulated once."""
        relevant = msgspec.structs.replace(self.experiment, key="plan", name="")
        return msgspec.json.encode(msgspec.structs.replace(self, experiment=relevant))


def read_plan(form: TypedDraft, experiment: Experiment) -> Plan:
    """Read a plan.

    Raises:
        InvalidInput: each fault is at the name of its field.
    """
    faults: list[Fault] = []
    typed = form.plan

    def read(name: str, text: str, low: float, high: float, wanted: str) -> float:
        try:
            value = number(text.replace(",", "").replace("%", ""))
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            faults.append(Fault(f"plan/{name}", f"must be {wanted}"))
            return low
        return value

    emails = read("emails", typed.emails, 1, _MOST_EMAILS, "a number of emails, such as 50,000")
    waves = read("waves", typed.waves, 1, 10_000, "a whole number of waves, at least 1")
    days = _seconds(typed.over)
    if not 0 < days <= 10 * 365 * 86_400:
        faults.append(Fault("plan/over/amount", "must be a length of time, such as 3 days"))
    each, rates = _rates(typed, len(experiment.combinations()), read)
    worth = 1.0
    if not plain(experiment.reward):
        worth = read("worth", typed.worth, 1e-9, 1e9, "what a success brings on average, above 0")
    if not faults and emails < waves:
        faults.append(Fault("plan/waves", "must not be more than there are emails"))
    if faults:
        raise InvalidInput(faults)
    return Plan(experiment, int(emails), days, int(waves), rates, each, worth)


Reader = Callable[[str, str, float, float, str], float]


def _rates(typed: TypedPlan, n_versions: int, read: Reader) -> tuple[bool, tuple[float, ...]]:
    """Read a rate for each version where any was typed, else the weakest and the best."""
    given = [r for r in typed.rates[:n_versions] if r.strip()]
    if given and n_versions <= MOST_VERSIONS:
        texts = [*typed.rates, *[""] * n_versions][:n_versions]
        wanted = "a rate from 0 to 100 %; give all of them, or none"
        rates = [read(f"rates/{i}", text, 0, 100, wanted) for i, text in enumerate(texts)]
        return True, tuple(rate / 100 for rate in rates)
    base = read("base", typed.base, 1e-6, 100, "a rate above 0 and at most 100 %") / 100
    better = read("better", typed.better, 0, 10_000, "a number of per cent, such as 10") / 100
    return False, (base, min(1.0, base * (1 + better)))


def _seconds(typed: TypedDuration) -> float:
    try:
        return number(typed.amount) * UNITS.get(typed.unit, 1)
    except ValueError:
        return 0.0


def plain(rule: RewardRule) -> bool:
    """Tell whether an email earns 0 or 1."""
    (metric, *others) = rule.metrics.values()
    return metric.is_binary and metric.weight == 1 and not others and not rule.costs


def campaign(plan: Plan) -> CampaignPlan:
    """Make the campaign that is simulated.

    A rule where less is better is mirrored, as the engine does.
    """
    configuration = Configuration.first(plan.experiment)
    problem, rule = configuration.problem, plan.experiment.reward
    n_arms = problem.n_arms
    rates = (
        np.array(plan.rates) if plan.each else np.linspace(plan.rates[0], plan.rates[-1], n_arms)
    )
    waves = min(plan.waves, MOST_WAVES)
    ends = np.arange(waves + 1) * plan.chosen // waves
    gap = plan.over / waves
    means, sds = _earned(rates, plan.worth, rule)
    means = means + configuration.costs
    if rule.goal == "minimise":
        means = problem.low + problem.high - means
    return CampaignPlan(
        sizes=tuple(np.diff(ends).tolist()),
        delay=max(ceil(plan.wait / gap - 1e-9), 1) - 1,
        means=tuple(means.tolist()),
        sds=None if sds is None else tuple(sds.tolist()),
        low=problem.low,
        high=problem.high,
        slot_levels=tuple(map(tuple, problem.slot_levels.tolist())),
        shuffled=not plan.each,
    )


def _earned(
    rates: FloatArray, worth: float, rule: RewardRule
) -> tuple[FloatArray, FloatArray | None]:
    """Return mean and standard deviation of what an email earns; None where that is 0 or 1.

    A success happens at its rate; what it brings varies as order values do, unless there is one
    metric that happens or not.
    """
    if plain(rule):
        return rates, None
    (metric, *others) = rule.metrics.values()
    fixed = not others and metric.is_binary
    variation = 0.0 if fixed else exp(_SIGMA**2) - 1  # of a log-normal value, squared
    means = rates * worth
    return means, np.sqrt(np.maximum(rates * worth**2 * (1 + variation) - means**2, 1e-18))


def nearest_viable_plan(plan: Plan) -> Plan:
    """Return the nearest plan that learns: more waves in the same time, or more time."""
    best = 1 - plan.wait / plan.over  # the part that could be informed with very many waves
    if best >= 1 / _CURE_WAVES:
        for waves in range(2, MOST_WAVES + 1):
            tried = msgspec.structs.replace(plan, waves=waves)
            if tried.informed >= 0.75 * best:
                return tried
    unit = UNITS["hours"] if plan.wait >= 3 * UNITS["hours"] else UNITS["minutes"]
    gap = ceil(plan.wait / unit) * unit
    return msgspec.structs.replace(plan, waves=_CURE_WAVES, over=float(gap * _CURE_WAVES))
