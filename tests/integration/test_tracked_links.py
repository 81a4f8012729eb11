"""Tracked links as recipients, scanners and strangers meet them, and the API around them."""

import re
from threading import Event

import pytest

from bandits.client.tracking import LinkTracking, rewrite
from bandits.errors import Unavailable
from bandits.schemas import Decision
from bandits.tracking_tokens import TokenKind, TrackingKey, TrackingToken
from tests.integration.conftest import NOW
from webapp.links.link_views import PUBLIC_URL
from webapp.spool_worker import SpoolWorker

ROOT = "https://links.shop.example"
ADDRESS = "https://shop.example/sale?a=1&b=2#c"
BODY = {"html": f'<a href="{ADDRESS.replace("&", "&amp;")}">x</a>', "decision_ids": ["d-1"]}


class Links:
    """The API, a tracking key, and an email's links."""

    def __init__(self, api) -> None:
        self.api = api
        self.client = api.client
        services = api.app.extensions["bandits"]
        self.store, self.spool = services.tracked_links, services.spool
        self.store.set_hosts(["shop.example"], at=NOW, by="test")
        self.new = self.store.create("test", at=NOW, by="test")
        self.key = TrackingKey.parse(self.new.text)
        self.reader = api.app.extensions["bandits.link_reader"]
        api.app.config[PUBLIC_URL] = ROOT

    def token(self, kind=TokenKind.CLICK, address=ADDRESS, ids=("d-1",), key=None) -> str:
        if kind in {TokenKind.OPEN, TokenKind.UNSUBSCRIBE}:
            address = ""
        return TrackingToken(kind, ids, address).sign(key or self.key)

    def spooled(self) -> list[bytes]:
        """Read what is in the spool, and leave it there."""
        return [r.text for r in self.spool.find(["d-1", "d-2"])]


@pytest.fixture
def links(api) -> Links:
    return Links(api)


def test_click_leads_on_and_is_in_the_spool(links):
    answer = links.client.get(f"/t/{links.token()}", headers={"User-Agent": "Mozilla/5.0 (X)"})
    assert (answer.status_code, answer.headers["Location"]) == (302, ADDRESS)
    assert answer.data == b""
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["X-Request-ID"]
    (text,) = links.spooled()
    assert b"Mozilla/5.0 (X)" in text
    assert b"127.0.0.1" in text


def test_pixel_is_a_gif_that_nothing_stores(links):
    answer = links.client.get(f"/o/{links.token(TokenKind.OPEN)}.gif")
    assert (answer.status_code, answer.content_type) == (200, "image/gif")
    assert answer.data.startswith(b"GIF89a")
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(links.spooled()) == 1


def test_head_is_answered_without_a_body_and_marked(links):
    click = links.client.head(f"/t/{links.token()}")
    pixel = links.client.head(f"/o/{links.token(TokenKind.OPEN)}.gif")
    assert (click.status_code, click.headers["Location"]) == (302, ADDRESS)
    assert (pixel.status_code, pixel.data, pixel.headers["Content-Length"]) == (200, b"", "43")
    assert all(b'"head":true' in text for text in links.spooled())


def test_hidden_link_leads_on_as_any_other(links):
    answer = links.client.get(f"/t/{links.token(TokenKind.HONEYPOT)}")
    assert (answer.status_code, answer.headers["Location"]) == (302, ADDRESS)
    assert len(links.spooled()) == 1


def test_strange_token_is_not_found_and_costs_nothing(links, monkeypatch):
    stranger = TrackingKey.generate()
    forged = TrackingKey(links.key.id, stranger.secret)
    bad = [
        "",
        "x",
        "a.b.c",
        "%00",
        "é",
        "x" * 5000,
        links.token() + "x",
        links.token()[:-1],
        links.token(key=stranger),
        links.token(key=forged),
        links.token(key=forged, address="https://evil.example/"),
        links.token(TokenKind.OPEN),
        links.token(TokenKind.UNSUBSCRIBE),
        f"{links.token()}/more",
    ]
    links.client.get(f"/t/{links.token()}")  # the keys are known

    def refuse(*_, **__):
        raise AssertionError("the database was asked")

    database = links.api.engine.store.database
    monkeypatch.setattr(database, "writing", refuse)
    monkeypatch.setattr(links.spool, "append", refuse)
    monkeypatch.setattr(links.reader.ring, "_refresh", lambda: links.reader.ring._rules)
    monkeypatch.setattr(database, "reading", refuse)
    for token in bad:
        for path in (f"/t/{token}", f"/o/{token}x.gif", f"/u/{token}x"):
            answer = links.client.get(path)
            assert answer.status_code == 404, path
            assert "Location" not in answer.headers


def test_other_methods_are_refused(links):
    for path in (f"/t/{links.token()}", f"/o/{links.token(TokenKind.OPEN)}.gif"):
        answer = links.client.post(path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert links.client.delete(f"/u/{links.token(TokenKind.UNSUBSCRIBE)}").status_code == 405
    assert links.spooled() == []


@pytest.mark.parametrize(
    "address", ["https://evil.example/", "http://sub.shop.example/", "https://shop.example.evil/"]
)
def test_signed_link_to_another_host_leads_nowhere(links, address):
    answer = links.client.get(f"/t/{links.token(address=address)}")
    assert answer.status_code == 404
    assert "Location" not in answer.headers
    assert "does not allow" in answer.text
    assert links.spooled() == []


def test_host_that_is_removed_leads_nowhere_any_more(links):
    assert links.client.get(f"/t/{links.token()}").status_code == 302
    assert links.api.call("PUT", "/tracking/hosts", {"hosts": ["other.example"]}).status_code == 200
    links.reader.ring._rules = None  # as a second later
    assert links.client.get(f"/t/{links.token()}").status_code == 404


def test_host_header_changes_no_link(links):
    links.api.start()
    links.api.choose(decision_id="d-1")
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    answer = links.api.post("/tracking/rewrite", BODY, headers=headers)
    assert "evil" not in answer.text
    assert answer.json["unsubscribe_url"].startswith(f"{ROOT}/u/")
    click = links.client.get(f"/t/{links.token()}", headers=headers)
    assert click.headers["Location"] == ADDRESS


def test_replaced_key_counts_and_a_revoked_one_leads_on_without(links):
    links.store.rotate(links.new.key.id, at=NOW, by="test")
    assert links.client.get(f"/t/{links.token()}").status_code == 302
    assert len(links.spooled()) == 1
    revoked = links.api.post(f"/tracking/keys/{links.new.key.id}/revoke")
    assert revoked.json["revoked_at"] is not None
    links.reader.ring._rules = None  # as a second later
    assert links.client.get(f"/t/{links.token()}").status_code == 302
    assert links.client.get(f"/o/{links.token(TokenKind.OPEN)}.gif").status_code == 200
    assert len(links.spooled()) == 1
    answer = links.client.post(f"/u/{links.token(TokenKind.UNSUBSCRIBE)}")
    assert answer.status_code == 200
    assert len(links.spooled()) == 2  # somebody who leaves is always heard


def test_full_spool_leads_on_and_shows_no_success_else(links, monkeypatch, caplog):
    def full(*_):
        raise Unavailable("the disk is full")

    monkeypatch.setattr(links.spool, "append", full)
    for _ in range(20):
        click = links.client.get(f"/t/{links.token()}")
        assert (click.status_code, click.headers["Location"]) == (302, ADDRESS)
    assert caplog.text.count("clicks are lost") == 1
    for path, method in (("o", "GET"), ("u", "POST")):
        kind = TokenKind.OPEN if path == "o" else TokenKind.UNSUBSCRIBE
        answer = links.client.open(f"/{path}/{links.token(kind)}", method=method)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0


def test_redirect_needs_no_database(links, monkeypatch):
    assert links.client.get(f"/t/{links.token()}").status_code == 302

    def away(*_, **__):
        raise Unavailable("away")

    database = links.api.engine.store.database
    with monkeypatch.context() as patch:
        patch.setattr(database, "reading", away)
        patch.setattr(database, "writing", away)
        links.reader.ring._tried_at -= 3600.0
        for path in (f"/t/{links.token(ids=('d-2',))}", f"/o/{links.token(TokenKind.OPEN)}.gif"):
            assert links.client.get(path).status_code in {200, 302}
        page = links.client.post(f"/u/{links.token(TokenKind.UNSUBSCRIBE)}")
        assert page.status_code == 200
        links.reader.ring._rules = None
        assert links.client.get(f"/t/{links.token()}").status_code == 503
    assert len(links.spooled()) == 4


class TestUnsubscribe:
    @pytest.fixture
    def path(self, links) -> str:
        return f"/u/{links.token(TokenKind.UNSUBSCRIBE)}"

    def test_page_asks_and_changes_nothing(self, links, path):
        for method in ("GET", "HEAD"):
            answer = links.client.open(path, method=method)
            assert answer.status_code == 200
            assert "Set-Cookie" not in answer.headers
        page = links.client.get(path).text
        assert 'name="List-Unsubscribe" value="One-Click"' in page
        assert "<button" in page
        assert links.spooled() == []

    @pytest.mark.parametrize(
        "body",
        [
            {"data": {"List-Unsubscribe": "One-Click"}},
            {"data": b"List-Unsubscribe=One-Click", "content_type": "text/plain"},
            {"data": {"List-Unsubscribe": "One-Click"}, "content_type": "multipart/form-data"},
            {},
        ],
    )
    def test_unsubscribe_by_one_click_needs_no_cookie_and_no_form_token(self, links, path, body):
        answer = links.client.post(path, **body)
        assert answer.status_code == 200
        assert "You are unsubscribed" in answer.text
        assert "Set-Cookie" not in answer.headers
        assert len(links.spooled()) == 1

    def test_token_of_another_kind_unsubscribes_nobody(self, links):
        for kind in (TokenKind.CLICK, TokenKind.OPEN, TokenKind.HONEYPOT):
            assert links.client.post(f"/u/{links.token(kind)}").status_code == 404
        assert links.spooled() == []

    def test_sender_reads_who_unsubscribed(self, links, path, api):
        api.start()
        made = api.choose(decision_id="d-1")["decision_id"]
        for _ in range(3):
            links.client.post(path)
        drain(links)
        listed = api.get("/tracking/unsubscribes").json
        assert [row["decision_id"] for row in listed["unsubscribes"]] == [made]
        after = listed["next"]
        again = api.get(f"/tracking/unsubscribes?after={after}").json
        assert again == {"unsubscribes": [], "next": after}


def drain(links: Links) -> None:
    store = links.api.engine.store
    SpoolWorker(links.api.engine, store, Event()).look()


class TestApi:
    def test_email_of_the_server_is_that_of_the_client(self, links):
        links.api.start()
        links.api.choose(decision_id="d-1")
        answer = links.api.post("/tracking/rewrite", BODY)
        assert answer.status_code == 200, answer.text
        email = rewrite(
            BODY["html"],
            Decision("d-1", {}, 1.0, 0),
            LinkTracking(links.new.text, ROOT, ["shop.example"]),
        )

        def plain(text: str) -> str:
            return re.sub(r"/([tou])/[\w.-]+", r"/\1/", text)

        assert plain(answer.json["html"]) == plain(email.html)
        assert answer.json["links"] == 1
        assert (answer.json["unknown"], answer.json["refused"]) == ([], [])
        unsubscribe = answer.json["unsubscribe_url"]
        assert answer.json["headers"]["List-Unsubscribe"] == f"<{unsubscribe}>"
        path = re.search(rf"{ROOT}(/t/[\w.-]+)", answer.json["html"])[1]
        assert links.client.get(path).headers["Location"] == ADDRESS
        links.client.post(unsubscribe.removeprefix(ROOT))
        assert len(links.spooled()) == 2
        unpersonal = links.api.post("/tracking/rewrite", BODY | {"personalize": False}).json
        assert "<img" not in unpersonal["html"]
        out = links.api.post("/tracking/rewrite", BODY | {"opted_out": True}).json
        assert out["html"] == BODY["html"]

    def test_decisions_that_are_unknown_are_named_and_the_others_are_signed(self, links):
        links.api.start()
        links.api.choose(decision_id="d-1")
        body = BODY | {"decision_ids": ["d-9", "d-1", "d-9"]}
        answer = links.api.post("/tracking/rewrite", body).json
        assert (answer["unknown"], answer["links"]) == (["d-9"], 1)
        links.client.post(answer["unsubscribe_url"].removeprefix(ROOT))
        drain(links)
        listed = links.api.get("/tracking/unsubscribes").json["unsubscribes"]
        assert [row["decision_id"] for row in listed] == ["d-1"]
        nothing = links.api.post("/tracking/rewrite", BODY | {"decision_ids": ["d-9"]}).json
        assert (nothing["html"], nothing["headers"], nothing["links"]) == (BODY["html"], {}, 0)
        assert nothing["unsubscribe_url"] is None

    def test_email_counts_by_its_length(self, links, api):
        def left(html: str) -> int:
            answer = api.post("/tracking/rewrite", BODY | {"html": html}, token=token)
            return int(re.search(r"r=(\d+)", answer.headers["RateLimit"])[1])

        token = api.key("choose")
        first = left("")
        assert first - left("x" * 500_000) > 45

    def test_server_without_a_public_address_says_which_setting_it_needs(self, links, problem):
        links.api.app.config[PUBLIC_URL] = None
        told = problem(links.api.post("/tracking/rewrite", BODY), 409, "conflict")
        assert "BANDITS_PUBLIC_URL" in told["detail"]
        assert links.api.get("/tracking").json["public_url"] is None

    def test_server_without_a_key_says_how_to_make_one(self, links, problem):
        links.api.post(f"/tracking/keys/{links.new.key.id}/revoke")
        told = problem(links.api.post("/tracking/rewrite", BODY), 409, "conflict")
        assert "make one" in told["detail"]
        problem(
            links.api.post("/tracking/rewrite", BODY | {"key_id": "00000000"}), 404, "not-found"
        )

    @pytest.mark.parametrize(
        ("changed", "place"),
        [
            ({"decision_ids": []}, "/decision_ids"),
            ({"decision_ids": ["a b"]}, "/decision_ids/0"),
            ({"decision_ids": ["d"] * 6}, "/decision_ids"),
            ({"unsubscribe_mailto": "nobody"}, "/unsubscribe_mailto"),
            ({"html": None}, "/html"),
            ({"more": 1}, "/more"),
        ],
    )
    def test_email_that_does_not_fit_is_told_by_its_place(self, links, problem, changed, place):
        told = problem(links.api.post("/tracking/rewrite", BODY | changed), 422, "invalid")
        assert told["errors"][0]["pointer"] == place

    def test_key_is_made_rotated_and_revoked(self, links, problem):
        api = links.api
        made = api.post("/tracking/keys", {"name": "mailer"})
        assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
        number = made.json["key"]["id"]
        TrackingKey.parse(made.json["text"])
        rotated = api.post(f"/tracking/keys/{number}/rotate")
        assert rotated.json["key"]["name"] == "mailer"
        problem(api.post(f"/tracking/keys/{number}/rotate"), 409, "conflict")
        problem(api.post("/tracking/keys/999/revoke"), 404, "not-found")
        told = api.get("/tracking")
        states = {
            key["id"]: (key["signs"], key["replaced_at"] is None) for key in told.json["keys"]
        }
        assert states[number] == (False, False)
        assert told.json["hosts"] == ["shop.example"]
        for text in (made.json["text"], rotated.json["text"]):
            assert text not in told.text

    def test_hosts_that_do_not_fit_are_told(self, links, problem):
        told = problem(links.api.call("PUT", "/tracking/hosts", {"hosts": ["a b"]}), 422, "invalid")
        assert told["errors"][0]["pointer"] == "/hosts/0"

    @pytest.mark.parametrize(
        ("method", "path", "scope"),
        [
            ("GET", "/tracking", "read"),
            ("PUT", "/tracking/hosts", "manage"),
            ("POST", "/tracking/keys", "manage"),
            ("POST", "/tracking/rewrite", "choose"),
            ("GET", "/tracking/unsubscribes", "read"),
        ],
    )
    def test_each_operation_needs_its_scope(self, links, problem, method, path, scope):
        others = {"choose", "read", "manage", "reward"} - {scope}
        token = links.api.key(*sorted(others))
        told = problem(links.api.call(method, path, token=token), 403, "forbidden")
        assert scope in told["detail"]

    def test_tracking_key_is_no_key_of_the_api(self, links, problem):
        answer = links.api.get("/tracking", token=links.new.text)
        problem(answer, 401, "unauthenticated")


def test_requests_for_links_are_in_the_metrics(links):
    links.client.get(f"/t/{links.token()}")
    links.client.get("/t/x")
    text = links.client.get("/metrics", headers={"Authorization": f"Bearer {links.api.token}"}).text
    assert 'route="/t/<token>",method="GET",status="302"' in text
    assert 'route="/t/<token>",method="GET",status="404"' in text
