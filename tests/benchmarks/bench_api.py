"""Decisions and rewards over HTTP, each committed before its answer, on both databases."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from drivers import DECISION, EVENT, Place, Rows, decision_rows, event_rows, places
from measuring import Row, compare
from msgspec.json import decode, encode
from msgspec.structs import replace
from serving import KEY, SPRING, Server, ask, line, post, running, serving

BATCH = 10_000
CLIENTS = 16
SINGLES = 6_000
NUMBERS = 20
GOAL = 30_000
CHOOSE = f"/api/v1/experiments/{KEY}/choose"


def run(rounds: int) -> list[Row]:
    """Measure batches beside the driver writing the same rows, and singles beside a bare view."""
    rows = []
    with tempfile.TemporaryDirectory() as name, places(Path(name)) as found:
        for place in found:
            with serving(place.url, Path(name)) as server:
                with line(server.place) as send:
                    rows += batches(place, server, send, rounds)
                    rows.append(with_context(place, server, send, rounds))
                rows += singles(place, server, rounds, Path(name))
                rows.append(single_rewards(place, server, rounds))
    return rows


def batches(
    place: Place, server: Server, send: Callable[[bytes], bytes], rounds: int
) -> Iterator[Row]:
    """Measure choose/batch, then a reward for each of those decisions.

    Requests are written before, as the driver's rows are, and answers read after: what a client
    does is not ours to measure.
    """
    requests = [
        encode({"requests": [{"subject_id": f"{k}-{i}"} for i in range(BATCH)]})
        for k in range(rounds + 1)
    ]
    waiting = [post(f"{CHOOSE}/batch", body, server.token) for body in requests]
    answers: list[bytes] = []

    def choose() -> None:
        answers.append(send(waiting.pop()))

    yield compare(
        f"choose/batch of {BATCH:,} over HTTP, {place.name}",
        choose,
        _writing(place, "decisions", DECISION, decision_rows, rounds),
        n=BATCH,
        unit="decisions",
        beside=place.reference,
        least_ratio=0.4,
        rounds=rounds,
        goal=GOAL if place.name == "SQLite" else None,
    )
    rewards = [
        encode(
            {
                "rewards": [
                    {"decision_id": d["decision_id"], "event_id": "e", "metric": "click"}
                    for d in decode(answer)["decisions"]
                ]
            }
        )
        for answer in answers
    ]
    told = [post("/api/v1/rewards", body, server.token) for body in rewards]

    def reward() -> None:
        answer = send(told.pop())
        if decode(answer)["accepted"] != BATCH:
            raise RuntimeError(answer.decode())

    yield compare(
        f"rewards of {BATCH:,} over HTTP, {place.name}",
        reward,
        _writing(place, "events", EVENT, event_rows, rounds),
        n=BATCH,
        unit="rewards",
        beside=place.reference,
        least_ratio=0.4,
        rounds=rounds,
    )


def with_context(place: Place, server: Server, send: Callable[[bytes], bytes], rounds: int) -> Row:
    """Measure choose/batch by a contextual policy, beside the driver writing rows as long."""
    names = [f"x{k}" for k in range(NUMBERS)]
    features = [{"kind": "number", "name": n, "low": 0.0, "high": 1.0} for n in names]
    declared = SPRING | {"key": "context", "policy": {"name": "linucb"}, "context": features}
    server.client.post("/experiments", json=declared).raise_for_status()
    server.client.post("/experiments/context/start").raise_for_status()
    drawn = np.random.default_rng(1).random((rounds + 1, BATCH, NUMBERS)).round(4).tolist()
    waiting = [
        post(
            "/api/v1/experiments/context/choose/batch",
            encode(
                {
                    "requests": [
                        {"subject_id": f"{k}-{i}", "context": dict(zip(names, row, strict=True))}
                        for i, row in enumerate(rows)
                    ]
                }
            ),
            server.token,
        )
        for k, rows in enumerate(drawn)
    ]
    return compare(
        f"choose/batch of {BATCH:,}, {NUMBERS} numbers of context each, {place.name}",
        lambda: send(waiting.pop()),
        _writing(place, "decisions", DECISION, partial(decision_rows, context=8 * NUMBERS), rounds),
        n=BATCH,
        unit="decisions",
        beside=place.reference,
        rounds=rounds,
    )


def _writing(
    place: Place, table: str, columns: str, make: Callable[[int], Rows], rounds: int
) -> Callable[[], None]:
    """Write rows that were made before, so that only the driver and the database are timed."""
    made = [make(BATCH) for _ in range(rounds + 1)]
    return lambda: place.write(table, columns, made.pop())


def singles(place: Place, server: Server, rounds: int, folder: Path) -> Iterator[Row]:
    """Measure single choices from many clients, beside what answering and committing cost."""
    answer = server.client.post(f"/experiments/{KEY}/choose", json={"subject_id": "first"})
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), answer.text]
    shown: list[str] = []
    calls = iter(range(10**6))

    def ours() -> None:
        call = next(calls)

        def request(i: int) -> bytes:
            return post(CHOOSE, b'{"subject_id":"s%d-%d"}' % (call, i), server.token)

        asked = ask(server.place, request, clients=CLIENTS, requests=SINGLES)
        shown.append(asked.shown)

    with running(command, folder / "bare.log") as (address, _):
        host, _, port = address.removeprefix("http://").partition(":")

        def reference() -> None:
            ask(
                (host, int(port)),
                lambda i: post("/choose", b'{"subject_id":"%d"}' % i, server.token),
                clients=CLIENTS,
                requests=SINGLES,
            )

        row = compare(
            "single choose",
            ours,
            reference,
            n=SINGLES,
            unit="decisions",
            beside="a bare Flask view",
            least_ratio=0.5,
            rounds=rounds,
        )
    what = f"single choose, {CLIENTS} clients, {place.name}"
    yield replace(row, what=f"{what}: {shown[-1]}")
    yield compare(
        what,
        ours,
        _committing(place, "decisions", DECISION, decision_rows, rounds),
        n=SINGLES,
        unit="decisions",
        beside=f"the driver, {CLIENTS} a commit",
        rounds=rounds,
    )


def single_rewards(place: Place, server: Server, rounds: int) -> Row:
    """Measure rewards from many clients, each told by itself, beside what committing costs."""
    asked = {"requests": [{"subject_id": f"told-{i}"} for i in range(SINGLES)]}
    made = server.client.post(f"/experiments/{KEY}/choose/batch", json=asked).json()["decisions"]
    ids = [decision["decision_id"].encode() for decision in made]
    shown: list[str] = []
    calls = iter(range(10**6))

    def ours() -> None:
        call = next(calls)

        def request(i: int) -> bytes:
            told = b'{"decision_id":"%s","event_id":"e%d","metric":"click"}' % (ids[i], call)
            return post("/api/v1/rewards", b'{"rewards":[%s]}' % told, server.token)

        asked = ask(server.place, request, clients=CLIENTS, requests=SINGLES)
        shown.append(asked.shown)

    row = compare(
        "single reward",
        ours,
        _committing(place, "events", EVENT, event_rows, rounds),
        n=SINGLES,
        unit="rewards",
        beside=f"the driver, {CLIENTS} a commit",
        rounds=rounds,
    )
    return replace(row, what=f"{row.what}, {CLIENTS} clients, {place.name}: {shown[-1]}")


def _committing(
    place: Place, table: str, columns: str, make: Callable[[int], Rows], rounds: int
) -> Callable[[], None]:
    """Write as many rows as single requests ask for, a few in each commit."""
    groups = [make(CLIENTS) for _ in range((rounds + 1) * SINGLES // CLIENTS)]

    def commits() -> None:
        for _ in range(SINGLES // CLIENTS):
            place.write(table, columns, groups.pop())

    return commits
