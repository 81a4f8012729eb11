"""Blocks of bodies: one variant of each slot is sent, whatever is written around them."""

from hypothesis import given
from hypothesis import strategies as st

from webapp.listmonk.blocks import BlockTemplate

TWO = (
    "<p>a</p><!--bandits slot=hero variant=h1-->1<!--/bandits-->"
    "<!-- bandits slot=\"hero\" variant='h2' -->2<!-- /bandits --><p>z</p>"
)


def test_chosen_block_is_kept_and_the_others_go():
    template = BlockTemplate.parse(TWO)
    assert template.variants("hero") == ("h1", "h2")
    assert template.render({"hero": "h1"}) == "<p>a</p>1<p>z</p>"
    assert template.render({"hero": "h2"}) == "<p>a</p>2<p>z</p>"
    assert template.render({"hero": "none"}) == "<p>a</p><p>z</p>"


def test_first_block_is_kept_where_nothing_is_chosen():
    assert BlockTemplate.parse(TWO).render({}) == "<p>a</p>1<p>z</p>"


def test_body_without_blocks_stays_what_it_is():
    body = "<!-- a comment --><p>bandits</p>"
    template = BlockTemplate.parse(body)
    assert (template.render({"hero": "h1"}), template.blocks) == (body, ())


def test_block_that_is_not_closed_is_told_and_shown():
    body = (
        "<!--bandits slot=hero variant=h1-->1<!--bandits slot=hero variant=h2-->2<!--/bandits-->"
        "<!--bandits slot=foot variant=f1-->unsubscribe"
    )
    template = BlockTemplate.parse(body)
    assert template.broken == {"hero", "foot"}
    assert template.render({"hero": "h1"}) == "1unsubscribe"


def test_mark_that_closes_nothing_goes():
    assert BlockTemplate.parse("a<!--/bandits-->b").render({}) == "ab"


PARTS = st.sampled_from(
    ["<!--bandits slot=s variant=a-->", "<!--bandits slot=s variant=b-->", "<!--/bandits-->", "x"]
)


@given(st.lists(PARTS, max_size=12))
def test_no_mark_is_ever_sent_and_no_text_outside_blocks_is_lost(parts):
    template = BlockTemplate.parse("".join(parts))
    for chosen in ({}, {"s": "a"}, {"s": "b"}):
        sent = template.render(chosen)
        assert "bandits" not in sent
        outside = [part for part in template.parts if isinstance(part, str)]
        assert sent.count("x") >= "".join(outside).count("x")
