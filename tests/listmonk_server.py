"""Stand-in of listmonk: posts rendered messages, and answers its documented API."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from tests.list_servers import Call, ListServer, Reply

CAMPAIGN = "2e7e4b51-f31b-418a-a120-e41800cb689f"
PASSWORD = "a long password of listmonk"
AUTH = ("bandits", PASSWORD)
BODY = (
    "<h1>Hello</h1><!--bandits slot=hero variant=h1--><p>First</p><!--/bandits-->"
    "<!--bandits slot=hero variant=h2--><p>Second</p><!--/bandits-->"
    '<a href="https://lists.example.com/subscription/{campaign}/{subscriber}">unsubscribe</a>'
)


def subscriber_uuid(number: int) -> str:
    return f"e44b4135-1e1d-40c5-8a30-{number:012d}"


def message(number: int, *, experiment: str | None = "spring", **changed: Any) -> dict[str, Any]:
    """Write the message of a subscriber, rendered, as listmonk posts it."""
    subscriber = subscriber_uuid(number)
    return {
        "subject": "Our news",
        "from_email": "Shop <shop@example.com>",
        "content_type": "html",
        "body": BODY.format(campaign=CAMPAIGN, subscriber=subscriber),
        "recipients": [
            {
                "uuid": subscriber,
                "email": f"p{number}@example.com",
                "name": f"Person {number}",
                "attribs": {"city": "Ghent"},
                "status": "enabled",
            }
        ],
        "campaign": {
            "from_email": "Shop <shop@example.com>",
            "uuid": CAMPAIGN,
            "name": "Spring",
            "headers": [{"X-Custom": "value"}],
            "tags": ["newsletter"] + ([] if experiment is None else [f"bandits:{experiment}"]),
        },
        "attachments": None,
        **changed,
    }


class ListmonkServer(ListServer):
    """Server with listmonk's API.

    Attributes:
        clicks: rows of its export: subscriber's number, address and time.
        views: the same without an address.
        subscribers: of the one list, by number, their attributes.
        status: of each answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clicks: list[tuple[int, str, str]] = []
        self.views: list[tuple[int, str]] = []
        self.subscribers: dict[int, dict[str, Any]] = {}
        self.status = 200

    def queries(self) -> list[Mapping[str, str]]:
        """Return those of the exports of clicks that were asked for."""
        return [call.query for call in self.calls if call.path.endswith("/clicks/export")]

    def answer(self, call: Call) -> Reply:
        if call.path.endswith("/clicks/export"):
            text = self._csv("url", [(n, u, at) for n, u, at in self.clicks])
            return Reply(self.status, text, content_type="text/csv")
        if call.path.endswith("/views/export"):
            text = self._csv(None, [(n, "", at) for n, at in self.views])
            return Reply(self.status, text, content_type="text/csv")
        if call.method == "PATCH":
            number = int(call.path.rpartition("/")[2])
            self.subscribers[number].update(call.body["attribs"])
            return Reply(self.status, {"data": {}})
        page, size = int(call.query["page"]), int(call.query["per_page"])
        numbers = sorted(self.subscribers)[(page - 1) * size : page * size]
        results = [
            {
                "id": n,
                "uuid": subscriber_uuid(n),
                "email": f"p{n}@example.com",
                "attribs": self.subscribers[n],
            }
            for n in numbers
        ]
        return Reply(self.status, {"data": {"results": results}})

    @staticmethod
    def _csv(address: str | None, rows: list[tuple[int, str, str]]) -> str:
        file = io.StringIO()
        names = ["campaign_uuid", "subscriber_uuid", "email", *([address] if address else [])]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "created_at"])
        for number, url, at in rows:
            own = [CAMPAIGN, subscriber_uuid(number), f"p{number}@example.com"]
            writer.writerow([*own, *([url] if address else []), at])
        return file.getvalue()
