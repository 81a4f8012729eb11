"""The audit log's page and its export."""

import ast
import csv
import io
from pathlib import Path

import pytest

import storage
from webapp.pages.experiment.history import TITLES


@pytest.fixture
def changed(site):
    """What was changed by two people, at three times."""
    site.make()
    site.clock.now += 86_400
    new_key = site.accounts.keys.create("=1+1", ["choose"], at=site.clock(), by="otto@shop.example")
    site.clock.now += 86_400
    site.accounts.keys.revoke(new_key.key.id, at=site.clock(), by="otto@shop.example")
    return new_key.key


def test_audit_log_lists_every_change_with_before_and_after(site, admin, changed):
    site.accounts.set_role(admin.email, "manager", at=site.clock(), by="cli")
    site.accounts.set_role(admin.email, "admin", at=site.clock(), by="cli")
    page = admin.get("/settings/audit-log").text
    assert "Draft → Running" in page
    assert "<del>manager</del> → <ins>admin</ins>" in page
    assert 'href="/experiments/sale/history"' in page
    assert page.index("Role changed") < page.index("Revoked") < page.index("Draft → Running")


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("kind=key", "Revoked", "Draft → Running"),
        ("kind=experiment", "Draft → Running", "Revoked"),
        ("by=otto%40shop.example", "Revoked", "Created as a draft"),
        ("q=SALE", "Created as a draft", "Revoked"),
        ("since=2027-01-17", "Revoked", "<strong>Made"),
        ("until=2027-01-15", "Created as a draft", "<strong>Made"),
        ("since=nonsense&kind=nonsense", "Revoked", "Nothing fits"),
        ("q=nothing+like+it", "Nothing fits this search", "<li>\n      <p>"),
    ],
)
def test_audit_log_is_searched(admin, changed, query, shown, hidden):
    page = admin.get(f"/settings/audit-log?{query}").text
    assert shown in page
    assert hidden not in page


def test_audit_log_is_read_page_by_page_and_keeps_the_search(site, admin):
    for i in range(60):
        site.accounts.keys.create(f"key {i}", ["read"], at=site.clock(), by="cli")
    first = admin.get("/settings/audit-log?kind=key").text
    assert first.count("<strong>Made</strong>") == 50
    link = first.split("Earlier</a>")[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    assert "kind=key" in link
    rest = admin.get(link).text
    assert rest.count("<strong>Made</strong>") == 10
    assert "Earlier</a>" not in rest
    assert "Newest</a>" in rest


def test_the_export_holds_what_the_search_finds_and_no_formula(site, admin, changed):
    site.accounts.set_role(admin.email, "viewer", at=site.clock(), by="=cmd()")
    site.accounts.set_role(admin.email, "admin", at=site.clock(), by="cli")
    every = list(csv.DictReader(io.StringIO(admin.get("/settings/audit-log.csv").text)))
    assert len(every) == len(site.accounts.changes())
    assert every[1]["by"] == "'=cmd()"
    assert (every[1]["before"], every[1]["after"]) == ('{"role":"admin"}', '{"role":"viewer"}')
    keys = admin.get("/settings/audit-log.csv?kind=key").text
    assert [row["action"] for row in csv.DictReader(io.StringIO(keys))] == ["revoke", "create"]


def test_a_draft_that_ended_is_found_by_its_name_with_what_was_typed(site, admin):
    fields = admin.form("/new-experiment", "base") | {"name": "Never sent", "do": "close"}
    admin.post("/new-experiment", fields)
    (draft,) = site.store.drafts.all()
    admin.post(f"/drafts/{draft.id}/discard")
    page = admin.get("/settings/audit-log?kind=draft").text
    assert "Draft “Never sent”" in page
    assert "<del>Never sent</del>" in page
    assert page.count("<li>\n      <p>") == 1
    assert "<span>exclude</span>" not in page, "fields in which nothing was typed are left out"


def test_every_action_that_the_store_writes_has_words():
    """Read the store's own calls, so that a new action needs words before it is seen."""
    written = set()
    for path in Path(storage.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            called = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
            if called == "record_change":
                action, subject = call.args[1:3]
                kind = "user"  # where the subject is a name of its own
                if isinstance(subject, ast.JoinedStr):
                    kind = subject.values[0].value.rstrip(":")
                if isinstance(action, ast.Constant):
                    written.add((kind, action.value))
            elif called == "_change_user":
                written.add(("user", call.args[2].value))
    assert {("key", "rotate"), ("experiment", "erase"), ("user", "set role")} <= written
    assert {w for w in written if w not in TITLES and w != ("experiment", "move")} == set()


def test_a_key_is_called_by_its_name_where_it_changed_something(site, admin):
    new_key = site.accounts.keys.create("Mailer", ["manage"], at=site.clock(), by="cli")
    site.accounts.set_role(admin.email, "admin", at=site.clock(), by=f"key:{new_key.key.id}")
    page = admin.get("/settings/audit-log").text
    assert "by the API key “Mailer”" in page
    assert f'<option value="key:{new_key.key.id}">the API key “Mailer”</option>' in page
