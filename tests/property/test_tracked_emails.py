"""Laws of emails with tracked links: what is put back is what came."""

import re

from hypothesis import given
from hypothesis import strategies as st

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
