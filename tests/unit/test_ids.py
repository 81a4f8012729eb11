"""Ids of many rows are checked at once, and say of each row what its pattern would."""

import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bandits.schemas import Id, Reward, misfits


@given(
    st.lists(
        st.one_of(st.text(max_size=4), st.sampled_from(["a", "a b", "a" * 128, "a" * 129, "~!"]))
    )
)
def test_ids_fit_together_where_each_fits_alone(ids: list[str]) -> None:
    def refused(text: str) -> bool:
        try:
            msgspec.convert(text, Id)
        except msgspec.ValidationError:
            return True
        return False

    assert misfits(ids) == [i for i, text in enumerate(ids) if refused(text)]


def test_the_document_says_the_same_of_one_id_and_of_many() -> None:
    fields = msgspec.json.schema(Reward)["$defs"]["Reward"]["properties"]
    alone = msgspec.json.schema(Id)
    assert fields["decision_id"]["pattern"] == alone["pattern"]
    assert fields["event_id"]["description"] == alone["description"]
    assert re.search(alone["pattern"], "a" * 128)
    assert not re.search(alone["pattern"], "a" * 129)
