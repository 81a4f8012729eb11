"""What the engine says of rewards whose ids are none."""

import pytest

from bandits.engine import Engine
from bandits.errors import InvalidInput
from bandits.schemas import Reward


@pytest.mark.parametrize("bad", ["", "two words", "é", "line\n", "a" * 129])
def test_rewards_with_other_ids_are_refused_with_their_place(store, sender, bad):
    engine = Engine(store)
    sender.start()
    with pytest.raises(InvalidInput) as refused:
        engine.reward([Reward("d", "e", "click"), Reward("d", bad, "click")])
    assert [f.pointer for f in refused.value.faults] == ["/rewards/1/event_id"]
    assert engine.reward([Reward("d", "e", "click")]).unknown == ["d"]
