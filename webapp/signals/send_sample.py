"""Send samples: how a sender's own call takes a decision's id along, as code that tests execute."""

from typing import Literal

from msgspec import Struct

# It stands before samples in Python, and makes `subject`, `html` and `passed`.
CHOICE = """\
from bandits.client import Client

SUBJECTS = {"plain": "Our spring sale starts today", "question": "Ready for spring?"}

with Client("https://bandits.example", os.environ["TOKEN"]) as client:
    email = client.choose("spring", "u-1", fallback={"subject_line": "plain"})
subject = SUBJECTS[email.slots["subject_line"]["variant"]]
html = '<a href="https://shop.example/">To the shop</a>'
passed = {"bandits_decision": email.decision_id} if email.decision_id else {}
"""


class SendSample(Struct, frozen=True):
    """The call by which a sender sends an email with its decision's id.

    Attributes:
        code: ends with a line end; of Python, it goes on after `CHOICE`.
        language: of the code, as fenced blocks name it.
        imports: what the code needs, above `CHOICE`; of Python alone.
    """

    code: str
    language: Literal["python", "html"] = "python"
    imports: str = "import os\n\nimport httpx\n"

    @property
    def text(self) -> str:
        """Return the whole code."""
        if self.language == "python":
            return f"{self.imports}\n{CHOICE}\n{self.code}"
        return self.code
