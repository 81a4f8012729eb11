"""Links of an HTML email: the places of their addresses, in one pass over any text.

Text is cut into tags and comments as browsers cut it (WHATWG HTML, section 13.2.5), without a tree.
A tag or comment that is never closed takes the rest of the email, so no part is read twice.
"""

import re

from msgspec import Struct

_LINKING = {"a", "area"}
_LINKING_PREFIX = "v:"  # a button as Outlook draws it
_MARKUP = re.compile("<(?=[A-Za-z/!?])")  # all else is text
# A tag without values ends at the next >; of these few need a closer look.
_PLAIN_TAG = re.compile(r"<(?!/?(?:body|style|script)\b)/?[A-Za-z][^\"'=>]*>", re.IGNORECASE)
_END_TAG = re.compile("</[A-Za-z]")
_COMMENT = "<!--"
_COMMENT_END = re.compile("--!?>")
_CONDITIONAL = re.compile(r"\s*\[if\b")
_SPACE = r"\t\n\f\r "
_TAG_NAME = re.compile(rf"[^{_SPACE}/>]*")
_GAP = re.compile(rf"[{_SPACE}/]*")
_ATTRIBUTE_NAME = re.compile(rf"[^{_SPACE}/>][^{_SPACE}/>=]*")
_EQUALS = re.compile(rf"[{_SPACE}]*=[{_SPACE}]*")
_BARE_VALUE = re.compile(rf"[^{_SPACE}>]*")
_RAW_ENDS = {  # of elements whose text holds no tags
    name: re.compile(rf"</{name}(?=[{_SPACE}/>])", re.IGNORECASE) for name in ("script", "style")
}


class EmailLink(Struct, frozen=True):
    """Value of an ``href``: its place in the HTML, without quotes, and its text there."""

    start: int
    end: int
    text: str
    quoted: bool


class EmailLinks(Struct, frozen=True):
    """Links of an email.

    Attributes:
        links: in their order.
        end: where more can be put so that it is shown: before the last end of the body, else at the
            end of the email, before a tag or comment that is not closed.
    """

    links: list[EmailLink]
    end: int


def email_links(html: str) -> EmailLinks:
    """Find the links of an email, those in conditional comments for Outlook too."""
    scanner = _Scanner(html)
    unclosed = scanner.read(0, len(html))
    end = len(html) if unclosed is None else unclosed
    return EmailLinks(scanner.links, end if scanner.body_end is None else scanner.body_end)


class _Scanner:
    """Scanner of one email; places are counted from its start.

    Its methods that read something return the place behind it, or None where it is not closed.
    """

    def __init__(self, html: str) -> None:
        self.links: list[EmailLink] = []
        self.body_end: int | None = None
        self._html = html

    def read(self, start: int, end: int, *, in_comment: bool = False) -> int | None:
        """Read a part; return the place of what is not closed in it, None if all is."""
        following: int | None = start
        while following is not None:
            match = _MARKUP.search(self._html, following, end)
            if match is None:
                return None
            place = match.start()
            following = self._read_markup(place, end, in_comment=in_comment)
        return place

    def _read_markup(self, place: int, end: int, *, in_comment: bool) -> int | None:
        html = self._html
        if plain := _PLAIN_TAG.match(html, place, end):
            return plain.end()
        if html[place + 1] not in "/!?":
            return self._read_element(place, end)
        if _END_TAG.match(html, place, end):
            following = self._read_tag(place + 2, end, links=False)
            is_body = following is not None and self._tag_name(place + 2, end) == "body"
            if is_body and not in_comment:
                self.body_end = place
            return following
        if html.startswith(_COMMENT, place, end) and not in_comment:
            return self._read_comment(place + len(_COMMENT), end)
        behind = html.find(">", place, end)  # of a declaration, or what browsers take for a comment
        return None if behind < 0 else behind + 1

    def _read_comment(self, start: int, end: int) -> int | None:
        """Read a comment from behind its mark, and what a conditional one has for Outlook."""
        for empty in (">", "->"):
            if self._html.startswith(empty, start):
                return start + len(empty)
        match = _COMMENT_END.search(self._html, start, end)
        if match is None:
            return None
        if _CONDITIONAL.match(self._html, start, match.start()):
            self.read(start, match.start(), in_comment=True)
        return match.end()

    def _read_element(self, place: int, end: int) -> int | None:
        """Read a start tag, and the text behind it where that holds no tags."""
        name = self._tag_name(place + 1, end)
        links = name in _LINKING or name.startswith(_LINKING_PREFIX)
        following = self._read_tag(place + 1, end, links=links)
        if following is None or self._html[following - 2] == "/" or name not in _RAW_ENDS:
            return following
        match = _RAW_ENDS[name].search(self._html, following, end)
        return None if match is None else match.start()

    def _tag_name(self, start: int, end: int) -> str:
        return self._html[start : self._end_of(_TAG_NAME, start, end)].lower()

    def _read_tag(self, start: int, end: int, *, links: bool) -> int | None:
        """Read a tag from its name on; where it links, its first ``href`` is kept."""
        html, link, place = self._html, None, self._end_of(_TAG_NAME, start, end)
        while (place := self._end_of(_GAP, place, end)) < end and html[place] != ">":
            name_start, place = place, self._end_of(_ATTRIBUTE_NAME, place, end)
            is_link = links and html[name_start:place].lower() == "href"
            links = links and not is_link
            equals = _EQUALS.match(html, place, end)
            if equals is None:
                continue
            place = equals.end()
            quote = html[place : place + 1] if place < end else ""
            value_start = place + 1 if quote in {'"', "'"} else place
            if value_start > place:
                value_end = html.find(quote, value_start, end)
                if value_end < 0:
                    return None
                place = value_end + 1
            else:
                place = value_end = self._end_of(_BARE_VALUE, place, end)
            if is_link:
                quoted = place > value_end
                link = EmailLink(value_start, value_end, html[value_start:value_end], quoted)
        if place >= end:
            return None
        if link is not None:
            self.links.append(link)
        return place + 1

    def _end_of(self, pattern: re.Pattern[str], start: int, end: int) -> int:
        match = pattern.match(self._html, start, end)
        return start if match is None else match.end()
