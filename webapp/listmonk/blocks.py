"""Blocks of an email's body: one for each variant of a slot, of which one is sent.

They are marked by comments, which editors and listmonk's templates leave alone:
``<!--bandits slot=hero variant=h1-->…<!--/bandits-->``.
"""

import re
from collections.abc import Mapping
from itertools import zip_longest

from msgspec import Struct

_KEY = r"[\"']?([A-Za-z0-9_.\-]{1,64})[\"']?"
_MARK = re.compile(
    rf"<!--\s*bandits\s+slot\s*=\s*{_KEY}\s+variant\s*=\s*{_KEY}\s*-->|<!--\s*/bandits\s*-->"
)


class Block(Struct, frozen=True):
    """What a body has for one variant of a slot."""

    slot: str
    variant: str
    content: str


class BlockTemplate(Struct, frozen=True):
    """A body with blocks.

    Attributes:
        parts: texts that everybody gets, and blocks, in their order.
        broken: slots of blocks that are not closed; what follows such a mark is text.
    """

    parts: tuple[str | Block, ...]
    broken: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, body: str) -> "BlockTemplate":
        """Read a body; one without marks is a single text."""
        marks = list(_MARK.finditer(body))
        parts: list[str | Block] = []
        broken: set[str] = set()
        end = 0
        for mark, following in zip_longest(marks, marks[1:]):
            if mark.start() < end:  # it closed the block before it
                continue
            parts.append(body[end : mark.start()])
            end = mark.end()
            slot, variant = mark.groups()
            if slot is None:  # closes nothing
                continue
            if following is None or following.group(1) is not None:
                broken.add(slot)
                continue
            parts.append(Block(slot, variant, body[end : following.start()]))
            end = following.end()
        parts.append(body[end:])
        return cls(tuple(part for part in parts if part != ""), frozenset(broken))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in their order."""
        return tuple(part for part in self.parts if isinstance(part, Block))

    def variants(self, slot: str) -> tuple[str, ...]:
        """Return the variants of a slot that have a block, each once, in their order."""
        return tuple(dict.fromkeys(b.variant for b in self.blocks if b.slot == slot))

    def render(self, chosen: Mapping[str, str]) -> str:
        """Return the body with the blocks of the chosen variants alone.

        Args:
            chosen: by slot, the variant; of any other slot the first variant is kept.
        """
        first = {b.slot: b.variant for b in reversed(self.blocks)}
        kept = {**first, **chosen}
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
            elif kept[part.slot] == part.variant:
                texts.append(part.content)
        return "".join(texts)
