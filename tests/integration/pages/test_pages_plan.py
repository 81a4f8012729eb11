"""Before you start: the plan is simulated, and what comes of it is said in words."""

import csv
import io
import re
from html import unescape

import numpy as np
import pytest
from msgspec import convert
from msgspec.structs import replace

from bandits.errors import InvalidInput
from tests.patience import LIMIT_SECONDS, wait_until
from webapp.pages.form import form_model
from webapp.pages.form.forecast_text import forecast_verdict
from webapp.pages.form.forecasts import Forecast, Forecasts
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.plan import campaign_plan, nearest_viable_plan, read_plan, slow_best
from webapp.pages.form.prior_campaigns import shrunk_rates

NEW, MARKER = "/new-experiment", "base"
PARTS = {
    "name": "Spring sale",
    "slots/0/variants/0/text": "Spring sale starts",
    "slots/0/variants/1/text": "What would you like?",
}
PLAN = {
    "plan/emails": "20,000",
    "plan/over/amount": "10",
    "plan/waves": "10",
    "plan/base": "10",
    "plan/better": "30",
}
SALE_SLOTS = [
    {
        "key": "subject_line",
        "kind": "subject_line",
        "variants": [
            {"key": "a", "payload": {"text": "A"}},
            {"key": "b", "payload": {"text": "B"}},
        ],
    }
]
DAY = 86_400.0


@pytest.fixture
def begun(manager):
    answer = manager.post(NEW, manager.form(NEW, MARKER) | PARTS | {"do": "next"})
    return answer.location.rpartition("/")[0]


@pytest.fixture
def simulate(manager, begun):
    """Type a plan and simulate it; return the page once it is there."""

    def simulate(**typed):
        address = f"{begun}/start"
        fields = manager.form(address, MARKER) | PLAN | {f"plan/{k}": v for k, v in typed.items()}
        answer = manager.post(address, fields | {"do": "simulate"})
        if answer.status_code != 302:
            return answer
        read = lambda: manager.get(answer.location)  # noqa: E731
        return wait_until(read, "forecast", lambda page: 'http-equiv="refresh"' not in page.text)

    return simulate


def said(page):
    return unescape(re.sub(r"<[^>]+>", "", page.text.split('id="verdict"')[1]))


def test_a_plan_is_simulated_and_judged_with_a_chart_a_table_and_ranges(simulate):
    page = simulate()
    assert page.status_code == 200
    text = said(page)
    assert "Extra clicks" in text
    assert "20,000 emails over 10 days in 10 waves" in text
    assert "A/B test on" in text
    assert "Picks a wrong winner" in text
    assert 'data-figure="{' in page.text
    assert "control group of 5" in text
    assert "not the best in" in text


def test_the_chart_of_a_plan_is_exported_and_an_unfinished_plan_leads_to_its_page(
    manager, begun, simulate
):
    early = manager.get(f"{begun}/plan.csv")
    assert (early.status_code, early.location) == (302, f"{begun}/start")
    assert f'href="{begun}/plan.csv"' in simulate().text
    rows = list(csv.DictReader(io.StringIO(manager.get(f"{begun}/plan.csv").text)))
    ways = {row["way to send"] for row in rows}
    assert len(ways) == 2
    assert "this plan" in ways
    last = [row for row in rows if row["emails sent"] == "19000"]  # without the control group
    assert {row["way to send"] for row in last} == ways
    for row in rows:
        assert float(row["lowest 5 %"]) <= float(row["highest 5 %"])


def test_a_plan_that_ends_before_its_first_results_is_told_and_cured(simulate):
    text = said(simulate(**{"over/amount": "6", "over/unit": "hours", "waves": "3"}))
    assert "ends before its first results are complete, so it cannot learn as planned" in text
    assert re.search(r"Spread it over 4 waves, one every 25 hours \(100 hours in all\)", text)
    assert "Or run an A/B test" in text
    one_wave = said(simulate(**{"waves": "1", "over/unit": "days"}))
    assert "cannot learn as planned" in one_wave
    assert "in the same time" in one_wave


@pytest.mark.parametrize(
    ("typed", "field", "detail"),
    [
        ({"emails": ""}, "plan/emails", "a number of emails"),
        ({"emails": "many"}, "plan/emails", "a number of emails"),
        ({"emails": "nan"}, "plan/emails", "a number of emails"),
        ({"waves": "0"}, "plan/waves", "at least 1"),
        ({"emails": "5", "waves": "6"}, "plan/waves", "not be more than there are emails"),
        ({"over/amount": ""}, "plan/over/amount", "a length of time"),
        ({"base": "0"}, "plan/base", "above 0"),
        ({"base": "101"}, "plan/base", "at most 100"),
        ({"better": "-5"}, "plan/better", "a number of per cent"),
        ({"rates/0": "4"}, "plan/rates/1", "give all of them, or none"),
        ({"half/amount": "soon"}, "plan/half/amount", "a length of time, such as 4 hours"),
        ({"half/amount": "0"}, "plan/half/amount", "a length of time, such as 4 hours"),
        ({"halves/1": "4"}, "plan/halves/0", "give all of them, or none"),
    ],
)
def test_faults_of_a_plan_stand_beside_their_field(  # noqa: PLR0913, PLR0917 - fixtures
    manager, begun, simulate, typed, field, detail
):
    page = simulate(**typed)
    assert page.status_code == 422
    beside = page.text.split(f'id="{field}-error"')
    assert len(beside) == 2
    assert detail in beside[1].split("</span>")[0]
    fields = manager.form(f"{begun}/start", MARKER)
    assert all(fields[f"plan/{name}"] == value for name, value in typed.items())


def test_plan_says_how_late_its_results_are_and_what_a_slow_winner_would_cost(simulate):
    text = said(simulate(**{"half/amount": "6", "half/unit": "hours"}))
    assert "half of them 6 hours after the email" in text
    assert "If the best version's results took twice as long" in text
    assert "where the best version's results are slow" in text


def test_plan_with_a_time_for_each_version_is_simulated_with_them_alone(simulate):
    text = said(simulate(**{"half/unit": "hours", "halves/0": "2", "halves/1": "9"}))
    assert "half of them 2 hours to 9 hours after the email" in text
    assert "took twice as long" not in text


def test_plan_of_a_method_that_takes_too_long_is_not_simulated(manager, begun):
    learning = f"{begun}/learning"
    fields = manager.form(learning, "policy") | {"policy": "thompson_delayed", "do": "next"}
    manager.post(learning, fields)
    page = manager.get(f"{begun}/start?simulate=yes")
    assert "take too long to be simulated here" in page.text
    assert "Simulating, a few seconds" not in page.text


def test_a_simulated_plan_is_shown_again_without_being_simulated_again(site, manager, simulate):
    first = simulate()
    board = site.app.extensions["bandits.forecasts"]
    before = len(board._by_digest)
    assert said(simulate()) == said(first)
    assert len(board._by_digest) == before


def drafted(**changes):
    form = form_model.new_form(form_model.TypedDraft)
    fields = {**PARTS, **PLAN, **changes}
    typed = form_model.read_fields(
        [(k, v) for k, v in fields.items() if k.startswith("plan/")], form_model.TypedDraft
    )
    slot = form.slots[0]
    texts = [PARTS[f"slots/0/variants/{i}/text"] for i in (0, 1)]
    variants = tuple(replace(slot.variants[0], text=t) for t in texts)
    return replace(
        form, name="x", key="x", slots=(replace(slot, variants=variants),), plan=typed.plan
    )


def planned(reward=None, **changes):
    """Read a plan for two subject lines, with another reward rule if given."""
    form = drafted(**changes)
    experiment = parse_experiment(form)
    if reward is not None:
        declared = {"metrics": reward.pop("metrics"), "maturity_seconds": DAY, **reward}
        rule = convert(declared, type(experiment.reward))
        policy = convert({"name": "thompson_gaussian"}, type(experiment.policy))
        experiment = replace(experiment, reward=rule, policy=policy)
    return read_plan(form, experiment)


class TestPlan:
    def test_results_known_by_the_next_wave_are_no_delay_and_a_minute_late_is_one(self):
        plan = planned(**{"plan/over/amount": "20"})  # a wave every two days, results after one
        assert (plan.delay, plan.informed) == (0, 0.9)
        daily = planned()  # results are learned a minute after the next wave has left
        assert (daily.delay, daily.informed) == (1, 0.8)
        assert campaign_plan(daily).delay == 1

    def test_the_control_group_is_left_out_and_no_email_is_lost(self):
        simulated = campaign_plan(planned(**{"plan/emails": "1001", "plan/waves": "7"}))
        assert sum(simulated.sizes) == round(1001 * 0.95)
        assert max(simulated.sizes) - min(simulated.sizes) <= 1

    def test_plan_of_many_waves_is_simulated_as_fewer_with_the_same_times(self):
        simulated = campaign_plan(planned(**{"plan/waves": "480"}))
        assert len(simulated.sizes) == 48
        assert simulated.delay == 4  # 48 waves in ten days: one every five hours, results after 24

    def test_rates_of_each_version_are_those_of_the_arms(self):
        plan = planned(**{"plan/rates/0": "3", "plan/rates/1": "4"})
        simulated = campaign_plan(plan)
        assert (simulated.means, simulated.sds, simulated.shuffled) == ((0.03, 0.04), None, False)

    def test_rates_are_dealt_to_unknown_versions(self):
        simulated = campaign_plan(planned())
        assert simulated.shuffled
        assert simulated.means == pytest.approx((0.1, 0.13))

    def test_values_have_the_mean_and_the_spread_of_orders(self):
        order = {"metrics": {"order": {"count": "sum", "high": 500.0}}}
        simulated = campaign_plan(planned(order, **{"plan/worth": "40"}))
        assert simulated.means == pytest.approx((4.0, 5.2))
        rng = np.random.default_rng(1)
        bought = rng.random(400_000) < 0.1
        orders = np.where(bought, 40 * rng.lognormal(-(0.8**2) / 2, 0.8, 400_000), 0)
        assert simulated.sds[0] == pytest.approx(orders.std(), rel=0.02)

    def test_minimised_metric_is_mirrored_as_the_engine_does(self):
        rule = {"metrics": {"unsubscribe": {}}, "goal": "minimise"}
        simulated = campaign_plan(planned(rule, **{"plan/rates/0": "3", "plan/rates/1": "4"}))
        assert simulated.means == pytest.approx((0.97, 0.96))

    def test_costs_count_in_a_plan(self):
        rule = {"metrics": {"click": {}}, "costs": {"subject_line": {"b": 0.5}}}
        typed = {"plan/worth": "1", "plan/rates/0": "3", "plan/rates/1": "4"}
        simulated = campaign_plan(planned(rule, **typed))
        assert abs(simulated.means[1] - 0.04) == pytest.approx(0.5)
        assert simulated.means[0] == pytest.approx(0.03)

    def test_plan_of_values_needs_their_size(self):
        with pytest.raises(InvalidInput, match="plan/worth"):
            planned({"metrics": {"order": {"count": "sum", "high": 500.0}}})

    @pytest.mark.parametrize(
        ("amount", "unit", "waves"), [("3", "days", "1"), ("2", "hours", "5"), ("26", "hours", "2")]
    )
    def test_nearest_viable_plan_learns(self, amount, unit, waves):
        typed = {"plan/over/amount": amount, "plan/over/unit": unit, "plan/waves": waves}
        plan = planned(**typed)
        assert plan.informed == 0
        better = nearest_viable_plan(plan)
        assert better.informed >= 0.4
        assert better.seconds >= plan.seconds


def verdict_of(plan):
    forecast = Forecast(plan, "anna")
    forecast.run()
    assert not forecast.failed
    return forecast_verdict(forecast)


def test_slow_best_takes_twice_as_long_where_it_is_the_best_and_half_elsewhere():
    typed = {"rates/0": "10", "rates/1": "12", "half/amount": "4", "half/unit": "hours"}
    campaign = campaign_plan(planned(**{f"plan/{k}": v for k, v in typed.items()}))
    assert campaign.answers.medians == pytest.approx((4 * 3600, 4 * 3600))
    assert slow_best(campaign).answers.medians == pytest.approx((2 * 3600, 8 * 3600))


class TestVerdict:
    """Cases so clear that no simulated campaign judges them otherwise."""

    def test_plan_of_two_waves_and_clear_versions_speaks_for_an_ab_test(self):
        typed = {"plan/emails": "100,000", "plan/waves": "2", "plan/base": "18"}
        verdict = verdict_of(planned(**typed))
        assert verdict.headline.startswith("An A/B test is the better choice for this plan")
        assert verdict.rows[1].extra > verdict.rows[0].extra

    def test_plan_of_few_emails_in_many_waves_speaks_for_the_bandit(self):
        typed = {"plan/emails": "3,000", "plan/waves": "40", "plan/over/amount": "100"}
        verdict = verdict_of(planned(**typed, **{"plan/base": "10", "plan/better": "100"}))
        assert verdict.headline.startswith("The bandit is the better choice")

    def test_verdict_names_a_method_that_brings_more(self):
        """25 versions of two parts, learned one by one: by parts the plan brings more."""
        typed = {"emails": "30,000", "better": "60", "waves": "30", "over/amount": "60"}
        form = drafted(**{f"plan/{name}": value for name, value in typed.items()})
        (slot,) = form.slots
        parts = [
            replace(
                slot, variants=tuple(replace(slot.variants[0], text=f"{p}{i}") for i in range(n))
            )
            for p, n in (("A", 5), ("B", 5))
        ]
        form = replace(form, slots=(parts[0], replace(parts[1], key="other")), policy="thompson")
        plan = read_plan(form, parse_experiment(form))
        reasons = " ".join(verdict_of(plan).reasons)
        assert "With Thompson sampling by parts in step 4 the same plan brings about" in reasons

    def test_verdict_says_that_no_other_method_brings_more(self):
        plan = planned()
        policy = convert({"name": "ucb1"}, type(plan.experiment.policy))
        plan = replace(plan, experiment=replace(plan.experiment, policy=policy))
        reasons = " ".join(verdict_of(plan).reasons)
        assert re.search("With Thompson sampling in step 4|would bring no more than", reasons)
        assert "step 4" not in " ".join(verdict_of(planned()).reasons)

    def test_verdict_of_a_list_that_cannot_tell_versions_apart_says_so(self):
        verdict = verdict_of(
            planned(**{"plan/emails": "400", "plan/base": "2", "plan/better": "5"})
        )
        assert verdict.headline == "This list is too small to tell these versions apart."
        assert re.search(r"would not be the best in (4\d|50)\s% of campaigns", verdict.reasons[0])
        large = verdict_of(planned(**{"plan/emails": "1,000,000"}))
        assert "too small" not in large.headline

    def test_a_method_that_chooses_by_recipient_is_simulated_with_recipients_alike(self):
        plan = planned()
        policy = convert({"name": "lints"}, type(plan.experiment.policy))
        plan = replace(plan, experiment=replace(plan.experiment, policy=policy))
        assert any("Recipients are simulated alike" in note for note in verdict_of(plan).notes)

    def test_a_fixed_split_is_called_one(self):
        plan = planned()
        policy = convert({"name": "uniform"}, type(plan.experiment.policy))
        plan = replace(plan, experiment=replace(plan.experiment, policy=policy))
        assert verdict_of(plan).headline.startswith("A fixed split learns nothing")


class TestForecasts:
    def test_a_persons_earlier_plan_is_given_up_and_other_peoples_are_not(self):
        board = Forecasts()
        plans = [planned(**{"plan/emails": str(n)}) for n in (1000, 2000, 3000)]
        first, second = (Forecast(p, who) for p, who in zip(plans, ("anna", "bob"), strict=False))
        board._by_digest = type(board._by_digest)((f.plan.digest(), f) for f in (first, second))
        third = board.request(plans[2], "anna")
        assert (first.cancelled, second.cancelled) == (True, False)
        assert third.over.wait(LIMIT_SECONDS)
        assert third.result is not None
        first.run()
        assert board.find(plans[0]) is None, "what was given up can be asked for again"

    def test_a_plan_is_the_same_whatever_it_is_called(self):
        plan = planned()
        other = replace(plan, experiment=replace(plan.experiment, key="other", name="Other"))
        assert plan.digest() == other.digest()
        assert plan.digest() != replace(plan, waves=11).digest()


class TestEarlierCampaigns:
    def test_rates_of_an_earlier_campaign_are_taken_over_freed_of_luck(self, site, manager, begun):
        key = site.make(slots=SALE_SLOTS, exclude=[], control={}, holdout=0.0)
        site.send(key, 600, lambda d: d.slots["subject_line"]["variant"] == "a")
        address = f"{begun}/start"
        assert f'value="{key}"' in manager.get(address).text
        fields = manager.form(address, MARKER)
        manager.post(address, fields | {"plan/earlier": key, "do": "expect"})
        fields = manager.form(address, MARKER)
        assert float(fields["plan/base"]) < 1
        assert float(fields["plan/better"]) > 100

    def test_earlier_campaign_that_does_not_exist_changes_nothing(self, manager, begun):
        address = f"{begun}/start"
        fields = manager.form(address, MARKER) | {"plan/earlier": "none", "plan/base": "7"}
        assert manager.post(address, fields | {"do": "expect"}).status_code == 200
        assert manager.form(address, MARKER)["plan/base"] == "7"

    def test_equal_versions_that_differ_by_luck_alone_are_taken_as_equal(self):
        """The best of 20 equal ones looks about 20 % better; of that hardly anything is left."""
        rng = np.random.default_rng(5)
        n, raw, left = [1000] * 20, [], []
        for _ in range(200):
            rewards = rng.binomial(1000, 0.1, 20)
            weakest, best = shrunk_rates(n, rewards)
            raw.append(rewards.max() / rewards.min() - 1)
            left.append(best / weakest - 1)
        assert np.mean(raw) > 0.3
        assert np.mean(left) < 0.1

    def test_clear_differences_of_an_earlier_campaign_stay(self):
        weakest, best = shrunk_rates([50_000, 50_000, 50_000], [2000, 2500, 3000])
        assert (weakest, best) == pytest.approx((0.04, 0.06), rel=0.02)

    def test_earlier_campaign_with_too_little_data_expects_nothing(self):
        assert shrunk_rates([99, 99], [5, 6]) is None
        assert shrunk_rates([1000], [50]) is None
        assert shrunk_rates([1000, 1000], [0, 0]) is None


def test_plan_says_what_its_control_group_can_show(simulate):
    page = unescape(simulate().text)
    assert "With 5\u202f% held out, this plan likely shows a gain of 39\u202f%." in page
    assert "5\u202f% held out needs about 360,000 emails to show a gain of 10\u202f%" in page


def test_plan_counts_emails_of_one_recipient_together(simulate):
    page = unescape(simulate(recipients="500").text)
    assert "This plan is too small for its control group of 5\u202f% to show a gain." in page
    assert "A recipient gets about 40 emails" in page


def test_audience_step_says_what_a_control_group_needs(manager, begun):
    page = unescape(manager.get(f"{begun}/audience").text)
    assert "5\u202f% held out needs about 2 million emails to show a gain of 10\u202f%" in page
