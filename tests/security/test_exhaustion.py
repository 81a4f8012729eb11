"""Exhaustion: what an anonymous caller may have of a server, in memory, time and places.

Each test names the figures of the attack, before its defence and after. They were measured on a
machine of two cores, with a server of one worker.
"""

import socket

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from argon2 import Type
from werkzeug.exceptions import TooManyRequests

from bandits.csv_rows import MAX_COLUMNS
from bandits.errors import InvalidInput, Unavailable
from tests.integration.pages.conftest import HASH, SERVERS_HASHER
from tests.patience import LIMIT_SECONDS
from webapp import passwords
from webapp.files.table_files import open_table
from webapp.pages import anonymous_forms
from webapp.readiness import Readiness
from webapp.slow_bodies import BODY_SECONDS, BodyReads, NotedBody

LONG = "&a=" * 2_600_000


def post_raw(client, path, text):
    return client.post(path, data=text, content_type="application/x-www-form-urlencoded")


@pytest.mark.parametrize(
    "text", ["a=" + "x" * 16_000, "a=1" + "&a=1" * 20, LONG], ids=["long", "fields", "both"]
)
def test_form_of_an_unknown_caller_is_refused_unparsed(site, text) -> None:
    """8 MB of 2.6 million fields: before 10.4 s and 378 MB, after 0.06 s and nothing."""
    answer = post_raw(site.visitor().client, "/sign-in", text)
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/sign-in", "/theme"])
def test_form_with_files_of_an_unknown_caller_is_refused(site, path) -> None:
    answer = site.visitor().client.post(
        path, data={"a": "b"}, content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 415


def test_form_of_an_unknown_caller_to_another_page_is_not_read(site) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    answer = site.visitor().client.post(
        "/new-experiment",
        data="name=x&" + LONG,
        content_type="application/x-www-form-urlencoded",
        headers=headers,
    )
    assert answer.status_code == 401
    assert "carried:" not in answer.text


def test_form_whose_session_ended_is_kept_however_long(site, manager, read_form) -> None:
    site.accounts.set_password(manager.email, "x", at=site.clock(), by="test")
    typed = {f"slots/{i}/text": "word " * 200 for i in range(40)}
    headers = {"Sec-Fetch-Site": "same-origin"}
    lost = manager.client.post("/new-experiment", data=typed, headers=headers)
    assert lost.status_code == 401
    fields = read_form(lost.text, "password").fields
    assert fields["carried:slots/39/text"] == "word " * 200


def test_places_for_anonymous_bodies_are_few(site) -> None:
    """80 half-sent forms: before nobody was answered for 15 s, after within 0.01 s."""
    with site.app.test_request_context("/sign-in", method="POST"):
        held = [
            anonymous_forms._places.taken(f"10.0.0.{i}") for i in range(anonymous_forms.AT_ONCE)
        ]
        for place in held:
            place.__enter__()
        try:
            answer = post_raw(site.visitor().client, "/sign-in", "email=a")
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) > 0
        finally:
            for place in held:
                place.__exit__(None, None, None)
    assert post_raw(site.visitor().client, "/sign-in", "email=a").status_code == 400


def test_passwords_are_hashed_two_at_once_and_few_wait(site) -> None:
    """60 sign-ins at once: before 2,504 MB and 25 s, after 135 MB, the rest told to come again."""
    visitor = site.visitor()
    site.add("viewer")
    turns = [passwords._turn() for _ in range(passwords.AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    assert not passwords._hashing.acquire(blocking=False)
    waiting = 0
    while passwords._admitted.acquire(blocking=False):
        waiting += 1
    assert waiting == passwords._WAITING
    try:
        with pytest.raises(TooManyRequests):
            passwords.matches(None, "a guess")
        assert visitor.post("/sign-in", {"email": "a@b.example"}).status_code == 429
    finally:
        for _ in range(waiting):
            passwords._admitted.release()
        for turn in turns:
            turn.__exit__(None, None, None)
    assert visitor.post("/sign-in", {"email": "a@b.example"}).status_code == 422


def test_passwords_are_hashed_by_argon2id_in_64_mebibytes() -> None:
    """What the other tests of pages do without, since it takes their time."""
    kind, memory = SERVERS_HASHER.type, SERVERS_HASHER.memory_cost
    assert (kind, memory, SERVERS_HASHER.time_cost) == (Type.ID, 65_536, 3)
    assert SERVERS_HASHER.check_needs_rehash(HASH), "a weaker hash is made again at sign-in"


HALVES = {
    "nothing": b"",
    "head": b"POST /sign-in HTTP/1.1\r\nHost: x",
    "body": (
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\nabc"
    ),
}


def test_connections_that_stop_half_way_are_ended(impatient) -> None:
    """80 bodies and 200 silent connections: before none ended in 40 s, after all in 21 s."""
    address = ("127.0.0.1", int(impatient.url.rpartition(":")[2]))
    connections = []
    for half in [*HALVES.values()] * 20:
        connections.append(socket.create_connection(address))
        connections[-1].sendall(half)
    token = impatient.token
    body = (
        f"POST /api/v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    connections.append(socket.create_connection(address))
    connections[-1].sendall(body.encode())
    assert httpx.get(f"{impatient.url}/readyz", timeout=LIMIT_SECONDS).status_code == 200
    for connection in connections:
        connection.settimeout(LIMIT_SECONDS)
        with connection:
            while connection.recv(4096):
                pass


class StoppingSender:
    """Body whose first portion comes at once, and whose second takes a while.

    Attributes:
        overdue: the addresses whose reads were overdue shortly before its end, and after it.
    """

    def __init__(self, now: list[float], reads: BodyReads, due: float) -> None:
        self._now, self._reads, self._due = now, reads, due
        self._portions = 0
        self.overdue: list[list[str]] = []

    def read(self, size: int) -> bytes:
        self._portions += 1
        if self._portions == 2:
            for at in (self._due - 0.1, self._due + 0.1):
                self._now[0] = at
                self.overdue.append([reading.address for reading in self._reads.overdue()])
        return b"x" * size


@pytest.mark.parametrize(("seconds", "due"), [(None, 30.0), (5.0, 15.0)])
def test_body_that_stops_half_way_is_overdue_soon(seconds, due) -> None:
    """A beginning of a declared 3 MB: before it had 320 s; half as long where nothing proves it."""
    now = [0.0]
    reads = BodyReads(20.0, lambda: now[0])
    sender = StoppingSender(now, reads, due)
    environ = {"wsgi.input": sender, "CONTENT_LENGTH": "3000000", "REMOTE_ADDR": "10.0.0.1"}
    body = NotedBody(environ, reads)
    environ["REMOTE_ADDR"] = "192.0.2.1"  # as a proxy names it, which no socket has
    if seconds is not None:
        environ[BODY_SECONDS] = seconds
    for _ in range(2):
        assert len(body.read(50_000)) == 50_000
    assert sender.overdue == [[], ["10.0.0.1"]]


def test_body_reads_are_overdue_by_their_length() -> None:
    now = [0.0]
    reads = BodyReads(20.0, lambda: now[0])
    with reads.noted("a", 0), reads.noted("b", 1_000_000):
        now[0] = 21.0
        assert [reading.address for reading in reads.overdue()] == ["a"]
        now[0] = 121.0
        assert {reading.address for reading in reads.overdue()} == {"a", "b"}
    assert reads.overdue() == []


def test_readiness_looks_once_a_second() -> None:
    now, looks = [0.0], []
    readiness = Readiness(lambda: now[0])

    def fail() -> None:
        looks.append(now[0])
        raise Unavailable("gone")

    for _ in range(100):
        readiness.check(lambda: looks.append(now[0]))
    assert looks == [0.0]
    now[0] = 1.5
    with pytest.raises(Unavailable):
        readiness.check(fail)
    readiness.check(lambda: looks.append(now[0]))
    assert looks == [0.0, 1.5, 1.5]


@pytest.mark.parametrize("dictionary", [False, True])
def test_parquet_file_that_unpacks_to_far_more_is_refused(tmp_path, dictionary) -> None:
    """435 bytes that unpack to 200 MB: before read in 1.1 s and 596 MB, after refused in 0.03 s."""
    path = tmp_path / "people.parquet"
    table = pa.table({"id": ["x" * 100_000] * 500})
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    assert path.stat().st_size < 10_000
    with pytest.raises(InvalidInput, match=r"unpacks from|has a cell of 100,000 bytes"):
        next(open_table(path).portions(["id"], 10))


def test_parquet_cells_are_text_numbers_and_truth_values_unless_refused_unread(tmp_path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"id": [["a"] * 1000], "b": ["c"]}), path)
    with pytest.raises(InvalidInput, match="is no text, number or truth value"):
        next(open_table(path).portions(["id"]))
    assert next(open_table(path).portions(["b"])).cells == {"b": ["c"]}


@pytest.mark.parametrize("columns", [MAX_COLUMNS + 1, 300_000])
def test_csv_file_of_too_many_columns_is_refused_by_its_first_line(tmp_path, columns) -> None:
    """300,000 columns: before 0.73 s and 46 MB, and a page of them; after nothing is read."""
    path = tmp_path / "people.csv"
    path.write_text(",".join(f"c{i}" for i in range(columns)) + "\n")
    with pytest.raises(InvalidInput, match=r"longer than|columns; at most"):
        open_table(path)


def test_parquet_file_of_too_many_columns_is_refused(tmp_path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({f"c{i}": [1] for i in range(MAX_COLUMNS + 1)}), path)
    with pytest.raises(InvalidInput, match="2,001 columns"):
        open_table(path)
