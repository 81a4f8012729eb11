"""Hostile text in every field of every form, found by following links: it is never markup."""

import io
import re
from collections import Counter
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from msgspec import json
from msgspec.structs import replace
from werkzeug.datastructures import MultiDict

from bandits.actors import actor_of
from bandits.schemas import Request, Reward
from bandits.store.values import Deeds
from storage.connections import DeliveryOutcome, NewRefusal
from storage.outgoing import MailSettings
from webapp.files.file_check import ColumnFinding, FileCheck
from webapp.jobs.waves import Wave
from webapp.links.link_views import PUBLIC_URL
from webapp.signals.delivery import Delivery
from webapp.webhooks.signal_recorder import RefusedSignal

# Out of an attribute, out of every element that holds text, into a template, into an address.
HOSTILE = (
    """javascript:q9()"'></textarea></title></style></script></option></select>"""
    """<q9-tag><img q9=1 onerror=q9()><script>q9()</script>" q9="1' q9='1 {{ 71*73 }} {% q9 %}"""
)
TYPED = {"text", "search", "email", "url", "number", "date", "datetime-local", "password", "hidden"}
ADDRESSES = {"href", "src", "action", "formaction", "poster", "data", "xlink:href"}
A_FEW = 2  # pages of one kind that are opened


class Reader(HTMLParser):
    """Reads a page as a browser would: its links, its forms, and what hostile text became."""

    def __init__(self, html, place):
        super().__init__()
        self.place = place
        self.links = []
        self.forms = []
        self.broken = []
        self._area = None
        self.feed(html)
        if "5183" in html:
            self.broken.append(f"{place}: a template computed it")

    def handle_starttag(self, tag, attrs):
        attributes = {k: v or "" for k, v in attrs}
        scripted = tag == "script" and "src" not in attributes
        if tag.startswith("q9") or scripted or any(k.startswith(("q9", "on")) for k in attributes):
            self.broken.append(f"{self.place}: <{tag} {attributes}>")
        for name in ADDRESSES & attributes.keys():
            if attributes[name].strip().lower().startswith("javascript:"):
                self.broken.append(f"{self.place}: {name}={attributes[name]}")
        if "srcdoc" in attributes:
            self.broken.append(f"{self.place}: markup in a frame's own attribute")
        if tag == "iframe" and attributes.get("sandbox") != "":
            self.broken.append(f"{self.place}: a frame that may do something")
        if tag == "a" and attributes.get("href", "").startswith("/"):
            self.links.append(attributes["href"])
        self._read_form(tag, attributes)

    def _read_form(self, tag, attributes):
        name = attributes.get("name", "")
        if tag == "form":
            self.forms.append(
                Form(
                    urljoin(self.place, attributes.get("action", "")),
                    attributes.get("method", "get").lower(),
                )
            )
        if not self.forms:
            return
        form = self.forms[-1]
        kind = attributes.get("type", "text")
        if tag == "button" and attributes.get("formaction"):
            self.forms.append(
                Form(
                    urljoin(self.place, attributes["formaction"]),
                    form.method,
                    form.fields,
                    form.text,
                )
            )
        elif tag == "input" and name:
            self._read_input(form, name, kind, attributes)
        elif tag == "button" and name:
            form.buttons.append((name, attributes.get("value", "")))
        elif tag == "textarea":
            form.text.append(name)
            form.fields[name] = ""
            self._area = name
        elif tag == "select":
            form.text.append(name)
            form.fields.setdefault(name, "")
            self._select = name
        elif tag == "option" and "selected" in attributes:
            form.fields[self._select] = attributes.get("value", "")

    @staticmethod
    def _read_input(form, name, kind, attributes):
        if name == "csrf_token":
            form.fields[name] = attributes["value"]
        elif kind == "file":
            form.files.append(name)
        elif kind in TYPED:
            form.fields[name] = attributes.get("value", "")
            form.text.append(name)
        elif "checked" in attributes:
            form.fields[name] = attributes.get("value", "on")

    def handle_data(self, data):
        if self._area:
            self.forms[-1].fields[self._area] += data

    def handle_endtag(self, tag):
        if tag == "textarea":
            self._area = None


class Form:
    """Where a form goes, what it would send, and which of it can be typed."""

    def __init__(self, action, method, fields=None, text=None):
        self.action = action
        self.method = method
        self.fields = dict(fields or {})
        self.text = list(text or [])
        self.files = []
        self.buttons = []


class Intruder:
    """Somebody who follows every link and types hostile text everywhere."""

    def __init__(self, site, visitor):
        self.site = site
        self.visitor = visitor
        self.adapter = site.app.url_map.bind("localhost")
        self.broken = []
        self.filled = Counter()  # fields, by their form's endpoint
        self.offered = set()  # endpoints of forms

    def endpoint(self, address, method="GET"):
        return self.adapter.match(unquote(urlsplit(address).path), method=method)[0]

    def read(self, answer, place):
        """Check one answer, and return it taken apart; None where it is no page."""
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status_code < 500, f"{place}: {answer.text[:500]}"
        if answer.mimetype != "text/html" or policy.startswith("sandbox;"):
            return None
        assert "script-src 'self';" in policy
        reader = Reader(answer.text, place)
        self.broken += reader.broken
        return reader

    def pages(self, *begin):
        """Follow links; yield what is there, a few pages of each kind."""
        waiting, seen, kinds = list(begin), set(), Counter()
        while waiting:
            place = waiting.pop(0)
            kind = self.endpoint(place)
            if place in seen or kinds[kind] >= A_FEW:
                continue
            seen.add(place)
            kinds[kind] += 1
            answer = self.visitor.get(place)
            if answer.status_code in {301, 302}:
                waiting.append(answer.location)
            elif reader := self.read(answer, place):
                waiting += [link.partition("#")[0] for link in reader.links]
                yield place, reader

    def send(self, form, fields, hostile_file=False):
        if form.method == "get":
            return self.read(self.visitor.get(form.action, query_string=fields), form.action)
        sent = MultiDict(fields)
        if hostile_file:
            text = f"{HOSTILE.replace(',', '')},subject_id,decision_id\n{HOSTILE},{HOSTILE},x\n"
            for name in form.files:
                sent[name] = (io.BytesIO(text.encode()), f"{HOSTILE.replace('/', '')}.csv")
        answer = self.visitor.client.post(form.action, data=sent, follow_redirects=True)
        return self.read(answer, f"{form.action} after {set(fields) and 'typing'}")

    def type_into_form(self, answer, endpoint):
        """Type into the one form of a page that is sent to an endpoint."""
        (form,) = (
            form
            for form in self.read(answer, endpoint).forms
            if self.endpoint(form.action, form.method.upper()) == endpoint
        )
        self.type_into(form)

    def type_into_all(self, reader):
        """Type into each form of a page but those that are left out."""
        for form in reader.forms:
            if self.endpoint(form.action, form.method.upper()) not in LEFT_OUT:
                self.type_into(form)

    def type_into(self, form):
        """Type into all fields together, then into each alone, leaving the others as they are."""
        where = self.endpoint(form.action, form.method.upper())
        self.offered.add(where)
        names = [n for n in form.text if n not in {"csrf_token", "base"}]
        if not names and not form.files:
            return
        kinds = {re.sub(r"\d+", "0", value): (name, value) for name, value in form.buttons}
        everything = form.fields | dict.fromkeys(names, HOSTILE)
        for button in list(kinds.values()) or [None]:
            self.send(form, everything | (dict([button]) if button else {}), hostile_file=True)
        if form.files:
            self.send(form, form.fields, hostile_file=True)
        first = dict(form.buttons[:1])
        for name in names:
            if self.filled[where, re.sub(r"\d+", "0", name)] == 0:
                self.send(form, form.fields | first | {name: HOSTILE})
            self.filled[where, re.sub(r"\d+", "0", name)] += 1


@pytest.fixture
def hostile_site(site, declared, monkeypatch):
    """A site whose store is full of it already: what the API takes, the pages must survive."""
    slots = [
        slot
        | {"name": HOSTILE[:100]}
        | {
            "variants": [
                v | {"name": HOSTILE[:100], "payload": dict.fromkeys(v["payload"], HOSTILE)}
                for v in slot["variants"]
            ]
        }
        for slot in declared["slots"]
    ]
    context = [{"name": "channel", "kind": "category", "values": [HOSTILE[:200], "Web"]}]
    site.make(name=HOSTILE[:200], slots=slots, context=context, policy={"name": "lints"})
    site.make(key="other", name=HOSTILE[:200], start=False)
    key = site.accounts.keys.create(HOSTILE[:100], ["read"], at=1.0, by=HOSTILE).key
    (decision,) = site.engine.choose(
        "sale",
        [Request(HOSTILE[:200], {"channel": HOSTILE[:200]}, decision_id="d<q9-tag>")],
        actor=key.actor,
    )
    site.engine.reward([Reward(decision.decision_id, "<q9-tag/q9=1>", "click")])
    site.clock.now += 1
    site.engine.choose("sale", [Request("voided", {})], actor=actor_of("person", HOSTILE[:100]))
    site.clock.now += 10
    hostile_deeds = Deeds(actor_of("person", HOSTILE[:100]), 1.0, site.clock())
    site.engine.void(hostile_deeds, by=HOSTILE, experiment="sale")
    site.engine.learn("sale")
    site.accounts.add_user('"><q9-tag>@shop.example', "x", "viewer", at=1, by=HOSTILE)
    connect(site.store.connections)
    monkeypatch.setitem(site.app.config, PUBLIC_URL, "https://bandits.shop.example")
    tell(site)
    for _ in range(2):
        site.store.tracked_links.create(HOSTILE[:100], at=1.0, by=HOSTILE)
    return site


def connect(connections):
    """Add two connections: one had a rejected delivery and an event that did not fit, one rests."""
    parts = {"fields": {"url": HOSTILE}, "metrics": {HOSTILE: HOSTILE}, "at": 1.0, "by": HOSTILE}
    mailer, _ = (connections.add("mandrill", key, {}, **parts) for key in ("mailer", "resting"))
    connections.set_paused("resting", paused=True, at=1.0, by=HOSTILE)
    signal = RefusedSignal(delivery=Delivery("POST", {}, HOSTILE.encode()))
    refusal = NewRefusal(HOSTILE, json.encode(signal), signal.text)
    connections.record_delivery(mailer.id, DeliveryOutcome(refused=[refusal]), at=1.0)
    connections.note_rejections(mailer.id, 1, HOSTILE, at=1.0)


def tell(site):
    """Invite somebody, and name a mail server and a webhook."""
    times = {"at": 1.0, "by": HOSTILE}
    site.accounts.links.invite('"><q9-tag>@else.example', "viewer", **times)
    mail_server = MailSettings("q9.invalid", 25, "none", HOSTILE, HOSTILE, HOSTILE)
    site.store.outgoing.mail_settings.save(mail_server, **times)
    site.store.outgoing.alerts.add_target(HOSTILE[:60], "webhook", HOSTILE, ["winner"], **times)


def uploaded(site):
    """Files whose columns are to be named, and others in every further state: these."""
    uploads = site.app.extensions["bandits.uploads"]
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    text = f"{quoted},subject_id,decision_id\n{quoted},{quoted},x\n".encode()
    name = f"{HOSTILE.replace('/', '')}.csv"
    kinds = ("recipients", "results", *["recipients"] * 4)
    *_, waiting, refused, unplanned, planned = (
        uploads.add("sale", kind, io.BytesIO(text), name, at=site.clock(), by=HOSTILE)
        for kind in kinds
    )
    finding = ColumnFinding(HOSTILE, HOSTILE, 2, ((HOSTILE, 2),))
    check = FileCheck(3, 3, 2, 2, 1, (3,), (finding,), (finding,))
    uploads.save(replace(waiting, stage="checked", check=check))
    uploads.save(replace(refused, stage="refused", faults=(HOSTILE,)))
    uploads.save(replace(unplanned, stage="checked", check=check, in_waves=True))
    later = Wave(recipients=1, at=site.clock() + 1e6, stage="broken", faults=(HOSTILE,))
    ready = Wave(recipients=1, at=1.0, stage="ready")
    uploads.save(replace(planned, stage="waves", check=check, total=2, waves=(ready, later)))
    return waiting.id, refused.id, unplanned.id, planned.id


# What is not pressed: it would end the session that presses all the rest, or is offered only where
# there is no campaign yet.
# One is reached by way of a provider: `tests/security/test_provider_sign_in.py`. Three have nothing
# to type, and need a guardrail that has acted, or a campaign whose emails are reported as sent.
LEFT_OUT = {
    "pages.sign_out",
    "pages.end_other_sessions",
    "pages.create_sample",
    "pages.connect_provider",
    "pages.create_first_account",
    "pages.undo_guardrail",
    "pages.report_upload_sent",
    "pages.report_wave",
}


def test_hostile_text_in_every_field_of_every_form_is_never_markup(hostile_site, password):
    upload_ids = uploaded(hostile_site)
    admin = hostile_site.visitor("admin")
    hostile_site.session(admin.email, agent=HOSTILE)
    intruder = Intruder(hostile_site, admin)
    begin = (
        *("/", "/decisions/d%3Cq9-tag%3E", "/experiments/sale/try", "/settings"),
        "/experiments/sale/stop/1",
    )
    places = [f"/experiments/sale/files/{upload_id}" for upload_id in upload_ids]
    for _ in range(2):  # the second time, on what the first has stored
        for _, reader in list(intruder.pages(*begin)):
            intruder.type_into_all(reader)
        for place in places:
            intruder.type_into_all(intruder.read(admin.get(place), place))
    typed = admin.form("/experiments/sale/voids?actor=key:1", "since")
    confirmation = admin.post("/experiments/sale/voids/preview", typed)
    intruder.type_into_form(confirmation, "pages.void_deeds")
    stranger = Intruder(hostile_site, hostile_site.visitor())
    open_pages = (f"/sign-in?next={quote(HOSTILE)}", "/invitation", "/new-password")
    for _, reader in list(stranger.pages(*open_pages, "/forgotten-password")):
        for form in reader.forms:
            stranger.type_into(form)
    coded = hostile_site.visitor("viewer", "coded@shop.example")
    hostile_site.accounts.set_totp(coded.email, "JBSWY3DP" * 4, at=1.0, by=HOSTILE)
    intruder.type_into_form(coded.get("/settings/codes"), "pages.turn_off_codes")
    words = {"email": coded.email, "password": password, "next": HOSTILE}
    asked = stranger.visitor.post("/sign-in", words | {f"carried:{HOSTILE}": HOSTILE})
    for form in stranger.read(asked, "code").forms:
        stranger.type_into(form)
    headers = {"Sec-Fetch-Site": "same-origin"}
    typed = dict.fromkeys(("name", HOSTILE), HOSTILE)
    stranger.read(stranger.visitor.post("/new-experiment", typed, headers=headers), "carried")
    assert intruder.broken + stranger.broken == []
    rules = hostile_site.app.url_map.iter_rules()
    posts = {r.endpoint for r in rules if r.endpoint.startswith("pages.") and "POST" in r.methods}
    assert posts - intruder.offered - stranger.offered == LEFT_OUT, "each form is found"


def test_markup_reader_finds_what_is_not_escaped():
    for text in (HOSTILE, f'<p title="{HOSTILE}">', f"<p title='{HOSTILE}'>", "5183"):
        assert Reader(text, "/").broken
    for text in ('<a href=" JavaScript:q9()">', '<iframe srcdoc="<b>">', "<iframe src=/preview>"):
        assert Reader(text, "/").broken
    assert Reader("<p title='&#34;&gt;&lt;q9-tag&gt;'>&lt;q9-tag&gt;</p>", "/").broken == []
