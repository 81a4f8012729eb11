"""Tracked clicks over HTTP on SQLite, each durable before its redirect, beside a bare redirect."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread

from drivers import sqlite
from measuring import Row, compare
from msgspec.json import encode
from msgspec.structs import replace
from serving import KEY, Server, ask, line, post, running, serving

from bandits.tracking_tokens import TokenKind, TrackingKey, TrackingToken
from storage import open_store
from tests.patience import join

CLIENTS = 16
CLICKS = 6_000
PACE = 500  # a second
BETWEEN_SECONDS = 0.5  # batches of choices
BATCH = 5_000
ADDRESS = "https://shop.example/sale?utm_source=newsletter"


def run(rounds: int) -> list[Row]:
    """Measure clicks as fast as they go, and at a steady pace while the learner folds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sqlite(folder) as place, serving(place.url, folder) as server:
            links = _links(server, place.url)
            row = _fastest(server, links, rounds, folder)
            return [row, _steady(server, links, row)]


def _links(server: Server, url: str) -> Callable[[int], bytes]:
    """Choose for recipients; return the request for the n-th click."""
    requests = [{"subject_id": f"links-{i}"} for i in range(BATCH)]
    answer = server.client.post(f"/experiments/{KEY}/choose/batch", json={"requests": requests})
    ids = [decision["decision_id"] for decision in answer.json()["decisions"]]
    with closing(open_store(url)) as store:
        new = store.tracked_links.create("bench", at=time.time(), by="bench")
        store.tracked_links.set_hosts(["shop.example"], at=time.time(), by="bench")
    key = TrackingKey.parse(new.text)
    tokens = [TrackingToken(TokenKind.CLICK, (i,), ADDRESS).sign(key) for i in ids]
    return lambda n: _get(f"/t/{tokens[n % BATCH]}")


def _fastest(server: Server, links: Callable[[int], bytes], rounds: int, folder: Path) -> Row:
    """Measure clicks of many clients beside a view that redirects and does nothing else."""
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), "{}"]
    shown: list[str] = []

    def ours() -> None:
        shown.append(ask(server.place, links, clients=CLIENTS, requests=CLICKS).shown)

    with running(command, folder / "bare.log") as (address, _):
        host, _, port = address.removeprefix("http://").partition(":")

        def reference() -> None:
            ask((host, int(port)), links, clients=CLIENTS, requests=CLICKS)

        row = compare(
            "tracked click",
            ours,
            reference,
            n=CLICKS,
            unit="clicks",
            beside="a bare redirect",
            least_ratio=0.4,
            rounds=rounds,
        )
    return replace(row, what=f"tracked click, {CLIENTS} clients, SQLite: {shown[-1]}")


def _steady(server: Server, links: Callable[[int], bytes], fastest: Row) -> Row:
    """Measure clicks at a steady pace while emails are chosen and the learner folds.

    A click that begins late, since those before it took long, counts from when it was to begin.
    """
    stop = Event()
    numbers = count()
    seconds: list[float] = []
    begin = time.perf_counter() + 1.0

    def choose() -> None:
        batches = count()
        with line(server.place) as send:
            while not stop.is_set():
                rows = [{"subject_id": f"b{next(batches)}-{i}"} for i in range(1000)]
                path = f"/api/v1/experiments/{KEY}/choose/batch"
                send(post(path, encode({"requests": rows}), server.token))
                stop.wait(BETWEEN_SECONDS)

    def click() -> None:
        with line(server.place) as send:
            while (number := next(numbers)) < 20 * PACE:
                due = begin + number / PACE
                stop.wait(max(due - time.perf_counter(), 0.0))
                send(links(number))
                seconds.append(time.perf_counter() - due)

    chooser = Thread(target=choose)
    clickers = [Thread(target=click) for _ in range(CLIENTS)]
    for thread in (chooser, *clickers):
        thread.start()
    join(*clickers)
    took = time.perf_counter() - begin
    stop.set()
    join(chooser)
    cuts = quantiles(seconds, n=100)
    times = f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, wanted 25"
    what = f"tracked click at {PACE} a second while emails are chosen and folded: {times}"
    rate = len(seconds) / took
    return replace(
        fastest, what=what, rate=rate, goal=None, ratio=rate / fastest.beside_rate, least_ratio=None
    )


def _get(path: str) -> bytes:
    """Write a request as it goes over the wire."""
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n\r\n"
    return head.encode()
