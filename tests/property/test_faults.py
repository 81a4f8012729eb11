"""What msgspec refuses is found, and nothing else."""

import json
import sys
import tomllib
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.validation import misfit
from simulations import scenario
from webapp.api import decisions, experiments, rewards
from webapp.api.bodies import invalid_body
from webapp.sample import sample_experiment
from webapp.settings import Settings

UNKNOWN = "is not as declared"
CONTEXT = [
    {"name": "recency", "kind": "number", "low": 0, "high": 12},
    {"name": "channel", "kind": "category", "values": ["Web", "Phone"], "default": "Web"},
]
DECLARED = msgspec.to_builtins(sample_experiment()) | {"context": CONTEXT, "forgetting": {}}
REQUEST = {
    "subject_id": "u",
    "context": {"recency": 1, "channel": "Web"},
    "decision_id": "d",
    "eligible": {"subject_line": ["plain"]},
}
REWARD = {
    "decision_id": "d",
    "event_id": "e",
    "metric": "click",
    "value": 1.5,
    "occurred_at": "2026-01-01T00:00:00Z",
}
GOOD = {
    Experiment: DECLARED,
    decisions.ChooseBatch: {"requests": [REQUEST, REQUEST], "dry_run": True},
    rewards.RewardBatch: {"rewards": [REWARD]},
    decisions.DecisionIds: {"decision_ids": ["d", "e"]},
    experiments.StopRequest: {"ship": {"subject_line": "plain"}},
    scenario._File: tomllib.loads(scenario.ready()["two_waves"]),
}
STRANGE = st.one_of(
    st.sampled_from([None, True, 0, -1, 7.5, 1e300, 2**64, 10**308, "", "a b", "x" * 300, [], {}]),
    st.sampled_from(["per_subject", "number", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1"]),
    st.sampled_from([[None], [0.5, 0.5], {"a": 1}, {"kind": "number"}, {"kind": "?"}, [{}]]),
)


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the way to each part of a value."""
    inner = value.items() if isinstance(value, dict) else ()
    steps = list(enumerate(value)) if isinstance(value, list) else list(inner)
    return [place, *(p for step, part in steps for p in places(part, (*place, step)))]


@st.composite
def spoiled(draw: Any, good: Any, strange: st.SearchStrategy[Any]) -> Any:
    """Draw a value of which one part is replaced, left out or added to."""
    whole = [deepcopy(good)]
    *way, last = draw(st.sampled_from([(0, *place) for place in places(good)]))
    holder: Any = whole
    for step in way:
        holder = holder[step]
    how = draw(st.sampled_from(["replace", "leave out", "add"]))
    if how == "add" and isinstance(holder[last], dict):
        name = draw(st.sampled_from(["colour", "a b", "kind", "key"]))
        holder[last][name] = draw(strange)
    elif how == "leave out" and len(way) > 0:
        del holder[last]
    else:
        holder[last] = draw(strange)
    return whole[0]


def refuses(convert: Any) -> bool:
    try:
        convert()
    except msgspec.ValidationError:
        return True
    except InvalidInput:  # a policy's own, made of the same faults
        return False
    return False


@pytest.mark.parametrize("kind", GOOD)
def test_misfit_is_none_where_msgspec_takes_a_value(kind) -> None:
    msgspec.convert(GOOD[kind], kind)
    assert misfit(GOOD[kind], kind) is None


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
def test_misfit_finds_exactly_what_msgspec_refuses(kind, data) -> None:
    value = data.draw(spoiled(GOOD[kind], STRANGE))
    assert (misfit(value, kind) is not None) == refuses(lambda: msgspec.convert(value, kind))


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
def test_invalid_names_a_place_in_each_text_that_msgspec_refuses(kind, data) -> None:
    numbers = st.sampled_from([10**400, -(10**5000)])
    text = written(data.draw(spoiled(GOOD[kind], STRANGE | numbers)))
    if refuses(lambda: msgspec.json.decode(text, type=kind)):
        (fault,) = invalid_body(text, kind).faults
        assert fault.detail != UNKNOWN


def written(value: Any) -> bytes:
    """Write JSON, numbers of any length too."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).encode()
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    ("environment", "good"), [("MAX_BODY_BYTES", "20000"), ("ACCESS_LOG", "true")]
)
@given(
    text=st.sampled_from(
        ["", "1", "0", "true", "yes", "-1", "1e9", "20000", "null", "text", "9" * 30]
    )
)
def test_misfit_of_a_setting_is_what_msgspec_refuses(environment, good, text) -> None:
    given_settings = {environment.lower(): text}
    refused = refuses(lambda: msgspec.convert(given_settings, Settings, strict=False))
    assert (misfit(given_settings, Settings, strict=False) is not None) == refused
    assert misfit({environment.lower(): good}, Settings, strict=False) is None
