"""Every sentence that the templates of pages say, for the next reader to go through.

    .venv/bin/python tests/house/page_strings.py

Prints the file, the number of words and the sentence, the longest first. What stands under "How we
know" is left out: it may be longer. What a template fills in counts as one word.
"""

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TEMPLATES = Path(__file__).parents[2] / "webapp/templates"
MOST_WORDS = 18
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_UNSPOKEN = re.compile(r"<(script|style|svg|code|pre)\b.*?</\1>", re.DOTALL)
_EXPLAINED = re.compile(r'<details class="why.*?</details>', re.DOTALL)
_FILLED_IN = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_OTHERWISE = re.compile(r"\{%-? *el(?:se|if).*?%\}", re.DOTALL)
_STATEMENT = re.compile(r"\{%.*?%\}", re.DOTALL)
_WITHIN = re.compile(r"</?(?:strong|em|a|b|span|small|q|abbr|kbd)\b[^>]*>")
_SENTENCE_END = re.compile(r"(?<=[.!?…:;])\s+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_WORDS = 4


class PageString(NamedTuple):
    """A sentence of a template."""

    template: str
    text: str

    @property
    def n_words(self) -> int:
        """Number of its words."""
        return len(_WORD.findall(self.text))


def page_strings() -> list[PageString]:
    """List the sentences of all templates, the longest first."""
    strings = [s for path in sorted(TEMPLATES.rglob("*.html")) for s in _strings_of(path)]
    return sorted(strings, key=lambda string: (-string.n_words, string))


def _strings_of(path: Path) -> Iterator[PageString]:
    text = path.read_text()
    for pattern, instead in (
        (_COMMENT, ""),
        (_UNSPOKEN, " X "),
        (_EXPLAINED, " "),
        (_FILLED_IN, " X "),
        (_OTHERWISE, "<br>"),  # says one thing or the other
        (_STATEMENT, ""),
        (_WITHIN, ""),
    ):
        text = pattern.sub(instead, text)
    for block in re.split(r"<[^>]+>", text):
        for sentence in _SENTENCE_END.split(" ".join(html.unescape(block).split())):
            string = PageString(path.relative_to(TEMPLATES).as_posix(), sentence)
            if string.n_words >= _LEAST_WORDS:
                yield string


if __name__ == "__main__":
    for string in page_strings():
        sys.stdout.write(f"{string.template}: {string.n_words}: {string.text}\n")
