"""Text encodings of uploaded files: found by their bytes, and opened so that no row takes others.

Bytes that are none in an encoding become lone surrogates, so that only their row is refused.
"""

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

# By the name that a file's format is stored with: Python's codec, and what pages call it.
ENCODINGS: Mapping[str, tuple[str, str]] = {
    "utf-8": ("utf-8-sig", "UTF-8"),
    "windows-1252": ("cp1252", "Windows-1252 (Western Europe)"),
    "utf-16-le": ("utf-16-le", "UTF-16"),
    "utf-16-be": ("utf-16-be", "UTF-16, big-endian"),
    "windows-1250": ("cp1250", "Windows-1250 (Central Europe)"),
    "windows-1251": ("cp1251", "Windows-1251 (Cyrillic)"),
    "iso-8859-15": ("iso8859_15", "ISO 8859-15 (Latin 9)"),
    "mac-roman": ("mac_roman", "Mac Roman"),
    "shift-jis": ("cp932", "Shift JIS (Japanese)"),
    "gb18030": ("gb18030", "GB 18030 (Chinese)"),
}
_BLOCK = 1 << 20
_GOOD_FOR_EACH_BAD = 10  # so many characters beyond ASCII make bad bytes slips of a UTF-8 file
_MARK = "\ufeff"


def find_encoding(path: Path) -> str:
    """Find a text file's encoding: by its mark, by zero bytes, else UTF-8, else Windows-1252."""
    with path.open("rb") as file:
        head = file.read(4096)
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8"
        if head.startswith(codecs.BOM_UTF16_LE):
            return "utf-16-le"
        if head.startswith(codecs.BOM_UTF16_BE):
            return "utf-16-be"
        if (wide := _zero_bytes(head)) is not None:
            return wide
        file.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        good = bad = 0
        while block := file.read(_BLOCK):
            text = decoder.decode(block)
            if not text.isascii():
                escaped = sum(is_undecoded(character) for character in text)
                bad += escaped
                good += sum(map("\x7f".__lt__, text)) - escaped
        return "utf-8" if good >= bad * _GOOD_FOR_EACH_BAD else "windows-1252"


def _zero_bytes(head: bytes) -> str | None:
    """Return the UTF-16 encoding whose upper bytes most characters of a text have as zeros."""
    pairs = len(head) // 2
    if pairs and head[1::2].count(0) > pairs // 2 and head[::2].count(0) < pairs // 4:
        return "utf-16-le"
    if pairs and head[::2].count(0) > pairs // 2 and head[1::2].count(0) < pairs // 4:
        return "utf-16-be"
    return None


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a file of this encoding behind its mark, if it has one."""
    codec = ENCODINGS[encoding][0]
    # UTF-16 has no bytes that surrogates could stand for.
    errors = "replace" if codec.startswith("utf-16") else "surrogateescape"
    return path.open(newline="", encoding=codec, errors=errors)


def is_undecoded(text: str) -> bool:
    """Return True if a text holds bytes that are no characters of its file's encoding."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def without_mark(text: str) -> str:
    """Remove the mark that begins a file of UTF-16."""
    return text.removeprefix(_MARK)
