"""Links of an HTML email: what browsers take for a link is one, and no text takes long."""

import sys

import pytest

from bandits.client.email_links import email_links
from bandits.client.tracking import MOST_LINKS, LinkTracking, rewrite
from bandits.errors import InvalidInput
from bandits.schemas import Decision

TRACKING = LinkTracking(
    f"bandits_tracking_0a1b2c3d_{'s' * 43}", "https://links.shop.example", ["shop.example"]
)
HOSTILE = [
    "<a ",
    "<a href='",
    '<a href="x',
    "<!--",
    "<!--[if mso]><!--",
    "<!",
    "<![CDATA[",
    "</",
    "</a ",
    "<?",
    "<style>",
    "<script></",
    "<a x=",
    "<a         =",
    "<v:x href=",
    "&amp",
]


def steps(html: str) -> int:
    """Count the calls that reading a text takes: a measure that no other process disturbs."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        email_links(html)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_takes_no_more_calls_than_the_text_has_pieces(piece):
    few, many = steps(piece * 200), steps(piece * 2000)
    assert many <= 10 * few + 100


@pytest.mark.parametrize("piece", HOSTILE)
def test_email_of_two_megabytes_is_read(piece):
    html = (piece * (2_000_000 // len(piece) + 1))[:2_000_000]
    assert len(rewrite(html, Decision("d-1", {}, 1.0, 0), TRACKING).html) > len(html)


@pytest.mark.parametrize(
    ("html", "texts"),
    [
        ("<a href=x>", ["x"]),
        ("<a href=x/>", ["x/"]),
        ("<a href = 'x'y>", ["x"]),
        ("<a/href=x>", ["x"]),
        ("<a href href=x>", []),
        ("<a =href=x>", []),
        ("<a title='>' href=x>", ["x"]),
        ("<ab href=x>", []),
        ("< a href=x>", []),
        ("<!--> <a href=x>", ["x"]),
        ("<!-- --!><a href=x>", ["x"]),
        ("<!-- <a href=y> --><a href=x>", ["x"]),
        ("<!--[if !mso]><!--><a href=x><!--<![endif]-->", ["x"]),
        ("<!--[if mso]><a href=x><![endif]--><a href=y>", ["x", "y"]),
        ("<!--[if mso]><!-- <a href=x> <![endif]-->", []),
        ("<![if !mso]><a href=x><![endif]>", ["x"]),
        ("<?xml version='1.0'?><a href=x>", ["x"]),
        ("<style/><a href=x>", ["x"]),
        ("<STYLE></styles><a href=y></Style ><a href=x>", ["x"]),
        ("<body></body><a href='x", []),
        ("</a '>'><a href=x>", ["x"]),
        ("</ a><a href=x>", ["x"]),
    ],
)
def test_links_are_those_of_browsers(html, texts):
    assert [link.text for link in email_links(html).links] == texts


@pytest.mark.parametrize("unclosed", ["<a href='x", "<!-- x", "<style> x", "<b"])
def test_end_of_an_email_is_before_what_is_not_closed(unclosed):
    assert email_links(f"<p>x</p>{unclosed}").end == len("<p>x</p>")
    assert email_links(f"<p>x</p></body>{unclosed}").end == len("<p>x</p>")


def test_email_with_too_many_links_is_refused():
    html = "<a href='https://shop.example/'>x</a>" * MOST_LINKS
    assert rewrite(html, Decision("d-1", {}, 1.0, 0), TRACKING).links == MOST_LINKS
    with pytest.raises(InvalidInput, match="must have at most 2,000 links"):
        rewrite(f"{html}<a href=x>", Decision("d-1", {}, 1.0, 0), TRACKING)


def test_host_that_is_longer_than_any_is_left_alone():
    html = f"<a href='http://{'ü' * 1_000_000}'>x</a>"
    assert rewrite(html, Decision("d-1", {}, 1.0, 0), TRACKING).links == 0
