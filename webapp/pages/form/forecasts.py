"""Simulations of plans, beside the web worker's requests: one at a time, each plan once."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import cast

from flask import Flask, current_app

from bandits.experiment import Experiment
from simulations.planning.forecast import ForecastAbandoned, PlanForecast, forecast_plan
from webapp.pages.form.plan import Plan, campaign, nearest_viable_plan

_KEPT = 64  # plans whose outlook is remembered
_PATIENCE_SECONDS = 1.5  # how long a request waits, before it shows how far it is instead
_SECONDS = 4.0


class Forecast:
    """One plan's simulation.

    Attributes:
        part: which part is done, from 0 to 1.
        outlook: what came out, None while it is under way.
        cure: the nearest plan that learns, where this one does not, and what comes of it.
        failed: why nothing came out.
    """

    def __init__(self, plan: Plan, person: str) -> None:
        """Begin with nothing simulated."""
        self.plan, self.person = plan, person
        self.part = 0.0
        self.outlook: PlanForecast | None = None
        self.cure: tuple[Plan, PlanForecast] | None = None
        self.failed = ""
        self.over = Event()
        self.unwanted = False

    def run(self) -> None:
        """Simulate, until it is done or nobody wants it any more."""
        try:
            needs_cure = self.plan.informed == 0
            share = 0.5 if needs_cure else 1.0
            self.outlook = _foresee(self.plan, self._reporting(0.0, share), share)
            if needs_cure:
                plan = nearest_viable_plan(self.plan)
                self.cure = plan, _foresee(plan, self._reporting(share, share), share)
        except ForecastAbandoned:
            self.failed = "another plan was asked about"
        except Exception as error:  # noqa: BLE001 - told on the page; the worker goes on
            self.failed = str(error) or type(error).__name__
        finally:
            self.over.set()

    def _reporting(self, done: float, share: float) -> Callable[[float], bool]:
        def progress(part: float) -> bool:
            self.part = done + share * part
            return not self.unwanted

        return progress


def _foresee(plan: Plan, progress: Callable[[float], bool], share: float) -> PlanForecast:
    experiment: Experiment = plan.experiment
    policy, seconds = experiment.make_policy(), share * _SECONDS
    return forecast_plan(campaign(plan), policy, plan.floor, seconds=seconds, progress=progress)


_NAME = "bandits.forecasts"


class Forecasts:
    """What was simulated lately, and what is under way."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._known: OrderedDict[bytes, Forecast] = OrderedDict()
        self._lock = Lock()
        # One thread: while it reckons, requests still get their turns.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forecast")

    def find(self, plan: Plan) -> Forecast | None:
        """Return a plan's forecast, if it was asked for and did not fail."""
        with self._lock:
            found = self._known.get(plan.digest())
        return None if found is None or found.failed else found

    def ask(self, plan: Plan, person: str) -> Forecast:
        """Simulate a plan, unless it was; a person's earlier plan that is under way is given up."""
        found = self.find(plan)
        if found is None:
            found = Forecast(plan, person)
            with self._lock:
                for other in self._known.values():
                    other.unwanted |= other.person == person and not other.over.is_set()
                self._known[plan.digest()] = found
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._thread.submit(found.run)
        found.over.wait(_PATIENCE_SECONDS)
        return found


def init(app: Flask) -> None:
    """Give `app` a place for forecasts."""
    app.extensions[_NAME] = Forecasts()


def forecasts() -> Forecasts:
    """Return the running application's forecasts."""
    return cast("Forecasts", current_app.extensions[_NAME])
