"""Recipients and results by file, through the pages."""

import csv
import io
import re
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from bandits.schemas import Request
from tests.patience import wait_until

CONTEXT = [
    {"name": "recency", "kind": "number", "low": 0, "high": 24},
    {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
]


@pytest.fixture
def kept(tmp_path):
    """Where the site keeps what is uploaded."""
    return tmp_path / "files"


def uploaded(folder):
    """Folders of uploads; what people said of columns stays beside them."""
    return [place for place in folder.iterdir() if place.is_dir()]


class Desk:
    """Somebody who sends files of one campaign."""

    key = "sale"

    def __init__(self, site, visitor):
        self.site = site
        self.visitor = visitor

    def upload(self, text, kind="recipients", name="people.csv"):
        content = text if isinstance(text, bytes) else text.encode()
        sent = {"kind": kind, "file": (io.BytesIO(content), name)}
        sent["csrf_token"] = self.visitor.token
        return self.visitor.client.post(f"/experiments/{self.key}/files", data=sent)

    def begin(self, text, kind="recipients", **chosen):
        """Upload a file and say what its columns mean; return its address."""
        answer = self.upload(text, kind)
        assert answer.status_code == 302, answer.text
        fields = self.visitor.form(answer.location, "who") | chosen
        fields = {k: v for k, v in fields.items() if v is not None}
        began = self.visitor.post(answer.location, fields)
        assert began.status_code == 302, began.text
        return answer.location

    def finish(self, address):
        """Wait until it is no longer under way; return its page."""
        read = lambda: self.visitor.get(address).text  # noqa: E731
        return wait_until(read, "end of the job", lambda page: "data-poll" not in page)

    def work(self, text, kind="recipients", **chosen):
        address = self.begin(text, kind, **chosen)
        return address, self.finish(address)

    def go_on(self, address):
        """Go on with what was found in the file; return the page at the end."""
        self.visitor.post(address)
        return self.finish(address)

    def answer(self, address):
        got = self.visitor.get(f"{address}/answer.csv")
        assert got.status_code == 200
        return list(csv.DictReader(io.StringIO(got.text)))


@pytest.fixture
def desk(site, manager):
    return Desk(site, manager)


def sent(site):
    """Count the decisions of the experiment."""
    site.clock.now += 11
    site.engine.learn("sale")
    results = site.engine.results("sale")
    return sum(a.sent for a in results.arms) + (results.holdout.sent if results.holdout else 0)


def people(n, head="subject_id,recency,channel"):
    rows = [f"r{i},{i % 24},{('Web', 'Phone')[i % 2]}" for i in range(n)]
    return "\n".join([head, *rows]) + "\n"


def test_a_list_comes_back_with_the_version_of_each_recipient(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    address, page = desk.work(people(2500))
    assert "Chosen for 2,500 recipients" in page
    rows = desk.answer(address)
    assert [r["subject_id"] for r in rows] == [f"r{i}" for i in range(2500)]
    receipt = site.engine.receipt(rows[7]["decision_id"])
    assert receipt.context == {"recency": 7.0, "channel": "Phone"}
    assert receipt.slots["subject_line"]["variant"] == rows[7]["subject_line"]
    assert rows[7]["subject_line.text"] == receipt.slots["subject_line"]["payload"]["text"]
    assert float(rows[7]["propensity"]) == receipt.propensity
    assert {r["subject_line"] for r in rows} == {"a", "b"}


def test_file_again_decides_nobody_twice_unless_asked(site, desk):
    site.make()
    first, _ = desk.work(people(50))
    again, _ = desk.work(people(50))
    assert desk.answer(first) == desk.answer(again)
    assert sent(site) == 50
    anew, _ = desk.work(people(50), anew="on")
    assert desk.answer(anew) != desk.answer(first)
    assert sent(site) == 100


def test_job_that_was_cut_off_goes_on_without_a_gap_or_a_double(site, desk, app):
    site.make()
    whole, _ = desk.work(people(2300))
    cut = desk.begin(people(2300))
    desk.finish(cut)
    uploads = app.extensions["bandits.uploads"]
    upload = uploads.find("sale", cut.rsplit("/", 1)[1])
    content = uploads.answer(upload).read_bytes()
    lines = content.splitlines(keepends=True)
    after_one_portion = sum(map(len, lines[:1001]))
    uploads.answer(upload).write_bytes(content[: after_one_portion + 9])  # a torn line
    uploads.save(replace(upload, stage="working", done=1000, written=after_one_portion))
    page = desk.visitor.get(cut).text
    assert "Go on where it stopped" in page
    assert "1,000 of 2,300 rows" in page
    assert desk.visitor.get(f"{cut}/answer.csv").status_code == 404, "half an answer is none"
    desk.visitor.post(cut)
    desk.finish(cut)
    assert desk.answer(cut) == desk.answer(whole)
    assert sent(site) == 2300


def test_emails_of_a_file_are_reported_as_sent_and_their_results_count(site, desk, app):
    site.make(await_activation=True)
    address, page = desk.work(people(2300))
    assert "the clock of an email starts when it is reported as sent" in page
    early, late = (row["decision_id"] for row in desk.answer(address)[:2])
    desk.visitor.post(f"{address}/sent")
    assert "Reported as sent:</strong> 2,300 emails" in desk.finish(address)
    site.clock.now += 60
    _, results = desk.work(f"decision_id,click\n{early},1\n{late},1\n", "results", by="decision")
    assert re.search(r"Counted</dt><dd>2 events", results)
    assert sent(site) == 2300
    uploads = app.extensions["bandits.uploads"]
    upload = uploads.find("sale", address.rsplit("/", 1)[1])
    uploads.save(replace(upload, stage="working", reported=1000))
    desk.visitor.post(address)
    assert "2,300 emails" in desk.finish(address), "a job that was cut off goes on"


def test_emails_of_a_file_are_not_reported_as_sent_where_nothing_waits_for_it(site, desk):
    site.make()
    address, page = desk.work(people(3))
    assert "reported as sent" not in page
    desk.visitor.post(f"{address}/sent")
    assert "Reported as sent" not in desk.visitor.get(address).text


def test_a_paused_experiment_cuts_a_list_off_and_says_so(site, desk):
    site.make(start=False)
    address, page = desk.work(people(3))
    assert "only a running one chooses" in page
    site.engine.start("sale", by="test")
    desk.visitor.post(address)
    assert "Chosen for 3 recipients" in desk.finish(address)


def test_rows_that_do_not_fit_are_named_and_nobody_is_decided_for(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    address, page = desk.work("subject_id,recency,channel\na,3,Web\n,4,Web\nc,many,Web\n")
    assert "Look at this before anything is decided" in page
    assert "2 rows of 3 will be left out" in page
    report = csv.DictReader(io.StringIO(desk.visitor.get(f"{address}/report.csv").text))
    assert [tuple(row.values())[1:] for row in report] == [
        ("subject_id", "", "is empty"),
        ("recency", "many", "'many' is not a number"),
    ]
    assert sent(site) == 0
    assert desk.visitor.get(f"{address}/answer.csv").status_code == 404
    desk.visitor.post(f"{address}/columns")
    assert "What do the columns mean?" in desk.visitor.get(address).text


def test_rows_that_do_not_fit_are_left_out_once_somebody_says_so(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    text = "subject_id,recency,channel\na,3,Web\n,4,Web\nc,5\nd,6,Web\n"
    address, page = desk.work(text)
    assert "Choose for 2 recipients" in page
    page = desk.go_on(address)
    assert "Chosen for 2 recipients" in page
    assert "2 rows of 4 were left out" in page
    assert [row["subject_id"] for row in desk.answer(address)] == ["a", "d"]
    assert sent(site) == 2


def test_list_of_which_no_row_fits_is_refused(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    address, page = desk.work("subject_id,recency,channel\n,3,Web\nb,x,Web\n")
    assert "No row can be used" in page
    assert desk.visitor.get(f"{address}/report.csv").text.count("\n") == 3
    assert sent(site) == 0


def test_columns_are_guessed_shown_and_chosen(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    answer = desk.upload("Person,RECENCY,how\nann@shop.example,3,Web\n")
    page = desk.visitor.get(answer.location).text
    assert "<td>ann@shop.example</td>" in page
    fields = desk.visitor.form(answer.location, "who")
    assert (fields["who"], fields["feature:recency"], fields["feature:channel"]) == (
        "",
        "RECENCY",
        "",
    )
    refused = desk.visitor.post(answer.location, fields)
    assert refused.status_code == 422
    assert "Choose the column that says who each row is." in refused.text
    desk.visitor.post(answer.location, fields | {"who": "Person", "feature:channel": "how"})
    desk.finish(answer.location)
    (row,) = desk.answer(answer.location)
    assert site.engine.receipt(row["decision_id"]).context == {"recency": 3.0, "channel": "Web"}


def test_the_texts_are_left_out_where_keys_are_enough(site, desk):
    site.make()
    address, _ = desk.work(people(2), contents=None, own=None)
    assert set(desk.answer(address)[0]) == {
        *("subject_id", "decision_id", "subject_line", "content", "discount"),
        *("propensity", "holdout", "fallback"),
    }


def test_an_export_is_matched_by_decision_and_each_row_without_match_says_why(site, desk):
    site.make()
    decisions = site.engine.choose("sale", [Request("a"), Request("b"), Request("c")])
    export = "".join(f"{d.decision_id},{i % 2}\n" for i, d in enumerate(decisions))
    text = f"decision_id,click\n{export}nothing-like-it,1\n"
    site.clock.now += 5
    address, page = desk.work(text, "results")
    assert "1 event<" in page
    (missed,) = desk.answer(address)
    assert missed["line"] == "5"
    assert missed["recipient or decision"] == "nothing-like-it"
    assert (
        "no email was chosen under this decision id, or none that is still kept" in missed.values()
    )
    _, page = desk.work(text, "results")
    assert "0 events<" in page
    assert "<dt>Already reported</dt><dd>1</dd>" in page
    assert [e["metric"] for e in site.engine.receipt(str(decisions[1].decision_id)).events] == [
        "click"
    ]


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_an_export_is_matched_by_recipient(site, desk, assignment):
    site.make(assignment=assignment)
    old = site.engine.choose("sale", [Request("ann"), Request("12")])
    site.clock.now += 5
    new = site.engine.choose("sale", [Request("ann")])
    site.clock.now += 5
    text = "who,what\nann,click\n12,click\nnobody,click\n"
    address, page = desk.work(text, "results", who="who", by="subject", shape="rows", metric="what")
    if assignment == "per_decision":
        assert "1 event is of recipients who got several emails" in page
        page = desk.go_on(address)
    assert "2 events<" in page
    assert len(site.engine.receipt(str(new[0].decision_id)).events) == 1, "the newest is meant"
    assert len(site.engine.receipt(str(old[1].decision_id)).events) == 1
    (missed,) = desk.answer(address)
    assert missed["why it was not counted"].startswith("this campaign has no email")
    assert "nobody" not in missed["recipient or decision"]


@pytest.mark.parametrize("attribution", [None, "last"])
def test_an_export_is_matched_by_recipient_and_time(site, desk, attribution):
    """Results of the first send arrive after the second."""
    site.make(attribution=attribution)
    first = site.engine.choose("sale", [Request(f"r{i}") for i in range(3)])
    at = datetime.fromtimestamp(site.clock.now + 20.0, UTC).isoformat()
    site.clock.now += 3600
    second = site.engine.choose("sale", [Request(f"r{i}") for i in range(3)])
    site.clock.now += 60
    rows = f"r0,1,{at}\nr1,1,{at}\nr2,1,\nr2,1,2026-01-01T00:00:00Z\n"
    text = f"subject_id,click,occurred_at\n{rows}"
    for counted in ("3 events<", "0 events<"):
        address, page = desk.work(text, "results", who="subject_id", by="subject")
        assert "1 event is of recipients who got several emails" in page
        assert counted in desk.go_on(address)
        (missed,) = desk.answer(address)
        assert missed["line"] == "5"
    clicked = [len(site.engine.receipt(str(d.decision_id)).events) for d in (*first, *second)]
    assert clicked == [1, 1, 0, 0, 0, 1]


def test_an_export_of_latest_values_asks_for_their_times(site, desk):
    metrics = {"click": {}, "margin": {"latest": True, "high": 90.0}}
    site.make(policy={"name": "thompson_gaussian"}, reward={"metrics": metrics})
    (decision,) = site.engine.choose("sale", [Request("a")])
    site.clock.now += 5
    one = decision.decision_id
    text = f"decision_id,margin,as_of\n{one},9,1800000060\n{one},4,1800000000\n"
    address = desk.upload(text, "results").location
    fields = {**desk.visitor.form(address, "who"), "as_of": ""}
    refused = desk.visitor.post(address, {k: v for k, v in fields.items() if v is not None})
    assert (refused.status_code, "choose the column of the times" in refused.text) == (422, True)
    _, page = desk.work(text, "results")
    assert "2 events<" in page
    assert site.engine.receipt(str(one)).reward == pytest.approx(9.0)


def test_an_export_of_events_has_their_times_and_those_of_their_values(site, desk):
    metrics = {"click": {}, "margin": {"latest": True, "high": 90.0}}
    site.make(policy={"name": "thompson_gaussian"}, reward={"metrics": metrics})
    (decision,) = site.engine.choose("sale", [Request("a")])
    site.clock.now += 60
    one, at = decision.decision_id, site.clock.now - 30.0
    rows = f"{one},margin,9,{at},1800000060\n{one},margin,4,{at},1800000000\n"
    text = f"decision_id,metric,value,occurred_at,as_of\n{rows}"
    _, page = desk.work(text, "results", shape="rows")
    assert "2 events<" in page
    receipt = site.engine.receipt(str(one))
    assert receipt.reward == pytest.approx(9.0)
    times = [event["occurred_at"].timestamp() for event in receipt.events]
    assert times == pytest.approx([at, at])


def test_an_export_without_latest_values_does_not_ask_for_their_times(site, desk):
    site.make()
    page = desk.visitor.get(desk.upload("decision_id,click\nd,1\n", "results").location).text
    assert "When it happened" in page
    assert "When the value was current" not in page


def test_an_export_with_a_value_that_does_not_fit_reports_nothing_yet(site, desk):
    site.make()
    (decision,) = site.engine.choose("sale", [Request("a")])
    site.clock.now += 5
    text = f"decision_id,click\n{decision.decision_id},1\n{decision.decision_id},often\n"
    address, page = desk.work(text, "results")
    assert "Look at this before anything is reported" in page
    assert "1 row of 2 will be left out" in page
    assert site.engine.receipt(str(decision.decision_id)).events == []
    assert "1 event<" in desk.go_on(address)
    assert len(site.engine.receipt(str(decision.decision_id)).events) == 1


def test_no_cell_of_an_answer_for_spreadsheets_is_a_formula(site, desk):
    evil = [{"key": "a", "payload": {"text": "=cmd|' /C calc'!A0"}}, {"key": "b"}]
    site.make(slots=[{"key": "text", "variants": evil}], exclude=[], control={})
    address, _ = desk.work("subject_id\n=1+1\n@SUM(A1)\n+49 30 1234\n-2\nann\n")
    text = desk.visitor.get(f"{address}/answer.csv?for=spreadsheet").text
    raw = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    cells = [cell for row in raw for cell in row]
    assert [row[0] for row in raw[1:]] == ["'=1+1", "'@SUM(A1)", "'+49 30 1234", "'-2", "ann"]
    assert not [c for c in cells if c.startswith(("=", "+", "-", "@"))]


def test_cells_of_a_file_never_become_script(site, desk):
    site.make()
    evil = "<script>alert(1)</script>"
    answer = desk.upload(f"subject_id,{evil}\n{evil},{evil}\n", name=f"{evil}.csv")
    for page in (desk.visitor.get(answer.location), desk.visitor.get("/experiments/sale/files")):
        assert evil not in page.text
    assert "&lt;script&gt;" in desk.visitor.get(answer.location).text


@pytest.mark.parametrize(
    ("content", "name", "detail"),
    [
        (b"", "people.csv", "is empty"),
        (b"a\n\xff\n", "people.doc", "give it one of .csv, .tsv, .txt, .xlsx"),
        (b"a\n\xff\n", "people.xlsx", "is no workbook"),
        (b"\xd0\xcf\x11\xe0\xa1", "people.xlsx", "save it as .xlsx without one"),
        (b"no parquet", "people.parquet", "cannot read people.parquet"),
        (b"\xff\xfe\n", "people.csv", "is not text in UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_beside_its_field(desk, kept, content, name, detail):
    desk.site.make()
    answer = desk.upload(content, name=name)
    assert answer.status_code == 422
    assert detail in answer.text.split('class="error"')[1]
    assert list(kept.iterdir()) == [], "nothing of it is kept"


def test_a_file_that_is_too_long_is_refused_with_the_limit(site, desk, app, monkeypatch):
    site.make()
    monkeypatch.setitem(app.config, "MAX_UPLOAD_BYTES", 20_000)
    answer = desk.upload(b"subject_id\n" + b"x" * 20_000)
    assert answer.status_code == 413
    assert "At most 0.02 MB are taken at once" in answer.text


def test_files_may_be_longer_than_other_requests(site, desk, app, monkeypatch):
    site.make()
    monkeypatch.setitem(app.config, "MAX_CONTENT_LENGTH", 1000)
    assert desk.upload(people(500)).status_code == 302


def test_files_are_forgotten_after_a_week_and_when_asked(site, desk, kept):
    site.make()
    address, _ = desk.work(people(2))
    desk.work(people(3))
    assert desk.visitor.post(f"{address}/remove").location == "/experiments/sale/files"
    assert desk.visitor.get(address).status_code == 404
    assert len(uploaded(kept)) == 1
    site.clock.now += 8 * 86_400
    page = site.visitor("manager", "late@shop.example").get("/experiments/sale/files").text
    assert "None yet." in page
    assert uploaded(kept) == []
    assert sent(site) == 5, "what was decided stays"


def test_a_file_is_reached_only_through_its_experiment(site, desk):
    site.make()
    site.make(key="other")
    address, _ = desk.work(people(2))
    assert desk.visitor.get(address.replace("/sale/", "/other/")).status_code == 404
    assert desk.visitor.get("/experiments/sale/files/..").status_code in {404, 308}
