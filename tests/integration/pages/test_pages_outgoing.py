"""Pages of what leaves by itself: the mail server, alerts, the outbox, forgotten passwords."""

import io
import re
from collections.abc import Iterator
from threading import Event
from urllib.parse import urlsplit

import pytest

from storage.accounts import Identity
from storage.outgoing import MailSettings, NewNotice
from tests.integration.pages.conftest import PASSWORD
from tests.mail_server import MailServer
from tests.patience import wait_until
from webapp.egress import EgressGuard
from webapp.links.link_views import PUBLIC_URL
from webapp.notices.alert_kinds import ALERT_KINDS, target_alerts
from webapp.notices.outbox_worker import OutboxWorker
from webapp.pages.admin.forgotten_password import reset_requests

ROOT = "https://bandits.shop.example"
ANN = "ann@shop.example"
PHRASE = "seven grey herons wade"


@pytest.fixture
def mails(site, monkeypatch) -> Iterator[MailServer]:
    """A mail server that the application may reach, at an address that it knows of itself."""
    monkeypatch.setitem(site.app.config, PUBLIC_URL, ROOT)
    monkeypatch.setitem(site.app.extensions, "bandits.mail_guard", EgressGuard("127.0.0.0/8"))
    server = MailServer().start()
    yield server
    server.stop()


def fields_of(server: MailServer, password: str, **changed: str) -> dict[str, str]:
    parts = urlsplit(server.url)
    return {
        "host": str(parts.hostname),
        "port": str(parts.port),
        "security": "none",
        "user": "",
        "smtp_password": "",
        "sender": "bandits@shop.example",
        "password": password,
    } | changed


def use(site, server: MailServer) -> None:
    """Make a server that of the workspace."""
    parts = urlsplit(server.url)
    settings = MailSettings(parts.hostname, parts.port, "none", "", "", "bandits@shop.example")
    site.store.outgoing.mail_settings.save(settings, at=0.0, by="test")


def send_all(site) -> int:
    with site.app.app_context():
        reset_requests().settle()
    sender = OutboxWorker(
        site.engine,
        site.accounts,
        site.store.outgoing,
        guard=EgressGuard("127.0.0.0/8"),
        public_url=ROOT,
        stop=Event(),
    )
    try:
        return sender.look()
    finally:
        sender.close()


class TestMailServerPage:
    def test_mail_server_is_saved_and_tried_out_on_oneself(self, site, admin, mails, password):
        answer = admin.post("/settings/email", fields_of(mails, password))
        assert answer.location == "/settings/email"
        answer = admin.post("/settings/email/test")
        assert answer.location == "/settings/email"
        assert [m["Subject"] for m in mails.mails.pop(admin.email)] == ["Test"]
        assert mails.mails == {}
        answer = admin.post("/settings/email/remove")
        assert site.store.outgoing.mail_settings.read() is None
        assert admin.post("/settings/email/test").status_code == 422

    def test_mail_password_is_kept_unless_server_or_user_change(self, site, admin, password, mails):
        def save(**changed):
            admin.post("/settings/email", fields_of(mails, password, **changed))
            return site.store.outgoing.mail_settings.read().password

        assert save(user="ann", smtp_password="secret words") == "secret words"
        assert "secret words" not in admin.get("/settings/email").text
        assert save(user="ann", sender="other@shop.example") == "secret words"
        assert save(user="ann", host="evil.example") == ""

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"host": ""}, "enter a name such as"),
            ({"host": "a b"}, "enter a name such as"),
            ({"port": "0"}, "enter a number from 1 to 65535"),
            ({"port": "65536"}, "enter a number from 1 to 65535"),
            ({"port": "9" * 400}, "enter a number from 1 to 65535"),
            ({"security": "maybe"}, "choose one"),
            ({"sender": "nobody"}, "must be an e-mail address"),
            ({"sender": "a@b\r\nBcc: c@d"}, "must be an e-mail address"),
            ({"password": "wrong"}, "this is not your password"),
        ],
    )
    def test_mail_server_that_does_not_fit_is_not_saved(self, site, admin, changed, error):
        fields = {"host": "mail.example", "port": "25", "security": "none", "user": ""}
        fields |= {"sender": "bandits@shop.example", "password": PASSWORD}
        answer = admin.post("/settings/email", fields | changed)
        assert answer.status_code == 422
        assert error in answer.text
        assert site.store.outgoing.mail_settings.read() is None

    def test_test_mail_says_why_it_was_not_sent(self, site, admin, mails, monkeypatch):
        use(site, mails)
        mails.recipient_answer = "550 no such user"
        answer = admin.post("/settings/email/test")
        assert answer.status_code == 422
        assert "550" in answer.text
        monkeypatch.setitem(site.app.extensions, "bandits.mail_guard", EgressGuard())
        assert "private network" in admin.post("/settings/email/test").text


class TestInvitationByMail:
    def test_invitation_goes_by_mail_and_shows_no_link(self, site, admin, mails):
        use(site, mails)
        answer = admin.post("/settings/people/invitations", {"email": ANN, "role": "viewer"})
        assert answer.location == "/settings/people"
        page = admin.get("/settings/people").text
        assert f"A mail with a link is on its way to {ANN}." in page
        assert "#" not in page.split("<main")[1].split("</main")[0].replace("&#39;", "")
        assert send_all(site) == 1
        text = mails.mails[ANN][0].get_content()
        code = text.partition(f"{ROOT}/invitation#")[2].split()[0]
        taken = {"code": code, "password": PHRASE, "again": PHRASE}
        assert site.visitor().post("/invitation", taken).status_code == 302
        assert site.accounts.user(ANN).role == "viewer"

    def test_invitation_stays_a_link_while_the_address_is_not_known(
        self, site, admin, mails, monkeypatch
    ):
        use(site, mails)
        monkeypatch.setitem(site.app.config, PUBLIC_URL, None)
        answer = admin.post("/settings/people/invitations", {"email": ANN, "role": "viewer"})
        assert 'href="/invitation#' in answer.text
        assert site.store.outgoing.outbox.latest() == []


class TestForgottenPassword:
    def test_forgotten_password_is_set_anew_by_mail(self, site, mails):
        use(site, mails)
        site.add("viewer", ANN)
        visitor = site.visitor()
        assert "Forgot your password?" in visitor.get("/sign-in").text
        answer = visitor.post("/forgotten-password", {"email": " Ann@Shop.example "})
        assert "If there is an account with this address" in answer.text
        assert send_all(site) == 1
        text = mails.mails[ANN][0].get_content()
        code = text.partition(f"{ROOT}/new-password#")[2].split()[0]
        visitor.post("/new-password", {"code": code, "password": PHRASE, "again": PHRASE})
        entered = visitor.post("/sign-in", {"email": ANN, "password": PHRASE})
        assert entered.status_code == 302

    def test_answer_tells_nobody_whether_there_is_an_account(self, site, mails, monkeypatch):
        use(site, mails)
        site.add("viewer", ANN)
        lookups = []
        monkeypatch.setattr(site.accounts, "user", lookups.append)
        with site.app.app_context():
            requests = reset_requests()
        queued = []
        monkeypatch.setattr(requests, "add", lambda _, email: queued.append(email))
        texts = []
        for email in (ANN, "otto@shop.example"):
            answer = site.visitor().post("/forgotten-password", {"email": email})
            texts.append((answer.status_code, answer.text))
        assert texts[0] == texts[1]
        assert queued == [ANN, "otto@shop.example"]
        assert lookups == [], "nothing is looked up before the answer"

    def test_stranger_causes_no_mail(self, site, mails):
        use(site, mails)
        site.visitor().post("/forgotten-password", {"email": "otto@shop.example"})
        assert send_all(site) == 0
        assert site.store.outgoing.outbox.latest() == []

    def test_person_who_signs_in_by_a_provider_alone_gets_no_password(self, site, mails):
        use(site, mails)
        identity = Identity("https://provider.example", "ann")
        site.accounts.add_user(ANN, "", "viewer", at=0.0, by="test", identity=identity)
        site.visitor().post("/forgotten-password", {"email": ANN})
        assert send_all(site) == 0
        assert site.store.outgoing.outbox.latest() == []

    def test_account_gets_three_mails_an_hour_at_most(self, site, mails):
        use(site, mails)
        site.add("viewer", ANN)
        visitor = site.visitor()
        answers = [visitor.post("/forgotten-password", {"email": ANN}) for _ in range(11)]
        assert [a.status_code for a in answers] == [200] * 10 + [429]
        assert len({a.text for a in answers[:10]}) == 1
        assert send_all(site) == 3

    def test_forgotten_password_without_mails_leads_to_an_admin(self, site):
        site.add("viewer", ANN)
        visitor = site.visitor()
        assert "An admin of your team" in visitor.get("/forgotten-password").text
        visitor.post("/forgotten-password", {"email": ANN})
        assert send_all(site) == 0


class TestAlertsPage:
    def add(self, admin, **changed):
        fields = {
            "name": "Team",
            "kind": "webhook",
            "url": "https://hooks.example/T0/private-part",
            "alert": ["winner", "ended"],
            "password": PASSWORD,
        }
        return admin.post("/settings/alerts", fields | changed)

    def test_webhook_is_added_with_a_secret_that_is_shown_once(self, site, admin):
        answer = self.add(admin)
        (target,) = site.store.outgoing.alerts.targets()
        assert target.alerts == {"winner", "ended"}
        assert target.secret in answer.text
        page = admin.get("/settings/alerts").text
        assert "Team" in page
        assert target.secret not in page
        assert "private-part" not in page
        assert "private-part" not in admin.get("/settings/audit-log").text
        admin.post(f"/settings/alerts/{target.id}/test")
        (notice,) = site.store.outgoing.outbox.latest()
        assert notice.target == f"target:{target.id}"
        admin.post(f"/settings/alerts/{target.id}/remove")
        assert site.store.outgoing.alerts.targets() == []

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"name": ""}, "enter a name"),
            ({"kind": "pigeon"}, "choose one"),
            ({"url": "ftp://x.example/"}, "begins with https://"),
            ({"url": "https://u:p@x.example/"}, "begins with https://"),
            ({"url": "https://[x"}, "begins with https://"),
            ({"alert": ["weekly"]}, "choose at least one"),
            ({"password": "wrong"}, "this is not your password"),
        ],
    )
    def test_target_that_does_not_fit_is_not_added(self, site, admin, changed, error):
        answer = self.add(admin, **changed)
        assert answer.status_code == 422
        assert error in answer.text
        assert site.store.outgoing.alerts.targets() == []

    def test_outbox_shows_the_last_error_of_each_notice(self, site, admin):
        outbox = site.store.outgoing.outbox
        content = {"alert": "winner", "subject": "Sale <b> has a winner", "text": "", "path": ""}
        number = site.accounts.user(admin.email).id
        outbox.add([NewNotice("winner:1", f"user:{number}", "alert", content)], at=site.clock())
        outbox.fail(outbox.claim(at=site.clock()), "550 no such user")
        page = admin.get("/settings/alerts").text
        assert "Sale &lt;b&gt; has a winner" in page
        assert re.search(r"Not sent.*550 no such user", page, re.DOTALL)

    @pytest.mark.parametrize("role", ["viewer", "manager", "admin"])
    def test_person_chooses_among_the_alerts_of_the_role(self, site, role):
        visitor = site.visitor(role)
        number = site.accounts.user(visitor.email).id
        page = visitor.get("/settings").text
        offered = set(re.findall(r'name="alert" value="(\w+)"', page))
        assert ("connection_failing" in offered) == (role == "admin")
        assert ("file_ready" in offered) == (role != "viewer")
        visitor.post("/settings/alerts/own", {"alert": [*ALERT_KINDS, "bogus"]})
        assert site.store.outgoing.alerts.choices(number) == offered
        visitor.post("/settings/alerts/own", {})
        assert site.store.outgoing.alerts.choices(number) == frozenset()


@pytest.fixture
def upload_choices(site):
    """Upload a list of recipients, and wait until somebody is told how it ended."""

    def upload(visitor, content: bytes) -> None:
        site.make()
        sent = {"kind": "recipients", "file": (io.BytesIO(content), "list.csv")}
        sent["csrf_token"] = visitor.token
        address = visitor.client.post("/experiments/sale/files", data=sent).location
        began = visitor.post(address, visitor.form(address, "who"))
        assert began.status_code == 302, began.text
        wait_until(site.store.outgoing.outbox.latest, "notice of the file")

    return upload


class TestFileAlerts:
    def test_uploader_is_told_that_a_file_is_ready(self, site, manager, upload_choices):
        site.add("manager", "other@shop.example")
        for user in site.accounts.users():
            site.store.outgoing.alerts.choose(user.id, ["file_ready"], at=0.0)
        upload_choices(manager, b"subject_id\nu-1\nu-2\n")
        (notice,) = site.store.outgoing.outbox.latest()
        assert notice.target == f"user:{site.accounts.user(manager.email).id}"
        assert notice.content["subject"] == "list.csv is ready"
        assert manager.get(notice.content["path"]).status_code == 200

    def test_uploader_is_told_that_a_file_has_failed(self, site, manager, upload_choices):
        for user in site.accounts.users():
            site.store.outgoing.alerts.choose(user.id, ["file_failed"], at=0.0)
        upload_choices(manager, b'subject_id\n""\n')
        (notice,) = site.store.outgoing.outbox.latest()
        assert notice.content["subject"] == "list.csv has failed"


def test_targets_are_told_of_no_weekly_summary():
    assert set(ALERT_KINDS) - set(target_alerts()) == {"weekly"}


class TestWorkspaceName:
    def test_workspace_name_is_on_every_page_and_in_mails(self, site, admin, mails):
        use(site, mails)
        assert "<title>Workspace · Bandits</title>" in admin.get("/settings/workspace").text
        admin.post("/settings/workspace", {"name": "  Flowers & <Co>  "})
        shown = "Flowers &amp; &lt;Co&gt;"
        assert f"· {shown}</title>" in admin.get("/").text
        assert re.search(rf'class="brand".*?{shown}', admin.get("/").text, re.DOTALL)
        page = site.visitor().get("/invitation").text
        assert f"You are invited to {shown}." in page
        assert "Bandits" not in page
        admin.post("/settings/email/test")
        (mail,) = mails.mails[admin.email]
        assert mail["From"].addresses[0].display_name == "Flowers & <Co>"
        admin.post("/settings/workspace", {"name": ""})
        assert "· Bandits</title>" in admin.get("/").text

    def test_workspace_name_that_does_not_fit_is_not_saved(self, site, admin):
        for name in ("x" * 41, "a\u202eb"):
            assert admin.post("/settings/workspace", {"name": name}).status_code == 422
        assert site.store.outgoing.workspace.name() == "Bandits"
