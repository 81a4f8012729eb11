"""An installation as its users meet it: commands, the API, pages, and the learner's turns.

What a release answered is a list of steps, each a method here with its arguments and its answer. So
the program that makes the database of a release and the test that upgrades it do the same things.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from html.parser import HTMLParser
from importlib.metadata import entry_points
from io import BytesIO
from math import isclose
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from click.testing import CliRunner
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from bandits.engine import Engine
from storage import open_store
from tests.patience import LIMIT_SECONDS
from webapp.app import create_app
from webapp.services import Services
from webapp.settings import Settings

RELATIVE, ABSOLUTE = 1e-9, 1e-15  # what rounding on another machine may make of a number
_FRACTION = re.compile(r"(?<![\w.])\d+\.\d+(?:e[+-]?\d+)?(?![\w.])")  # a number in a text
API = "/api/v1"
COOKIE = "bandits"
_OF_ONE_PAGE = {"csrf_token", "base"}  # what a form has anew each time, or makes from the rest
_TITLE = re.compile(r"^(\S+, version \d+) *$", re.MULTILINE)


def command(database_url: str, *words: str, typed: str = "") -> str:
    """Run a command on a database; return what it prints.

    Raises:
        RuntimeError: it failed.
    """
    (entry,) = entry_points(group="bandits.commands", name=words[0])
    given = [*words[1:], "--database", database_url]
    done = CliRunner().invoke(entry.load(), given, input=typed)
    if done.exit_code:
        raise RuntimeError(f"{words} failed: {done.output}") from done.exception
    return str(done.output)


def verify(database_url: str) -> list[str]:
    """Verify every experiment; return their keys and versions.

    Raises:
        RuntimeError: what was learned differs from the log.
    """
    return _TITLE.findall(command(database_url, "verify"))


def differences(expected: Any, found: Any, place: str = "") -> Iterator[str]:
    """List the places where an answer is another one, numbers but for rounding."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in expected | found:
            if name not in expected or name not in found:
                yield f"{place}/{name}: {'more' if name in found else 'missing'}"
            else:
                yield from differences(expected[name], found[name], f"{place}/{name}")
    elif isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            yield f"{place}: {len(expected)} became {len(found)}"
        for i, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{place}/{i}")
    elif not alike(expected, found):
        yield f"{place}: {expected!r} became {found!r}"


def alike(expected: Any, found: Any) -> bool:
    """Tell whether two values are the same: numbers that are not whole, but for rounding.

    So are the numbers in a text, such as a CSV file: the last digit is the processor's.
    """
    if isinstance(expected, str) and isinstance(found, str):
        return _FRACTION.sub("#", expected) == _FRACTION.sub("#", found) and all(
            map(_same_number, _FRACTION.findall(expected), _FRACTION.findall(found))
        )
    fractional = isinstance(expected, float) and (expected == 0 or not expected.is_integer())
    if fractional and isinstance(found, float | int):
        return _same_number(expected, found)
    return bool(expected == found)


def _same_number(expected: float | str, found: float | str) -> bool:
    return isclose(float(expected), float(found), rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def filled_in(expected: Any, found: Any, place: str) -> Iterator[str]:
    """List what is no longer filled in in a form, in its order; further fields may be there."""
    yield from differences(expected[0], found[0], place)
    left = iter(found[1])
    yield from (f"{place}: {value!r} is lost" for value in expected[1] if value not in left)


class Clock:
    """A clock that stands still until it is set.

    Attributes:
        now: seconds since 1970.
        portions: how often other threads than the main one may still ask before they die of it, as
            at a power cut; None where they live.
    """

    def __init__(self, now: float) -> None:
        self.now = now
        self.portions: int | None = None

    def __call__(self) -> float:
        if self.portions is not None and threading.current_thread() is not threading.main_thread():
            if not self.portions:
                raise SystemExit
            self.portions -= 1
        return self.now


class Forms(HTMLParser):
    """The forms of a page, each a list of the names and values that a browser would send."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[list[tuple[str, str]]] = []
        self._select = ""
        self._options: list[tuple[str | None, bool, str]] = []
        self._area: str | None = None
        self.feed(html)

    def with_field(self, name: str) -> list[tuple[str, str]]:
        """Return the first form that has a field of this name."""
        return next(form for form in self.found if name in dict(form))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        name = given.get("name", "")
        match tag:
            case "form":
                self.found.append([])
            case "input" if name and self.found:
                if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                    self._add(name, given.get("value", ""))
            case "textarea":
                self._add(name, "")
                self._area = name
            case "select":
                self._select, self._options = name, []
            case "option":
                self._options.append((given.get("value"), "selected" in given, ""))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            name, text = self.found[-1].pop()
            self._add(name, text + data)
        elif self._select and self._options:
            value, selected, text = self._options[-1]
            self._options[-1] = (value, selected, text + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area is not None:
            name, text = self.found[-1].pop()
            self._add(name, text.removeprefix("\n"))
            self._area = None
        elif tag == "select":
            chosen = [o for o in self._options if o[1]] or self._options[:1]
            for value, _, text in chosen:
                self._add(self._select, text.strip() if value is None else value)
            self._select = ""

    def _add(self, name: str, value: str) -> None:
        if self.found:
            self.found[-1].append((name, value))


_SIGN_IN = "sign in,user:"


class Installation:
    """A server on one database and folder of files, in this process, by a clock of its own."""

    def __init__(
        self,
        database_url: str,
        files: Path,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] | None = None,
    ) -> None:
        self.url = database_url
        self._store = open_store(database_url)
        more = () if entropy is None else (entropy,)
        self._engine = Engine(self._store, clock, *more)
        settings = Settings(
            wait_seconds=LIMIT_SECONDS,
            database_url=database_url,
            files_folder=str(files),
            secret_key=self._store.secret("sessions").hex(),
        )
        names = ("accounts", "drafts", "connections", "tracked_links", "spool", "outgoing")
        parts = [getattr(self._store, n) for n in names if hasattr(self._store, n)]  # of a version
        services = Services(self._engine, *parts)
        self._app = create_app(services, settings)
        self._browsers: dict[str, FlaskClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with closing(self._store):
            pass

    # Programs

    def call(self, token: str, request: str, body: Any = None, version: int = 0) -> Any:
        """Call the API: `request` is a method and a path; return the status and the content."""
        method, path = request.split(" ", 1)
        headers = {"Authorization": f"Bearer {token}"}
        answer = self._app.test_client().open(
            API + path,
            method=method,
            data=None if body is None else msgspec.json.encode(body),
            content_type=None if body is None else "application/json",
            headers=headers | ({"If-Match": f'"{version}"'} if version else {}),
        )
        if answer.status_code >= 400:  # what it says has an id of its own
            return [answer.status_code, answer.json["type"]]
        return [answer.status_code, answer.json if answer.data else None]

    # People

    def sign_in(self, email: str, password: str, browser: str = "") -> Any:
        """Sign in with a new browser; return the status."""
        agent = browser or email
        client = self._app.test_client()
        self._browsers[agent] = client
        fields = {"email": email, "password": password}
        return self._send(client, "/sign-in", "email", fields, {"User-Agent": agent})

    def come_back(self, browser: str, cookie: str) -> Any:
        """Open the account's page with a browser that has kept its cookie; return the status."""
        client = self._app.test_client()
        client.set_cookie(COOKIE, cookie)
        self._browsers[browser] = client
        return client.get("/settings").status_code

    def cookie(self, browser: str) -> str:
        """Return the cookie that a browser keeps."""
        kept = self._browsers[browser].get_cookie(self._app.config["SESSION_COOKIE_NAME"])
        assert kept is not None
        return kept.value

    def download(self, browser: str, path: str) -> Any:
        """Open an address whose text is the same each time; return the status and the text.

        Left out are the audit log's lines on sign-ins, which the first releases did not write.
        """
        answer = self._browsers[browser].get(path)
        lines = answer.text.splitlines(keepends=True) if answer.status_code == 200 else []
        return [answer.status_code, "".join(line for line in lines if _SIGN_IN not in line)]

    def look(self, browser: str, path: str, sought: Sequence[str]) -> Any:
        """Open a page; return the status and which of the texts `sought` it lacks."""
        answer = self._browsers[browser].get(path)
        return [answer.status_code, [text for text in sought if text not in answer.text]]

    def form(self, browser: str, path: str, field: str) -> Any:
        """Open a page; return what is filled in in its form with `field`, in the form's order."""
        answer = self._browsers[browser].get(path)
        fields = Forms(answer.text).with_field(field)
        return [answer.status_code, [v for name, v in fields if v and name not in _OF_ONE_PAGE]]

    def send(  # noqa: PLR0913 - who, what and where
        self,
        browser: str,
        path: str,
        *,
        field: str = "csrf_token",
        fields: Mapping[str, Any] | None = None,
        to: str = "",
        file: Sequence[str] = (),
    ) -> Any:
        """Open a page and send its form with `field`; wait for what that sets going.

        Args:
            browser: whose.
            path: of the page.
            field: a field that the form has.
            fields: values to change, or to add.
            to: where to send it, if not to `path`.
            file: the name and the text of a file to send with it.

        Returns:
            The status, and where the answer leads to.
        """
        given = dict(fields or {})
        return self._send(self._browsers[browser], path, field, given, to=to or path, file=file)

    def _send(  # noqa: PLR0913 - as `send`, and as which browser
        self,
        client: FlaskClient,
        path: str,
        field: str,
        fields: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        to: str = "",
        file: Sequence[str] = (),
    ) -> Any:
        page = client.get(path)
        data: MultiDict[str, Any] = MultiDict(Forms(page.text).with_field(field))
        for name, value in fields.items():
            data.setlist(name, value if isinstance(value, list) else [value])
        if file:
            data["file"] = (BytesIO(file[1].encode()), file[0])
        running = set(threading.enumerate())
        answer: TestResponse = client.post(to or path, data=data, headers=dict(headers or {}))
        for thread in set(threading.enumerate()) - running:
            thread.join(LIMIT_SECONDS)
        return [answer.status_code, answer.location]

    # The learner

    def turn(self, keys: Sequence[str]) -> None:
        """Do for these experiments what a learner does at its turn."""
        for key in keys:
            self._engine.keep_to_schedule(self._engine.store.experiments.record(key))
            self._engine.learn(key)
            self._engine.prune(key)
            self._engine.retain(key)
