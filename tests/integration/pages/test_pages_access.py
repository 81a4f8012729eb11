"""Who may see and do what, and how one signs in."""

import re

import pytest

NEEDS = {
    "workspace": "admin",
    "rename_workspace": "admin",
    "send_test_alert": "admin",
    "send_test_email": "admin",
    "send_reset_link": None,
    "save_email": "admin",
    "remove_email": "admin",
    "remove_alert_target": "admin",
    "forgotten_password": None,
    "email": "admin",
    "choose_alerts": "viewer",
    "alerts": "admin",
    "add_alert_target": "admin",
    "accept_invitation": None,
    "account": "viewer",
    "add_person": "admin",
    "add_upload": "manager",
    "all_segments": "viewer",
    "answer_csv": "manager",
    "api_keys": "manager",
    "audit_log": "admin",
    "audit_log_csv": "admin",
    "change_connection": "admin",
    "change_link_hosts": "admin",
    "change_password": "viewer",
    "change_role": "admin",
    "check_connection": "admin",
    "clone_experiment": "manager",
    "confirm_delete_connection": "admin",
    "confirm_discard": "manager",
    "confirm_revoke_tracking_key": "admin",
    "confirm_rotate_connection": "admin",
    "confirm_rotate_tracking_key": "admin",
    "connect_provider": None,
    "connection": "admin",
    "connections": "admin",
    "codes": "viewer",
    "confirm_remove_person": "admin",
    "confirm_guardrail_undo": "manager",
    "confirm_restore": "admin",
    "confirm_revoke_key": "manager",
    "confirm_rotate_key": "manager",
    "confirm_ship": "manager",
    "confirm_step": "manager",
    "confirm_stop": "manager",
    "create_connection": "admin",
    "create_draft": "manager",
    "create_edit_draft": "manager",
    "create_experiment": "manager",
    "create_first_account": None,
    "set_aside": "viewer",
    "set_aside_csv": "viewer",
    "create_key": "manager",
    "create_sample": "manager",
    "create_tracking_key": "admin",
    "decision": "viewer",
    "decisions": "viewer",
    "delete_connection": "admin",
    "discard_draft": "manager",
    "draft_step": "manager",
    "edit": "manager",
    "end_other_sessions": "viewer",
    "end_session": "viewer",
    "events_csv": "viewer",
    "experiment": "viewer",
    "experiments": "viewer",
    "files": "manager",
    "finish_provider_sign_in": None,
    "health_csv": "viewer",
    "history": "viewer",
    "history_csv": "viewer",
    "invitation": None,
    "invite_person": "admin",
    "latest_decisions": "viewer",
    "live_results": "viewer",
    "make_reset_link": "admin",
    "new_connection": "admin",
    "new_experiment": "manager",
    "new_password": None,
    "one_page_form": "manager",
    "parts_csv": "viewer",
    "pause_connection": "admin",
    "people": "admin",
    "plan_csv": "manager",
    "plotly_script": None,
    "preview": "viewer",
    "preview_void": "admin",
    "refused_event": "admin",
    "remove_person": "admin",
    "remove_upload": "manager",
    "renew_invitation": "admin",
    "report_csv": "manager",
    "replay_refused_event": "admin",
    "reset_columns": "manager",
    "report_upload_sent": "manager",
    "reset_password": "admin",
    "reset_password_form": "admin",
    "restore_void": "admin",
    "undo_guardrail": "manager",
    "resume_connection": "admin",
    "results_csv": "viewer",
    "results_json": "viewer",
    "revoke_key": "manager",
    "revoke_tracking_key": "admin",
    "rotate_connection_secrets": "admin",
    "rotate_key": "manager",
    "rotate_tracking_key": "admin",
    "save_draft_step": "manager",
    "save_edit": "manager",
    "segments": "viewer",
    "segments_csv": "viewer",
    "set_new_password": None,
    "set_theme": None,
    "set_up": None,
    "setup": "viewer",
    "ship_arm": "manager",
    "sign_in": None,
    "sign_out": "viewer",
    "start_provider_sign_in": None,
    "start_upload": "manager",
    "stop": "manager",
    "stop_experiment": "manager",
    "subject_decisions": "viewer",
    "submit_code": None,
    "submit_sign_in": None,
    "take_step": "manager",
    "tracked_links": "admin",
    "turn_off_codes": "viewer",
    "turn_on_codes": "viewer",
    "typed_preview": "manager",
    "upload": "manager",
    "variant_preview": "viewer",
    "void_deeds": "admin",
    "voids": "admin",
    "withdraw_invitation": "admin",
    "cancel_waves": "manager",
    "move_waves": "manager",
    "plan_waves": "manager",
    "prepare_wave_now": "manager",
    "report_wave": "manager",
    "wave_csv": "manager",
    "what_if": "viewer",
}
RANKS = [None, "viewer", "manager", "admin"]
PARTS = {
    "key": "sale",
    "connection_key": "mailer",
    "kind": "sendgrid",
    "refusal_id": 1,
    "arm": 1,
    "name": "pause",
    "decision_id": "d-1",
    "draft_id": "none",
    "step": "parts",
    "slot": 0,
    "variant": 0,
    "key_id": 1,
    "key_number": 1,
    "number": 1,
    "session_id": 1,
    "upload_id": "0123456789abcdef",
    "user_id": 999,
    "version": "0",
}


def actions(site):
    """Every page and action: endpoint, method, address."""
    rules = [r for r in site.app.url_map.iter_rules() if r.endpoint.startswith("pages.")]
    with site.app.test_request_context():
        adapter = site.app.url_map.bind("localhost")
        for rule in rules:
            address = adapter.build(rule.endpoint, {a: PARTS[a] for a in rule.arguments})
            for method in sorted(rule.methods & {"GET", "POST"}):
                yield rule.endpoint.removeprefix("pages."), method, address


def test_every_page_says_who_it_is_for(site):
    needs = {
        endpoint.removeprefix("pages."): view.needs
        for endpoint, view in site.app.view_functions.items()
        if endpoint.startswith("pages.")
    }
    assert needs == NEEDS


@pytest.mark.parametrize("role", RANKS)
def test_pages_above_a_role_are_refused(site, role):
    site.make()
    site.add("viewer", "anna@shop.example")
    visitor = site.visitor(role)
    token = visitor.token
    for endpoint, method, address in actions(site):
        refused = RANKS.index(NEEDS[endpoint]) > RANKS.index(role)
        if endpoint in {"sign_out", "submit_sign_in"}:
            continue  # they end the session; tested below
        sent = {"csrf_token": token} if method == "POST" else None
        status = visitor.client.open(address, method=method, data=sent).status_code
        if role is None and NEEDS[endpoint] is not None:
            assert status == (302 if method == "GET" else 401), (endpoint, method)
        elif refused:
            assert status == 403, (endpoint, method)
        else:
            assert status not in {401, 403, 500}, (endpoint, method, status)


def test_number_that_no_row_has_is_no_failure_of_ours(site):
    site.make()
    admin = site.visitor("admin")
    rules = [r for r in site.app.url_map.iter_rules() if r.endpoint.startswith("pages.")]
    numbered = [r for r in rules if "<int" in r.rule]
    assert len(numbered) > 10
    for rule in numbered:
        address = re.sub(r"<int[^>]*>", str(2**63), re.sub(r"<key:[^>]*>", "sale", rule.rule))
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            sent = {"csrf_token": admin.token} if method == "POST" else None
            answer = admin.client.open(address, method=method, data=sent)
            assert answer.status_code in {404, 405}, (rule.rule, method)
    for page in ("/experiments/sale/history", "/settings/audit-log"):
        assert admin.get(f"{page}?before={2**63}").status_code == 200


def test_a_form_without_our_token_changes_nothing(site, admin):
    site.make()
    before = site.accounts.changes()
    posts = [a for a in actions(site) if a[1] == "POST"]
    assert len(posts) > 10
    for endpoint, _, address in posts:
        answer = admin.client.post(address, data={"name": "x", "scopes": "manage"})
        assert answer.status_code == 400, endpoint
        assert "opened before you signed in" in answer.text
    assert site.accounts.changes() == before


def test_a_token_of_another_session_does_not_count(site, admin):
    stranger = site.visitor("viewer")
    answer = admin.client.post("/sign-out", data={"csrf_token": stranger.token})
    assert answer.status_code == 400


def test_first_visitor_learns_how_to_make_an_account(site):
    visitor = site.visitor()
    assert visitor.get("/").location == "/sign-in?next=/"
    page = visitor.get("/sign-in")
    assert "bandits user add you@example.com --role admin" in page.text
    assert "Restart it: it prints a new one." in page.text
    assert 'name="password"' not in page.text
    site.accounts.links.create_set_up(at=site.clock(), by="server")
    page = visitor.get("/sign-in")
    assert "Open the link that the server printed when it started." in page.text
    assert "16 Jan 2027, 08:00 UTC" in page.text
    site.clock.now += 86_400
    assert "set-up link has ended. Restart the server" in visitor.get("/sign-in").text


def test_sign_in_leads_to_the_page_that_was_asked_for(site, password):
    site.add("viewer", "anna@shop.example")
    site.make()
    visitor = site.visitor()
    redirect = visitor.get("/experiments/sale?tab=1")
    fields = visitor.form(redirect.location, "password")
    answer = visitor.post(
        "/sign-in", fields | {"email": "Anna@Shop.example ", "password": password}
    )
    assert (answer.status_code, answer.location) == (302, "/experiments/sale?tab=1")
    assert "Spring sale" in visitor.get(answer.location).text


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example/",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:x",
    ],
)
def test_sign_in_never_leads_to_another_site(site, password, address):
    site.add("viewer", "anna@shop.example")
    visitor = site.visitor()
    sent = {"email": "anna@shop.example", "password": password, "next": address}
    assert visitor.post("/sign-in", sent).location == "/"


def test_a_wrong_password_and_an_unknown_address_are_answered_alike(site, password):
    site.add("viewer", "anna@shop.example")
    visitor = site.visitor()
    wrong = visitor.post("/sign-in", {"email": "anna@shop.example", "password": "wrong"})
    unknown = visitor.post("/sign-in", {"email": "otto@shop.example", "password": password})
    assert wrong.status_code == unknown.status_code == 422
    assert "Wrong email or password." in wrong.text
    assert 'value="anna@shop.example"' in wrong.text, "what was typed is kept"
    token = re.compile(r'name="csrf_token" value="[^"]+"')
    alike = token.sub("", unknown.text.replace("otto", "anna"))
    assert alike == token.sub("", wrong.text)


def test_password_guesses_are_slowed_down_and_other_accounts_are_not(site, password):
    site.add("viewer", "anna@shop.example")
    site.add("viewer", "otto@shop.example")
    visitor = site.visitor()
    guess = {"email": "anna@shop.example", "password": "wrong"}
    statuses = [visitor.post("/sign-in", guess).status_code for _ in range(12)]
    assert statuses == [422] * 10 + [429] * 2
    right = {"email": "ANNA@shop.example", "password": password}
    refused = visitor.post("/sign-in", right)
    assert refused.status_code == 429, "the right one does not help now"
    assert refused.headers["Retry-After"] == "60"
    other = {"email": "otto@shop.example", "password": password}
    assert visitor.post("/sign-in", other).status_code == 302


def test_sign_out_ends_the_session(site, manager):
    answer = manager.post("/sign-out")
    assert answer.location == "/sign-in"
    assert manager.get("/").status_code == 302


def test_user_removed_or_with_a_new_password_is_signed_out(site, manager, viewer):
    site.accounts.remove_user(viewer.email, at=site.clock(), by="test")
    assert viewer.get("/").status_code == 302
    site.accounts.set_password(manager.email, "$argon2id$other", at=site.clock(), by="test")
    assert manager.get("/").status_code == 302


def test_a_changed_role_holds_at_once(site, manager):
    assert manager.get("/new-experiment").status_code == 200
    site.accounts.set_role(manager.email, "viewer", at=site.clock(), by="test")
    assert manager.get("/new-experiment").status_code == 403


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(site, password, monkeypatch):
    site.add("viewer", "anna@shop.example")
    monkeypatch.setitem(site.app.config, "SESSION_COOKIE_SECURE", value=True)
    visitor = site.visitor()
    page = visitor.get("/sign-in", base_url="https://localhost")
    token = re.search('name="csrf_token" value="([^"]+)"', page.text)[1]
    answer = visitor.client.post(
        "/sign-in",
        data={"email": "anna@shop.example", "password": password, "csrf_token": token},
        base_url="https://localhost",
        headers={"Referer": "https://localhost/sign-in"},
    )
    cookie = answer.headers["Set-Cookie"]
    for flag in ("Secure", "HttpOnly", "SameSite=Lax"):
        assert flag in cookie
    assert "max-age" in answer.headers["Strict-Transport-Security"]


def test_form_typed_while_signed_out_is_sent_on_after_sign_in(site, password, read_form):
    site.add("manager", "anna@shop.example")
    visitor = site.visitor()
    typed = {"name": "Half a day's work", "do": "save", "slots/0/kind": "content"}
    lost = visitor.post("/new-experiment", typed, headers={"Sec-Fetch-Site": "same-origin"})
    assert lost.status_code == 401
    fields = read_form(lost.text, "password").fields
    fields |= {"email": "anna@shop.example", "password": password}
    on = visitor.client.post("/sign-in", data=fields)
    assert on.status_code == 200
    carried = read_form(on.text, "name").fields
    assert 'action="/new-experiment"' in on.text
    assert {k: carried[k] for k in typed} == typed
    saved = visitor.client.post("/new-experiment", data=carried)
    assert saved.status_code == 422
    assert "Half a day&#39;s work" in saved.text


def test_form_of_another_site_is_not_sent_on(site):
    site.add("manager", "anna@shop.example")
    visitor = site.visitor()
    sent = {"name": "planted"}
    answer = visitor.client.post(
        "/new-experiment", data=sent, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status_code == 401
    assert "planted" not in answer.text


def test_script_request_is_told_to_sign_in_again(site):
    site.make()
    site.add("viewer")
    answer = site.visitor().get("/experiments/sale/live", headers={"X-Requested-With": "fetch"})
    assert answer.status_code == 401


def test_headers_tell_browsers_what_pages_never_need(site, manager):
    policy = manager.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self';" in policy
    assert "'unsafe-eval'" not in policy
    assert "style-src 'self' 'sha256" in policy
    headers = manager.get("/").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_no_page_has_script_or_style_of_its_own_inside(site, admin):
    site.make()
    decision = site.send("sale", 1)[0]
    for address in (
        "/",
        "/new-experiment",
        "/experiments/sale",
        "/experiments/sale/setup",
        "/experiments/sale/history",
        "/experiments/sale/edit",
        "/experiments/sale/stop",
        f"/decisions/{decision.decision_id}",
        "/settings/keys",
        "/settings/people",
        "/sign-in",
        "/nothing",
    ):
        text = admin.get(address).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", text)
