"""Forecasts: simulations of plans beside the web worker's requests, one at a time, each once."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import cast

from flask import Flask, current_app

from bandits.policy import AnyPolicy
from simulations.planning.forecast import (
    FIRST,
    ForecastAbandoned,
    PlanForecast,
    forecast_plan,
)
from simulations.planning.wave_simulation import CampaignPlan
from webapp.pages.form.plan import (
    Plan,
    campaign_plan,
    nearest_viable_plan,
    rival_methods,
    slow_best,
)

_KEPT = 64  # forecasts that are kept
_PATIENCE_SECONDS = 1.5  # a request waits so long for a result; then its page shows the progress
_SECONDS = 4.0
FEWEST = 10  # replications of what is told beside the plan


class Forecast:
    """One plan's simulation.

    Attributes:
        progress: the part that is done, from 0 to 1.
        result: the simulated rewards, None while it is under way.
        alternative: the nearest plan that learns, where this one does not, and its rewards.
        slow_best: rewards where the best version's results are slow and the others' quick; None
            where the plan says how slow each is, or does not learn.
        rivals: labels of other methods that fit the campaign, and its rewards with each.
        failed: the reason of a failure, "" without one.
        over: set when it has ended.
        cancelled: the person asked for another plan.
    """

    def __init__(self, plan: Plan, person: str) -> None:
        """Start without a result."""
        self.plan, self.person = plan, person
        self.progress = 0.0
        self.result: PlanForecast | None = None
        self.alternative: tuple[Plan, PlanForecast] | None = None
        self.slow_best: PlanForecast | None = None
        self.rivals: list[tuple[str, PlanForecast]] = []
        self.failed = ""
        self.over = Event()
        self.cancelled = False

    def run(self) -> None:
        """Simulate until it is done or cancelled."""
        try:
            campaign, policy = campaign_plan(self.plan), self.plan.experiment.make_policy()
            self.result = self._simulate(campaign, policy, 0.0, 0.5)
            if self.plan.informed == 0:
                plan = nearest_viable_plan(self.plan)
                self.alternative = plan, self._simulate(campaign_plan(plan), policy, 0.5, 0.5)
                return
            if len(self.plan.halves) == 1:
                self.slow_best = self._simulate(slow_best(campaign), policy, 0.5, 0.25)
            others = rival_methods(self.plan)
            for i, rival in enumerate(others):
                share = 0.25 / len(others)
                result = self._simulate(campaign, rival, 0.75 + i * share, share)
                self.rivals.append((rival.label, result))
        except ForecastAbandoned:
            self.failed = "another plan was asked about"
        except Exception as error:  # noqa: BLE001 - shown on the page; the worker goes on
            self.failed = str(error) or type(error).__name__
        finally:
            self.over.set()

    def _simulate(
        self, campaign: CampaignPlan, policy: AnyPolicy, done: float, share: float
    ) -> PlanForecast:
        return forecast_plan(
            campaign,
            policy,
            self.plan.floor,
            first=FIRST if not done else FEWEST,
            seconds=share * _SECONDS,
            progress=self._progress_report(done, share),
        )

    def _progress_report(self, done: float, share: float) -> Callable[[float], bool]:
        def report(part: float) -> bool:
            self.progress = done + share * part
            return not self.cancelled

        return report


_NAME = "bandits.forecasts"


class Forecasts:
    """Forecasts that are under way or were finished lately."""

    def __init__(self) -> None:
        """Start without a forecast."""
        self._by_digest: OrderedDict[bytes, Forecast] = OrderedDict()
        self._lock = Lock()
        # One thread: requests get their turns while it computes.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    def find(self, plan: Plan) -> Forecast | None:
        """Return a plan's forecast, if it was requested and did not fail."""
        with self._lock:
            forecast = self._by_digest.get(plan.digest())
        return None if forecast is None or forecast.failed else forecast

    def request(self, plan: Plan, person: str) -> Forecast:
        """Simulate a plan unless it was already; cancel the person's forecast that is under way."""
        forecast = self.find(plan)
        if forecast is None:
            forecast = Forecast(plan, person)
            with self._lock:
                for other in self._by_digest.values():
                    other.cancelled |= other.person == person and not other.over.is_set()
                self._by_digest[plan.digest()] = forecast
                while len(self._by_digest) > _KEPT:
                    self._by_digest.popitem(last=False)
            self._thread.submit(forecast.run)
        forecast.over.wait(_PATIENCE_SECONDS)
        return forecast


def init(app: Flask) -> None:
    """Give `app` its forecasts."""
    app.extensions[_NAME] = Forecasts()


def forecasts() -> Forecasts:
    """Return the running application's forecasts."""
    return cast("Forecasts", current_app.extensions[_NAME])
