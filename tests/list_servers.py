"""Stand-ins of list tools: Mautic and Keila, by their documented APIs."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

from tests.patience import LIMIT_SECONDS


class Call(NamedTuple):
    """A request as a server got it."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]


class Reply(NamedTuple):
    """What is answered: text as it is, all else as JSON."""

    status: int
    content: Any = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


class ListServer:
    """Server of a list tool's API.

    Attributes:
        calls: that came.
        failures: answered in place of what is right, the first first.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failures: list[Reply] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._http.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(LIMIT_SECONDS)

    def answer(self, call: Call) -> Reply:
        """Answer a request."""
        raise NotImplementedError

    def writes(self) -> list[Call]:
        """Return the calls that change something."""
        return [call for call in self.calls if call.method == "PATCH"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                form = "form" in (self.headers.get("Content-Type") or "")
                body = parse_qs(sent.decode()) if form else json.loads(sent or b"null")
                call = Call(self.command, parts.path, query, body, dict(self.headers))
                server.calls.append(call)
                reply = server.failures.pop(0) if server.failures else server.answer(call)
                text = reply.content
                content = (text if isinstance(text, str) else json.dumps(text)).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PATCH = do_POST = _answer  # noqa: N815 - as the base class names them

            def log_message(self, *_: Any) -> None:
                return

        return Handler


class MauticServer(ListServer):
    """Mautic, with contacts of one segment.

    Attributes:
        fields: aliases that contacts have; what is sent of others is dropped, without a word.
        contacts: by id, their values.
        banned: ids of contacts who may get no email.
        gone: ids that are listed, and cannot be changed.
        tokens: that were given; the last one is good.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fields = ["email", "city", "bandits_decision", "bandits_subject_line"]
        self.contacts: dict[int, dict[str, Any]] = {}
        self.banned: set[int] = set()
        self.gone: set[int] = set()
        self.tokens: list[str] = []
        self.oauth = False

    def answer(self, call: Call) -> Reply:
        if call.path == "/oauth/v2/token":
            self.tokens.append(f"token-{len(self.tokens)}")
            return Reply(200, {"access_token": self.tokens[-1], "expires_in": 3600})
        good = f"Bearer {self.tokens[-1]}" if self.tokens else ""
        if self.oauth and call.headers.get("Authorization") != good:
            return Reply(401, {"errors": [{"code": 401}]})
        if call.path == "/api/contacts/list/fields":
            fields = {str(n): {"alias": a, "type": "text"} for n, a in enumerate(self.fields)}
            return Reply(200, fields)
        if call.method == "PATCH":
            return self._edit(call.body)
        return Reply(200, {"total": str(len(self.contacts)), "contacts": self._page(call.query)})

    def _page(self, query: Mapping[str, str]) -> Any:
        last, most = int(query["where[0][val]"]), int(query["limit"])
        assert query["search"] == "segment:newsletter"
        ids = [n for n in sorted(self.contacts) if n > last][:most]
        page = {
            str(n): {
                "id": n,
                "fields": {"core": [], "all": {"id": str(n), **self.contacts[n]}},
                "doNotContact": [{"channel": "email", "reason": 1}] if n in self.banned else [],
            }
            for n in ids
        }
        return page or []  # as PHP writes an empty map

    def _edit(self, rows: list[dict[str, Any]]) -> Reply:
        assert len(rows) <= 200
        codes, errors = {}, {}
        for number, row in enumerate(rows):
            if row["id"] in self.gone:
                codes[str(number)] = 400
                errors[str(number)] = {"code": 400, "message": "subject: 64 characters or less"}
                continue
            values = {name: value for name, value in row.items() if name in self.fields}
            self.contacts[row["id"]].update(values)
            codes[str(number)] = 200
        answer = {"contacts": [], "statusCodes": codes}
        return Reply(200, answer | ({"errors": errors} if errors else {}))


class KeilaServer(ListServer):
    """Keila, with contacts of one project.

    Attributes:
        contacts: by id, as its API has them.
        segments: filters by id.
        gone: ids that are listed, and cannot be changed.
    """

    key = "a key of keila"

    def __init__(self) -> None:
        super().__init__()
        self.contacts: dict[str, dict[str, Any]] = {}
        self.segments: dict[str, Any] = {}
        self.gone: set[str] = set()

    def add(self, number: int, **data: Any) -> None:
        own = f"c_{number}"
        email, status = f"p{number}@example.com", "active"
        self.contacts[own] = {"id": own, "email": email, "status": status, "data": data or None}

    def answer(self, call: Call) -> Reply:
        if call.headers.get("Authorization") != f"Bearer {self.key}":
            return Reply(403, {"errors": [{"status": "403"}]})
        *_, kind, own, last = call.path.split("/")
        if own == "segments":
            return Reply(200, {"data": {"id": last, "filter": self.segments[last]}})
        if call.method == "PATCH":
            assert (kind, last) == ("contacts", "data")
            if own in self.gone:
                return Reply(404, {"errors": [{"status": "404"}]})
            contact = self.contacts[own]
            contact["data"] = {**(contact["data"] or {}), **call.body["data"]}  # not deeply
            return Reply(200, {"data": contact})
        page, size = int(call.query["paginate[page]"]), int(call.query["paginate[page_size]"])
        rows = list(self.contacts.values())[page * size : (page + 1) * size]
        return Reply(200, {"meta": {"page": page, "count": len(self.contacts)}, "data": rows})
