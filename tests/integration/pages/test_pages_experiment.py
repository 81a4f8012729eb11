"""The list of campaigns, and an experiment's pages through its life."""

import csv
import io
import re
from datetime import UTC, datetime

import msgspec
import pytest
from plotly.graph_objects import Figure

from bandits.actors import actor_of

HOSTILE = "</script><script>alert(1)</script>"
MARK = re.compile(r"<script>alert|<img src=x|<svg/onload")


def words(html):
    """The text of a page, as a reader sees it."""
    text = re.sub(r"<(script|style|head).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).replace("\u202f", " ").split())


def rows(html, title):
    """The cells of the table that follows `title`, row by row."""
    table = html.split(title, 1)[1].split("<table", 1)[1].split("</table>")[0]
    return [
        [words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    ]


def clicked(decision):
    """Everybody clicks who is asked a question."""
    return decision.slots["subject_line"]["variant"] == "b"


def test_an_empty_list_invites_who_may_and_tells_who_may_not(manager, viewer):
    assert "Create a campaign" in manager.get("/").text
    assert "Create a campaign" not in viewer.get("/").text
    assert "A manager of your team can create one" in viewer.get("/").text


def test_the_list_shows_state_sends_and_gain(site, viewer):
    site.make()
    site.make(start=False, key="draft", name="Later")
    site.send("sale", 200, clicked)
    site.engine.choose("sale", [])
    (_, later, sale) = rows(viewer.get("/").text, "Campaigns")
    assert later[0].startswith("Later")
    assert later[1:] == ["Draft", "Check the set-up, then start.", "0", "–", "–", "–"]
    assert sale[0].startswith("Spring sale")
    assert sale[1] == "Running"
    assert sale[3:5] == ["200", "0 %"]
    gain = site.engine.results("sale").gain.over_equal_split
    assert ("not yet measurable" in sale[5]) == (not gain.measurable)
    started = datetime.fromtimestamp(site.clock.now - 11, UTC)
    assert sale[6] == f"{started:%-d %b %Y, %H:%M} UTC"


def test_the_list_is_searched_and_filtered(site, viewer):
    site.make()
    site.make(start=False, key="winter", name="Snow & ice")
    site.make(start=False, key="old", name="Old")
    site.engine.archive("old", by="test")

    def shown(query):
        html = viewer.get(f"/{query}").text
        return {k for k in ("sale", "winter", "old") if f'href="/experiments/{k}"' in html}

    assert shown("") == {"sale", "winter"}, "archived ones are out of sight"
    assert shown("?q=SPRING") == {"sale"}
    assert shown("?q=snow+%26") == {"winter"}
    assert shown("?state=draft") == {"winter"}
    assert shown("?state=archived") == {"old"}
    assert shown("?state=running&q=snow") == set()
    assert "No campaign matches" in viewer.get("/?q=nothing").text
    assert 'value="&lt;b&gt;"' in viewer.get("/?q=<b>").text


def test_each_state_is_told_in_words_with_the_next_step(site, manager):
    site.make(start=False)

    def told():
        return words(manager.get("/experiments/sale").text)

    assert "Not started" in told()
    assert "6 versions of the email" in told()
    site.engine.start("sale", by="test")
    assert "No recipients yet. Upload a list or connect your mailer." in told()
    site.engine.choose("sale", [])
    decisions = site.send("sale", 0)
    assert decisions == []
    site.engine.choose("sale", [msgspec.convert({"subject_id": "u"}, type=_request())])
    site.engine.learn("sale")
    assert "1 email sent. No results are final yet." in told()
    assert "Results can change until 1000 seconds after an email was sent." in told()
    site.send("sale", 500, clicked)
    assert "501 emails sent. No results are final yet." in told()
    site.engine.pause("sale", by="test")
    assert "requests are refused until you resume" in told()
    site.engine.stop("sale", by="test")
    assert "Stopped after 501 emails" in told()


def _request():
    from bandits.schemas import Request  # noqa: PLC0415 - of this test alone

    return Request


def test_equal_shares_name_no_version_and_no_page_names_a_winner(site, viewer):
    site.make(policy={"name": "uniform"})
    site.send("sale", 300, clicked)
    text = words(viewer.get("/experiments/sale").text)
    assert "No results are final yet" in text
    for claim in ("winner", "wins", "significant", "beats"):
        assert claim not in text.lower()


def test_results_tables_show_what_the_engine_says(site, viewer):
    site.make()
    site.send("sale", 400, clicked)
    results = site.engine.results("sale")
    page = viewer.get("/experiments/sale").text
    head, *table = rows(page, "Click rate by version")
    assert head[:5] == ["Version", "Sent", "Final", "Share now", "Click rate"]
    assert head[-1].startswith("Against control")
    held = results.holdout
    assert table[-1][1:3] == [f"{held.sent:,}", f"{results.events[0].holdout.closed:,}"]
    _, *others = rows(page, 'data-live="others"')
    assert len(table) + len(others) == 7, "six versions and the control group"
    assert len(table) in {4, 5}, "three at once, the control, and the control group"
    table += others
    by_name = {row[0].removesuffix(" control"): row for row in table}
    for arm in results.arms:
        row = by_name[_name(arm)]
        assert row[1:3] == [f"{arm.sent:,}", f"{arm.closed:,}"]
        assert row[3] == f"{100 * arm.share_now:.1f} %"
        assert f"{100 * arm.mean:.1f} % so far (simple average)" in row[4]
        assert row[0].endswith("control") == arm.control
    part = rows(page, 'data-live="parts"')
    question = [a for a in results.arms if a.variants["subject_line"] == "b"]
    assert part[3][1] == f"{sum(a.sent for a in question):,}"


def test_rewards_that_are_no_rate_are_shown_as_amounts(site, viewer):
    rule = {
        "metrics": {"order": {"weight": 1.0, "count": "sum", "high": 500.0}},
        "window_seconds": 1000.0,
        "maturity_seconds": 10.0,
    }
    site.make(reward=rule, policy={"name": "thompson_gaussian"})
    site.send("sale", 50)
    page = viewer.get("/experiments/sale").text
    head, *_ = rows(page, "Order per email by version")
    assert head[4] == "Order per email"
    assert "percentage points" not in words(page)


def test_live_answer_moves_and_is_not_modified_while_nothing_does(site, viewer):
    site.make()
    site.send("sale", 100, clicked)
    first = viewer.get("/experiments/sale/live")
    again = viewer.get("/experiments/sale/live", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    site.send("sale", 100, clicked)
    after = viewer.get("/experiments/sale/live", headers={"If-None-Match": first.headers["ETag"]})
    assert after.status_code == 200
    assert "200" in words(after.json["parts"]["summary"])
    page = viewer.get("/experiments/sale").text
    for name, part in after.json["parts"].items():
        assert f'data-live="{name}"' in page
        assert part.strip() in page, "the page starts as the live answer goes on"


def test_campaign_before_its_first_email_lists_versions_and_has_no_empty_table(site, viewer):
    site.make()
    page = viewer.get("/experiments/sale").text
    assert 'class="results"' not in page.split('data-live="parts"')[0]
    assert page.count('class="chart empty"') == 2
    assert "Each has a share of 16.7 % at first." in words(page)
    site.send("sale", 60, clicked)
    assert 'class="chart empty"' not in viewer.get("/experiments/sale").text


def test_narrow_charts_have_a_legend_of_their_versions(site, viewer):
    site.make(slots=[{"key": "s", "variants": [{"key": f"v{i}"} for i in range(14)]}],
              exclude=[], control={})  # fmt: skip
    site.send("sale", 600, clicked_never)
    live = viewer.get("/experiments/sale/live").json
    names = re.findall(r"</span>([^<]+)</li>", live["parts"]["shares_legend"])
    assert names == [trace["meta"] for trace in live["charts"]["shares"]["data"]]
    assert names[-1] == "3 others"
    swatches = re.findall(r'class="swatch ([^"]+)"', live["parts"]["shares_legend"])
    assert len(set(swatches)) == len(names), "each looks different"
    assert swatches[-1] == "grey pattern-3"


def clicked_never(_decision):
    """Nobody clicks."""
    return False


def test_charts_are_plotly_figures_of_shares_and_averages(site, viewer):
    site.make()
    for _ in range(3):
        site.send("sale", 300, clicked)
    charts = viewer.get("/experiments/sale/live").json["charts"]
    for figure in charts.values():
        Figure(figure)  # raises where Plotly would not understand it
    shares = charts["shares"]["data"]
    assert shares[0]["meta"] == "Plain · hero · 0 % off"
    assert len(shares) == 6
    for point in range(3):
        assert sum(t["y"][point] for t in shares) == pytest.approx(1, abs=1e-3)
    results = site.engine.results("sale")
    for trace in charts["rewards"]["data"]:
        (arm,) = [a for a in results.arms if trace["meta"] == _name(a)]
        assert trace["y"][-1] == pytest.approx(arm.mean, abs=1e-6)
    assert charts["rewards"]["layout"]["yaxis"]["range"][0] == 0


def _name(arm):
    subject = {"a": "Plain", "b": "What would you like?"}[arm.variants["subject_line"]]
    discount = {"d0": "0 % off", "d10": "10 % off"}[arm.variants["discount"]]
    return f"{subject} · {arm.variants['content']} · {discount}"


def test_each_chart_is_a_table_too(site, viewer):
    site.make()
    site.send("sale", 300, clicked)
    head, row = rows(viewer.get("/experiments/sale").text, "Share of sends, as a table")
    assert head[0] == "Until"
    assert len(head) == len(row) == 7
    total = sum(float(cell.removesuffix(" %")) for cell in row[1:])
    assert total == pytest.approx(100, abs=0.5)


def test_tables_and_charts_are_exported(site, viewer):
    site.make()
    site.send("sale", 200, clicked)
    answer = viewer.get("/experiments/sale/results.csv")
    assert answer.mimetype == "text/csv"
    assert 'filename="sale-results.csv"' in answer.headers["Content-Disposition"]
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(table) == 6
    assert sum(int(row["sent"]) for row in table) == sum(
        a.sent for a in site.engine.results("sale").arms
    )
    history = list(csv.DictReader(io.StringIO(viewer.get("/experiments/sale/history.csv").text)))
    assert len(history) == 6
    assert {row["learned_version"] for row in history} == {"1"}
    assert sum(float(row["share"]) for row in history) == pytest.approx(1)
    for row in history:  # as the chart: none before there are 30 results
        few = int(row["complete"]) < 30
        mean = "" if few else float(row["reward"]) / int(row["complete"])
        assert row["average"] == mean if few else float(row["average"]) == pytest.approx(mean)


def test_every_table_with_figures_is_a_picture_as_well(site, viewer):
    site.make()
    site.send("sale", 200, clicked)
    charts = viewer.get("/experiments/sale/live").json["charts"]
    assert set(charts) == {"shares", "rewards", "versions", "parts", "health"}
    (checks,) = charts["health"]["data"]
    shown = words(viewer.get("/experiments/sale").text)
    titles, states, sentences = checks["cells"]["values"]
    for title, state, sentence in zip(titles, states, sentences, strict=True):
        assert f"{title} ({state}) {sentence}".replace("\u202f", " ") in shown


def test_no_cell_of_any_export_is_a_formula(site, admin):
    """Every address that ends in .csv and needs no more than a campaign's key."""
    evil = {"key": "s", "name": "+1"} | {
        "variants": [{"key": "a", "name": "=HYPERLINK(1)"}, {"key": "b", "name": "@x"}]
    }
    context = [{"name": "c", "kind": "category", "values": ["-x", "=y"]}]
    site.make(slots=[evil], exclude=[], control={}, context=context)
    site.send("sale", 10)
    site.engine.stop("sale", by="=cmd()")
    rules = [r for r in site.app.url_map.iter_rules() if r.rule.endswith(".csv")]
    reached = [r for r in rules if r.arguments <= {"key"}]
    assert {r.endpoint for r in rules} - {r.endpoint for r in reached} == {
        # A file of recipients and what does not fit of it; words of ours and numbers.
        *("pages.answer_csv", "pages.report_csv", "pages.plan_csv", "pages.wave_csv")
    }
    escaped = set()
    for rule in reached:
        answer = admin.get(rule.rule.replace("<key:key>", "sale"))
        for row in csv.reader(io.StringIO(answer.text)):
            escaped |= {cell for cell in row if cell.startswith("'")}
            started = [cell for cell in row if cell.startswith(("=", "+", "-", "@"))]
            assert [cell for cell in started if not is_number(cell)] == [], rule.rule
    assert {"'=HYPERLINK(1)", "'@x", "'+1", "'-x", "'=cmd()"} <= escaped


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_lifecycle_is_confirmed_step_by_step(site, manager):
    site.make(start=False)
    life = [
        ("start", "running", "From now on your sender gets a version"),
        ("pause", "paused", "requests are refused until you resume"),
        ("resume", "running", "Nothing that was learned is lost"),
        ("stop", "stopped", "cannot be started again"),
        ("archive", "archived", "It leaves the list"),
    ]
    for step, state, sentence in life:
        assert f'href="/experiments/sale/{step}"' in manager.get("/experiments/sale").text
        question = manager.get(f"/experiments/sale/{'stop/nothing' if step == 'stop' else step}")
        assert sentence in words(question.text)
        assert ("cannot be undone" in question.text) == (step in {"stop", "archive"})
        assert site.store.experiments.record("sale").state != state, "asking does nothing"
        answer = manager.post(f"/experiments/sale/{step}")
        assert answer.location == "/experiments/sale"
        assert site.store.experiments.record("sale").state == state
    text = words(manager.get("/experiments/sale/history").text)
    assert re.search("Stopped → Archived.*Running → Stopped.*Draft → Running.*Created", text)
    assert f"by {manager.email}" in text


def test_buttons_are_short_and_name_the_experiment_to_screen_readers(site, manager):
    name = "Spring sale for returning customers in the north-west region, second reminder"
    site.make(start=False, name=name)
    for step in ("start", "pause", "resume"):
        page = manager.get(f"/experiments/sale/{step}").text
        (button,) = re.findall(r'<button class="button primary">(.*?)</button>', page, re.DOTALL)
        label = f"{step.title()} the campaign"
        assert words(re.sub(r'<span class="visually-hidden">.*?</span>', "", button)) == label
        assert words(button) == f"{label} {name}"
        manager.post(f"/experiments/sale/{step}")


@pytest.mark.parametrize(
    ("state", "step"),
    [("draft", "pause"), ("draft", "resume"), ("draft", "stop"), ("running", "start")],
)
def test_a_step_that_does_not_fit_the_state_is_refused(site, manager, state, step):
    site.make(start=state == "running")
    assert manager.get(f"/experiments/sale/{step}").status_code == 409
    refused = manager.post(f"/experiments/sale/{step}")
    assert refused.status_code == 409
    assert f"is {state}" in words(refused.text)
    assert site.store.experiments.record("sale").state == state


def test_a_viewer_sees_no_button_that_would_be_refused(site, viewer):
    site.make()
    page = viewer.get("/experiments/sale").text
    for step in ("edit", "pause", "stop"):
        assert f'href="/experiments/sale/{step}"' not in page
    assert "/settings/keys" not in viewer.get("/experiments/sale/setup").text


def test_the_setup_tells_everything_that_is_declared(site, viewer):
    site.make(
        policy={"name": "linucb", "params": {"alpha": 0.5}},
        context=[{"name": "channel", "kind": "category", "values": ["Web", "Shop"]}],
        forgetting={"half_life_seconds": 3600.0},
        assignment="per_subject",
        await_activation=True,
        floor=0.02,
        retention_days=30,
    )
    page = viewer.get("/experiments/sale/setup").text
    text = words(page)
    for sentence in (
        "What would you like?",
        "10 % off",
        "subject_line b with discount d10",
        "click : worth 1, once an email",
        "LinUCB (personal); width 0.5",
        "Channel (Web, Shop)",
        "half after 1 hour",
        "5 % of recipients always get the control",
        "2 % for each version",
        "Same recipient, same variant yes",
        "is removed after 30 days, not before the stop",
        "Unsent emails can be cancelled for 1 day",
        "Count as “no response” after 10 seconds",
        "when your sender reports the email as sent",
    ):
        assert sentence in text, sentence
    assert 'sandbox loading="lazy"' in page
    assert "/api/v1/experiments/sale/choose" in page
    assert "&#34;channel&#34;:&#34;Web&#34;" in page


def test_the_setup_tells_which_value_of_an_email_counts(site, viewer):
    metrics = {
        "margin": {"latest": True, "low": -20.0, "high": 90.0},
        "order": {"high": 50.0},
        "click": {},
    }
    site.make(policy={"name": "thompson_gaussian"}, reward={"metrics": metrics})
    text = words(viewer.get("/experiments/sale/setup").text)
    assert "margin : worth 1 for each unit, the latest value of an email (−20 to 90)" in text
    assert "order : worth 1 for each unit, the largest of an email (0 to 50)" in text
    assert "click : worth 1, once an email" in text


def test_health_names_the_key_that_introduced_the_restrictions(site, viewer):
    site.make()
    key = site.accounts.keys.create("Newsletter", ["choose"], at=site.clock(), by="test").key
    requests = [_request()(f"u{v}", eligible={"subject_line": [v]}) for v in "ab"]
    site.engine.choose("sale", requests, actor=key.actor)
    text = words(viewer.get("/experiments/sale").text)
    assert "Senders narrowed emails to 2 different sets of versions" in text
    assert "2 came first from the API key “Newsletter”" in text


def test_health_warns_of_emails_that_a_connection_left_out_after_bounces(site, viewer):
    site.make(holdout=0.0)
    site.send("sale", 5)
    sentence = "left out after bounces"
    assert sentence not in words(viewer.get("/experiments/sale").text)
    decisions = site.engine.choose("sale", [_request()(f"bounced-{i}") for i in range(3)])
    ids = [str(decision.decision_id) for decision in decisions]
    site.engine.cancel(ids[:2], actor=actor_of("connection", "mailer"))
    site.engine.cancel(ids[2:])
    site.clock.now += 11
    site.engine.learn("sale")
    page = viewer.get("/experiments/sale").text
    assert f"2 emails {sentence}" in words(page)
    assert "the comparison is biased" in words(page)
    rows = csv.DictReader(io.StringIO(viewer.get("/experiments/sale/health.csv").text))
    (state,) = [row["state"] for row in rows if sentence in " ".join(map(str, row.values()))]
    assert state == "look at this"


def test_a_stored_block_is_shown_in_a_frame_that_can_do_nothing(site, viewer):
    site.make()
    shown = viewer.get("/experiments/sale/preview/1/0")
    assert shown.text == "<h1>Hero</h1>"
    assert shown.headers["Content-Security-Policy"].startswith("sandbox;")
    assert viewer.get("/experiments/sale/preview/1/9").status_code == 404
    assert viewer.get("/experiments/sale/preview/9/0").status_code == 404


def test_the_history_tells_what_an_edit_changed(site, manager):
    site.make()
    fields = manager.form("/experiments/sale/edit", "policy")
    manager.post(
        "/experiments/sale/edit",
        fields | {"slots/0/variants/0/text": "Sale!", "floor": "2", "changed/0/0": "typo"},
    )
    text = words(manager.get("/experiments/sale/history").text)
    assert "Set-up changed" in text
    assert "slots › subject_line › variants › a › payload › text Spring sale → Sale!" in text
    assert "floor 0.02" in text


def test_an_edit_keeps_the_goal_and_what_variants_cost(site, manager):
    costs = {"discount": {"d10": 0.3}}
    rule = {"metrics": {"unsubscribe": {}}, "goal": "minimise", "costs": costs}
    site.make(start=False, policy={"name": "thompson_gaussian"}, reward=rule)
    shown = words(manager.get("/experiments/sale/setup").text)
    assert "less of it" in shown
    assert "discount d10: 0.3" in shown
    fields = manager.form("/experiments/sale/edit", "policy")
    manager.post("/experiments/sale/edit", fields | {"slots/2/variants/0/cost": "0.1"})
    declared = site.engine.store.experiments.record("sale").configuration.experiment.reward
    assert declared.goal == "minimise"
    assert declared.costs == {"discount": {"d0": 0.1, "d10": 0.3}}
    page = manager.post(
        "/experiments/sale/edit",
        manager.form("/experiments/sale/edit", "policy") | {"slots/2/variants/0/cost": "dear"},
    ).text
    assert 'id="slots/2/variants/0/cost-error">must be a number' in page


def test_a_long_history_is_read_page_by_page(site, manager):
    site.make()
    for _ in range(60):
        site.engine.pause("sale", by="otto")
        site.engine.start("sale", by="otto")
    page = manager.get("/experiments/sale/history").text
    assert page.count("<strong>") == 100
    earlier = re.search(r'href="(/experiments/sale/history\?before=\d+)"', page)[1]
    rest = manager.get(earlier).text
    assert rest.count("<strong>") == 22
    assert "Created as a draft" in rest


def test_a_receipt_tells_why(site, viewer):
    site.make()
    site.send("sale", 300, clicked)
    decision = next(d for d in site.send("sale", 50, clicked) if not d.holdout and clicked(d))
    answer = viewer.get(f"/decisions?id=+{decision.decision_id}+")
    assert answer.location == f"/decisions/{decision.decision_id}"
    text = words(viewer.get(answer.location).text)
    assert f"drawn with a chance of {100 * decision.propensity:.1f} %" in text
    assert "Subject line What would you like?" in text
    assert "Clicks so far 1" in text
    assert "Verified: recomputing gives the same choice." in text
    assert "click 1" in text
    chances = rows(viewer.get(answer.location).text, "The chances then")[1:]
    assert len(chances) == 6
    assert sum(float(c[1].split()[-2]) for c in chances) == pytest.approx(100, abs=0.5)
    assert [c[0] for c in chances if "chosen" in c[0]] == [
        f"What would you like? · {decision.slots['content']['variant']} · 0 % off chosen"
    ]


def test_a_receipt_of_the_control_group_and_of_a_cancelled_email_says_so(site, viewer):
    site.make(holdout=0.5)
    decisions = site.send("sale", 40)
    held = next(d for d in decisions if d.holdout)
    assert "in the control group" in viewer.get(f"/decisions/{held.decision_id}").text
    site.engine.cancel([held.decision_id])
    assert "reported as never sent" in viewer.get(f"/decisions/{held.decision_id}").text


def test_a_receipt_keeps_the_text_that_was_sent(site, manager):
    site.make(holdout=0.0)
    decision = next(d for d in site.send("sale", 40) if not clicked(d))
    fields = manager.form("/experiments/sale/edit", "policy")
    manager.post("/experiments/sale/edit", fields | {"slots/0/variants/0/text": "Corrected"})
    text = words(manager.get(f"/decisions/{decision.decision_id}").text)
    assert "Plain Spring sale" in text
    assert "Corrected" not in text


@pytest.mark.parametrize("decision_id", ["nothing-like-it", "a/b//c", "%3Cscript%3E"])
def test_unknown_decision_is_told_beside_its_search(viewer, decision_id):
    answer = viewer.get(f"/decisions/{decision_id}")
    assert answer.status_code == 404
    assert "There is no decision" in answer.text
    assert "removed for its age" in answer.text
    assert "<script>" not in answer.text.split("<main")[1]


def test_impossible_decision_id_is_told_so(viewer):
    assert "cannot be a decision" in viewer.get("/decisions?id=ä").text
    assert "cannot be a decision" in viewer.get("/decisions?id=" + "x" * 200).text


def test_text_that_people_write_never_runs_as_script(site, admin, password):
    nasty = {
        "key": "sale",
        "name": HOSTILE,
        "slots": [
            {
                "key": "s",
                "name": HOSTILE,
                "kind": "subject_line",
                "variants": [
                    {
                        "key": "a",
                        "name": '"><img src=x onerror=alert(1)>',
                        "payload": {"text": HOSTILE},
                    },
                    {"key": "b", "name": "'><svg/onload=alert(1)>", "payload": {HOSTILE: HOSTILE}},
                ],
            },
            {
                "key": "c",
                "kind": "content",
                "variants": [{"key": "a", "payload": {"html": HOSTILE}}],
            },
        ],
        "exclude": [],
        "control": {},
        "policy": {"name": "linucb"},
        "context": [{"name": "f", "kind": "category", "values": [HOSTILE]}],
    }
    site.make(**nasty)
    decision = site.engine.choose("sale", [_request()("u", context={"f": HOSTILE})])[0]
    site.clock.now += 11
    site.engine.learn("sale")
    admin.post("/settings/keys", {"name": HOSTILE, "scopes": "read", "password": password})
    fields = admin.form("/experiments/sale/edit", "policy")
    admin.post("/experiments/sale/edit", fields | {"name": HOSTILE + "2"})
    for address in (
        "/",
        f"/?q={HOSTILE}",
        "/experiments/sale",
        "/experiments/sale/setup",
        "/experiments/sale/history",
        "/experiments/sale/edit",
        "/experiments/sale/stop",
        f"/decisions/{decision.decision_id}",
        f"/decisions?id={HOSTILE}ä",
        "/settings/keys",
        "/settings/keys/1/revoke",
        "/settings/keys/1/rotate",
    ):
        answer = admin.get(address)
        assert answer.status_code == 200, address
        assert not MARK.search(answer.text), address
    live = admin.get("/experiments/sale/live")
    assert live.mimetype == "application/json"
    assert not MARK.search("".join(live.json["parts"].values()))
    for trace in live.json["charts"]["shares"]["data"]:
        assert "<" not in trace["name"], "Plotly reads a little HTML"
