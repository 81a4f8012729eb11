"""Laws of emails with tracked links: what is put back is what came."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from bandits.client.email_links import email_links
from bandits.client.tracking import LinkTracking, rewrite
from bandits.schemas import Decision
from bandits.tracking_tokens import BadToken, SignedToken, TokenKind, TrackingKey

KEY = TrackingKey("0a1b2c3d", "s" * 43)
ROOT = "https://links.shop.example"
TRACKING = LinkTracking(KEY.text, ROOT, ["shop.example"])
TRACKED = re.compile(rf"{ROOT}/t/([\w\-]+\.[\w\-]+\.[\w\-]+)")

LINKS = st.builds(
    lambda path, quote: f"<a href={quote}https://shop.example/{path}{quote}>x</a>",
    st.text("abc/?=", max_size=8),
    st.sampled_from("\"'"),
)
PIECES = st.one_of(
    LINKS,
    st.text(max_size=12),
    st.text("<>!-/='\"& \n\tah", max_size=12),
    st.sampled_from(["<!--", "-->", "<script>", "</script>", "<!--[if mso]>", "<![endif]-->"]),
)


def undone(html: str) -> str:
    """Put the addresses back, and take out the hidden link."""

    def address(match: re.Match[str]) -> str:
        token = SignedToken.parse(match[1]).verify(KEY.secret)
        return "HONEYPOT" if token.kind is TokenKind.HONEYPOT else token.address

    html = TRACKED.sub(address, html)
    return re.sub(r'<a href="HONEYPOT"[^>]*></a>', "", html)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_rewrite_keeps_all_but_the_addresses(html):
    email = rewrite(html, Decision("d-1", {}, 1.0, 0), TRACKING, personalize=False)
    assert undone(email.html) == html
    again = rewrite(email.html, Decision("d-1", {}, 1.0, 0), TRACKING, personalize=False)
    assert again.html == email.html


@given(st.text(max_size=60) | st.from_regex(r"[a-f0-9]{8}\.[\w\-]{0,20}\.[\w\-]{0,22}"))
def test_no_text_but_a_signed_one_is_a_token(text):
    try:
        SignedToken.parse(text).verify(KEY.secret)
    except BadToken:
        return
    raise AssertionError(text)


class Reference(HTMLParser):
    """Links as the standard library's parser finds them, in emails without conditional comments."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = [value for name, value in attrs if name == "href"]
        if values and values[0] is not None and tag in {"a", "area", "v:rect"}:
            self.texts.append(values[0])


WORDS = st.text("ab/?.-", min_size=1, max_size=6)
ATTRIBUTES = st.one_of(
    st.builds('{} = "{}"'.format, st.sampled_from(["href", "HREF", "x"]), st.text("a b>'<")),
    st.builds("{}='{}'".format, st.sampled_from(["href", "title"]), st.text('a b>"<')),
    st.builds("{}={}".format, st.sampled_from(["href", "x"]), WORDS),
    st.sampled_from(["href", "disabled"]),
)
TAGS = st.builds(
    lambda name, attributes, end: f"<{' '.join([name, *attributes])}{end}",
    st.sampled_from(["a", "A", "area", "v:rect", "p", "link"]),
    st.lists(ATTRIBUTES, max_size=3),
    st.sampled_from([">", " >", "\n/>"]),
)
ORDINARY = st.one_of(
    TAGS,
    TAGS.map("<!-- {} -->".format),
    TAGS.map("<style>{}</style>".format),
    st.sampled_from(["</a>", "</p >", "<br/>", "<!DOCTYPE html>", "a < b", "&amp;", "\n", "x"]),
)


@given(st.lists(ORDINARY, max_size=8).map(" ".join))
def test_links_of_ordinary_emails_are_those_of_the_standard_library(html):
    links = email_links(html).links
    assert [link.text for link in links] == Reference(html).texts
    assert all(html[link.start : link.end] == link.text for link in links)
