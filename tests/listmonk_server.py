"""Stand-in of listmonk: posts rendered messages, and answers its documented API."""

import csv
import io
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.patience import LIMIT_SECONDS

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


class ListmonkServer:
    """Server with listmonk's API.

    Attributes:
        clicks: rows of its export: subscriber's number, address and time.
        views: the same without an address.
        subscribers: of the one list, by number, their attributes.
        queries: of the exports that were asked for.
    """

    def __init__(self) -> None:
        self.clicks: list[tuple[int, str, str]] = []
        self.views: list[tuple[int, str]] = []
        self.subscribers: dict[int, dict[str, Any]] = {}
        self.queries: list[Mapping[str, list[str]]] = []
        self.status = 200
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._http.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> "ListmonkServer":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(LIMIT_SECONDS)

    def answer(self, method: str, url: str, body: bytes) -> tuple[str, bytes]:
        """Answer a request: its type and body."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        if parts.path.endswith("/clicks/export"):
            self.queries.append(query)
            return "text/csv", self._csv("url", [(n, u, at) for n, u, at in self.clicks])
        if parts.path.endswith("/views/export"):
            return "text/csv", self._csv(None, [(n, "", at) for n, at in self.views])
        if method == "PATCH":
            number = int(parts.path.rpartition("/")[2])
            self.subscribers[number].update(json.loads(body)["attribs"])
            return "application/json", b'{"data": {}}'
        page, size = int(query["page"][0]), int(query["per_page"][0])
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
        return "application/json", json.dumps({"data": {"results": results}}).encode()

    @staticmethod
    def _csv(address: str | None, rows: list[tuple[int, str, str]]) -> bytes:
        file = io.StringIO()
        names = ["campaign_uuid", "subscriber_uuid", "email", *([address] if address else [])]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "created_at"])
        for number, url, at in rows:
            own = [CAMPAIGN, subscriber_uuid(number), f"p{number}@example.com"]
            writer.writerow([*own, *([url] if address else []), at])
        return file.getvalue().encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                kind, body = server.answer(self.command, self.path, self.rfile.read(size))
                self.send_response(server.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PATCH = _answer  # noqa: N815 - as the base class names them

            def log_message(self, *_: Any) -> None:
                return

        return Handler
