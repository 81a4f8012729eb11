"""Emails with tracked links: only what is to be changed changes."""

import re

import pytest

from bandits.client.tracking import LinkTracking, TrackedEmail, clean_address, rewrite
from bandits.errors import InvalidInput
from bandits.schemas import Decision
from bandits.tracking_tokens import SignedToken, TokenKind, TrackingKey, TrackingToken

KEY = TrackingKey("0a1b2c3d", "s" * 43)
ROOT = "https://links.shop.example"
TRACKING = LinkTracking(KEY.text, ROOT, ["shop.example", "*.shop.example"])
DECISION = Decision("d-1", {}, 0.5, 3)
TRACKED = re.compile(rf"{ROOT}/(?P<path>[tou])/(?P<token>[\w.\-]+?)(?P<gif>\.gif)?(?=[\"'<> ]|$)")


def track(html: str, **options) -> TrackedEmail:
    return rewrite(html, DECISION, TRACKING, **options)


def tokens(text: str) -> list[TrackingToken]:
    """Read the tokens in a text, in its order."""
    found = [match["token"] for match in TRACKED.finditer(text)]
    return [SignedToken.parse(token).verify(KEY.secret) for token in found]


def clicks(email: TrackedEmail) -> list[str]:
    return [t.address for t in tokens(email.html) if t.kind is TokenKind.CLICK]


def undone(email: TrackedEmail) -> str:
    """Take out what was added, and put the addresses back."""

    def address(match: re.Match[str]) -> str:
        return SignedToken.parse(match["token"]).verify(KEY.secret).address

    html = re.sub(r'<a href="[^"]+" tabindex="-1".*?</a>', "", email.html)
    return TRACKED.sub(address, re.sub(r"<img src=\"[^\"]+\.gif\"[^>]*>", "", html))


def test_rewrite_changes_links_alone():
    html = (
        "<!DOCTYPE html>\r\n<html><body  CLASS=x>\n<p>Fish &amp; chips &nbsp; &copy; ü 🐟</P>\n"
        '<A\n  class="a"  HREF = "https://shop.example/a#b" >x</A><br/>\n'
        "<a href='https://www.shop.example'>y</a><img src=\"https://shop.example/i.png\">\n"
        "</body>\n</html>\n<!-- end -->"
    )
    email = track(html)
    assert undone(email) == html
    assert clicks(email) == ["https://shop.example/a#b", "https://www.shop.example"]
    assert email.links == 2


def test_pixel_and_hidden_link_stand_before_the_end_of_the_body():
    email = track('<body><a href="https://shop.example/">x</a></body></html>')
    kinds = [(t.kind, t.address) for t in tokens(email.html)]
    assert kinds == [
        (TokenKind.CLICK, "https://shop.example/"),
        (TokenKind.HONEYPOT, "https://shop.example/"),
        (TokenKind.OPEN, ""),
    ]
    assert email.html.endswith('border:0"></body></html>')
    hidden = email.html[email.html.index("tabindex") :]
    assert 'aria-hidden="true"' in hidden
    assert "display:none" in hidden
    part = track('<a href="https://shop.example/">x</a>')
    assert part.html.endswith('border:0">')


@pytest.mark.parametrize(
    "href",
    [
        "#top",
        "",
        "/relative",
        "mailto:ann@shop.example",
        "tel:+4912345",
        "sms:1",
        "javascript:void(0)",
        "data:text/html,x",
        "https://other.example/",
        "https://shop.example.evil.example/",
        "https://user@shop.example/",
        "https://shop.example\\@evil.example/",
        "{{unsubscribe}}",
        "{{ url }}/x",
        "https://shop.example/{{id}}",
        "https://shop.example/?e=%%email%%",
        "https://shop.example/*|UNIQID|*",
        "https://shop.example/{% url %}",
        "https://shop.example/[[id]]",
        "https://shop.example/<%= id %>",
        "https://shop.example/${id}",
        "https://shop.example/%RECIPIENT%",
        f"{ROOT}/t/0a1b2c3d.abc.def",
        f"{ROOT}/u/0a1b2c3d.abc.def",
        "https://shop.example/" + "x" * 2000,
    ],
)
def test_link_is_left_alone(href):
    html = f'<p><a href="{href}">x</a></p>'
    email = track(html, personalize=False)
    assert email.html == html
    assert email.links == 0


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ('"https://shop.example/?a=1&amp;b=2"', "https://shop.example/?a=1&b=2"),
        ('"https://shop.example/?a=1&b=2"', "https://shop.example/?a=1&b=2"),
        ("'https://shop.example/\"'", 'https://shop.example/"'),
        ("https://shop.example/x", "https://shop.example/x"),
        ('"  https://shop.example/a\n b "', "https://shop.example/a%20b"),
        ('"https://shop.example/ü?q=ß"', "https://shop.example/%C3%BC?q=%C3%9F"),
        ('"HTTPS://SHOP.EXAMPLE/"', "HTTPS://SHOP.EXAMPLE/"),
        ('"https://shop.example/100%"', "https://shop.example/100%"),
    ],
)
def test_link_leads_where_a_browser_went(written, address):
    email = track(f"<a href={written} class=x>x</a>")
    assert clicks(email) == [address]
    assert re.search(r'href=["\'][^"\']+["\'] class=x>x</a>', email.html)


def test_international_host_is_signed_by_its_ascii_name():
    assert clean_address("https://müller.example/ä") == "https://xn--mller-kva.example/%C3%A4"


def test_first_href_of_a_tag_counts_and_other_attributes_do_not():
    html = (
        '<a title="href=https://shop.example/1 >" data-href="https://shop.example/2"'
        ' href="https://shop.example/3" href="https://shop.example/4">x</a>'
        '<link href="https://shop.example/style.css"><base href="https://shop.example/">'
    )
    assert clicks(track(html)) == ["https://shop.example/3"]


def test_scripts_and_comments_are_no_links_but_conditional_comments_are():
    html = (
        '<style>a:after { content: "<a href=https://shop.example/1>" }</style>'
        "<script>\"<a href='https://shop.example/2'>\"</script>"
        '<!-- <a href="https://shop.example/3"> -->\n'
        '<!--[if mso]>\n<v:roundrect href="https://shop.example/4"></v:roundrect><![endif]-->'
        '<map><area href="https://shop.example/5"></map>'
    )
    email = track(html)
    assert clicks(email) == ["https://shop.example/4", "https://shop.example/5"]
    assert undone(email) == html


@pytest.mark.parametrize(
    "html",
    [
        "",
        "no tag at all",
        '<a href="https://shop.example/',
        "<a href>x</a>",
        "<a href=>x</a>",
        "<a",
        "</body></body>",
        "<![CDATA[x]]><?php ?>",
        "<![if !mso]><a href='https://shop.example/1'>x</a><![endif]></[if mso]>",
        "<!--[if mso]><a href='https://shop.example/1'>x</a>",
        '<a {{#if x}}href="https://shop.example/"{{/if}}>x</a>',
        "<a href='https://shop.example/\">x</a>",
    ],
)
def test_odd_html_stays_whole(html):
    assert undone(track(html)) == html


def test_rewrite_twice_changes_nothing_more():
    once = track('<body><a href="https://shop.example/">x</a></body>')
    twice = track(once.html)
    assert twice.html == once.html
    assert twice.links == 0


def test_recipient_without_personal_data_gets_no_pixel():
    email = track('<a href="https://shop.example/">x</a>', personalize=False)
    assert TokenKind.OPEN not in {t.kind for t in tokens(email.html)}
    assert email.links == 1


def test_recipient_who_opted_out_gets_the_headers_alone():
    html = '<a href="https://shop.example/">x</a>'
    email = track(html, opted_out=True)
    assert (email.html, email.links) == (html, 0)
    assert email.headers["List-Unsubscribe"] == f"<{email.unsubscribe_url}>"


def test_headers_are_those_of_one_click_unsubscribe():
    email = track("x", unsubscribe_mailto="leave@shop.example")
    assert email.headers == {
        "List-Unsubscribe": f"<{email.unsubscribe_url}>, <mailto:leave@shop.example>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    (token,) = tokens(email.unsubscribe_url)
    assert token == TrackingToken(TokenKind.UNSUBSCRIBE, ("d-1",))
    with pytest.raises(InvalidInput, match="unsubscribe_mailto"):
        track("x", unsubscribe_mailto="a@b.example>\r\nBcc: x")


def test_every_decision_of_an_email_gets_its_events():
    html = '<a href="https://shop.example/">x</a>'
    email = track(html, others=[Decision("d-2", {}, 1.0, 0), Decision(None, {}, 1.0, 0)])
    assert {t.decision_ids for t in tokens(email.html)} == {("d-1", "d-2")}


def test_fallback_without_an_id_stays_as_it_is():
    html = '<a href="https://shop.example/">x</a>'
    email = rewrite(html, Decision(None, {}, 1.0, 0, fallback=True), TRACKING)
    assert email == TrackedEmail(html, {}, None, 0)


@pytest.mark.parametrize(
    ("tracking", "place"),
    [
        (LinkTracking("bandits_x", ROOT, []), "/key"),
        (LinkTracking(KEY.text, "links.shop.example", []), "/public_url"),
        (LinkTracking(KEY.text, ROOT, ["https://shop.example"]), "/hosts"),
    ],
)
def test_wrong_part_is_told_by_its_place(tracking, place):
    with pytest.raises(InvalidInput) as refused:
        rewrite("x", DECISION, tracking)
    assert refused.value.faults[0].pointer == place
    assert KEY.secret not in repr(tracking)
