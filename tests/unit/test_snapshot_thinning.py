"""Which snapshots go: by age, and by size."""

from hypothesis import given
from hypothesis import strategies as st

from bandits.engine.retention import plan_thinning
from bandits.store.values import KeptSnapshot

HOUR, DAY = 3600.0, 86_400.0
NOW = 100.4 * DAY
PLENTY = 10**12


def snapshots(ages, *, size=10, needed=()):
    """Make snapshots of ascending times from their ages in seconds."""
    times = sorted(NOW - age for age in ages)
    return [KeptSnapshot(i, at, size, i in needed) for i, at in enumerate(times, start=1)]


def left(kept, plan):
    return [s for s in kept if s.version not in {*plan.by_age, *plan.by_size}]


def test_plan_keeps_every_snapshot_for_a_day():
    kept = snapshots(60.0 * minute for minute in range(24 * 60))
    assert plan_thinning(kept, now=NOW, most_bytes=PLENTY).by_age == []


def test_plan_of_a_month_keeps_one_of_each_hour_and_day():
    kept = snapshots(600.0 * i for i in range(6 * 24 * 30))
    staying = left(kept, plan_thinning(kept, now=NOW, most_bytes=PLENTY))
    ages = [NOW - s.at for s in staying]
    assert 6 * 24 <= sum(age < DAY for age in ages) <= 6 * 25
    assert sum(DAY + HOUR <= age < 7 * DAY for age in ages) in range(6 * 24 - 2, 6 * 24 + 1)
    assert sum(age >= 8 * DAY for age in ages) in range(21, 24)
    assert len(staying) < 6 * 25 + 7 * 24 + 30


def test_plan_keeps_what_is_needed_whatever_its_age_and_size():
    kept = snapshots((1.0, 2.0, 20 * DAY, 20 * DAY + 1, 20 * DAY + 2), needed={1, 4})
    plan = plan_thinning(kept, now=NOW, most_bytes=PLENTY)
    assert (plan.by_age, plan.by_size, plan.left) == ([2], [], 40)
    plan = plan_thinning(kept, now=NOW, most_bytes=25)
    assert (plan.by_age, plan.by_size, plan.left) == ([2], [3, 5], 20)
    plan = plan_thinning(kept, now=NOW, most_bytes=1)
    assert (plan.by_size, plan.left) == ([3, 5], 20)


def test_plan_by_size_takes_no_more_than_it_has_to():
    kept = snapshots(range(10))
    assert plan_thinning(kept, now=NOW, most_bytes=100).by_size == []
    assert plan_thinning(kept, now=NOW, most_bytes=99).by_size == [1]
    assert plan_thinning(kept, now=NOW, most_bytes=71).by_size == [1, 2, 3]


ages = st.lists(st.floats(0.0, 40 * DAY), min_size=1, max_size=60)


@given(ages, st.lists(st.floats(0.0, 10 * DAY), max_size=4))
def test_plan_in_steps_keeps_what_one_at_the_end_would(ages, steps):
    kept = snapshots(ages)
    at_end = left(kept, plan_thinning(kept, now=NOW + 10 * DAY, most_bytes=PLENTY))
    stepwise = kept
    for step in (*sorted(steps), 10 * DAY):
        plan = plan_thinning(stepwise, now=NOW + step, most_bytes=PLENTY)
        stepwise = left(stepwise, plan)
    assert stepwise == at_end
    assert kept[-1] in at_end
