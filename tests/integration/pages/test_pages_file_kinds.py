"""Files as people have them, through the pages: what is understood is shown before it is done."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.schemas import Request
from tests.integration.pages.test_pages_files import CONTEXT, Desk
from tests.workbooks import DATE, number, sheet, text, write_workbook
from webapp.files.known_columns import EXPORTS

REVENUE = {
    "metrics": {"revenue": {"count": "sum", "high": 500.0}},
    "window_seconds": 1e6,
    "maturity_seconds": 10.0,
}


@pytest.fixture
def desk(site, manager):
    return Desk(site, manager)


def preview(page):
    """Cells of the table of rows as they are understood."""
    table = page.split('id="understood"')[1].split("</table>")[0]
    return [cell.split("<")[0] for cell in table.split("<td>")[1:]]


def earned(site):
    """Reward of all decisions of the campaign."""
    site.clock.now += 11
    site.engine.learn("sale")
    results = site.engine.results("sale")
    return sum(a.reward for a in results.arms) + (results.holdout.reward if results.holdout else 0)


def decisions(site, *subjects):
    """Decide for subjects; return the ids of the decisions."""
    chosen = site.engine.choose("sale", [Request(s) for s in subjects])
    site.clock.now += 60
    return [str(decision.decision_id) for decision in chosen]


def test_choices_have_texts_and_ids_to_the_byte(site, desk):
    """Before, an apostrophe stood before what a spreadsheet may take for a formula, in emails."""
    variants = [
        {"key": "a", "payload": {"text": "-20 % today", "html": "\n<h1>Hi</h1>", "n": -5}},
        {"key": "b", "payload": {"text": "+1 for free", "html": "\n<h1>Ho</h1>", "n": -5}},
    ]
    site.make(slots=[{"key": "text", "variants": variants}], exclude=[], control={})
    ids = ["+4917012345", "@handle", "-12", "007 ", "=1+1"]
    address, _ = desk.work("subject_id\n" + "".join(f"{name}\n" for name in ids))
    rows = desk.answer(address)
    assert [row["subject_id"] for row in rows] == ids
    assert {row["text.text"] for row in rows} <= {"-20 % today", "+1 for free"}
    assert all(row["text.html"].startswith("\n<h1>") for row in rows)
    assert {row["text.n"] for row in rows} == {"-5"}
    assert "subject_id_" not in rows[0], "the list's own column is it"
    report = "subject_id,click\n" + "".join(f"{row['subject_id']},1\n" for row in rows)
    site.clock.now += 5
    assert "5 events<" in desk.work(report, "results")[1]


def test_choices_have_the_columns_of_the_list(site, desk):
    site.make()
    listed = "Email,Note,decision_id,Note\nann@x.example, 1 ,old,=x\n"
    (row,) = csv.reader(io.StringIO(listed.splitlines()[1]))
    address, _ = desk.work(listed, contents=None)
    head, cells = csv.reader(io.StringIO(desk.visitor.get(f"{address}/answer.csv").text))
    assert head[-4:] == ["Email", "Note", "decision_id_", "Note_"]
    assert cells[-4:] == row
    assert cells[0] == "ann@x.example"


def test_workbook_of_recipients_is_understood(site, desk):
    site.make(context=CONTEXT, policy={"name": "lints"})
    rows = [
        [text("Email Address"), text("recency"), text("Channel")],
        [text("ann@x.example"), number(3), text("web ")],
        [text("bob@x.example"), number(30), text("Fax")],
    ]
    path = site_file(desk, rows)
    answer = desk.upload(path.read_bytes(), name="people.xlsx")
    page = desk.visitor.get(answer.location).text
    assert preview(page) == [
        *("2", "ann@x.example", "3", "Web", ""),
        *("3", "bob@x.example", "24 (for 30)", "not known (Fax)", ""),
    ]
    desk.visitor.post(answer.location, desk.visitor.form(answer.location, "who"))
    page = desk.finish(answer.location)
    assert "Look at this before anything is decided" in page
    assert "none of Web, Phone: counts as not known" in page
    assert "above 24: counts as 24" in page
    desk.go_on(answer.location)
    first, second = desk.answer(answer.location)
    assert site.engine.receipt(first["decision_id"]).context == {"recency": 3.0, "channel": "Web"}
    assert site.engine.receipt(second["decision_id"]).context == {"recency": 24.0, "channel": None}
    assert second["recency_" if "recency_" in second else "recency"] == "30"


def site_file(desk, rows):
    """Write a workbook beside the files of the site."""
    folder = desk.site.app.extensions["bandits.uploads"]._folder.parent
    write_workbook(folder / "made.xlsx", {"List": sheet(rows)})
    return folder / "made.xlsx"


def test_recipient_in_several_rows_gets_one_version(site, desk):
    site.make(policy={"name": "uniform"})
    listed = "subject_id\n" + "".join(f"u{i % 3}\n" for i in range(2500))
    address, page = desk.work(listed)
    assert "2,497 rows are of recipients who came before in the list" in page
    assert "rows 5, 6, 7" in page
    page = desk.go_on(address)
    assert "Chosen for 3 recipients" in page
    rows = desk.answer(address)
    assert len(rows) == 2500
    assert len({(row["subject_id"], row["decision_id"]) for row in rows}) == 3
    assert len({row["decision_id"] for row in rows}) == 3


def test_recipient_in_several_rows_may_get_a_version_for_each(site, desk):
    site.make(policy={"name": "uniform"})
    address, page = desk.work("subject_id\nu\nu\nu\n", repeats="each")
    assert "Each row gets its own version" in page
    desk.go_on(address)
    assert len({row["decision_id"] for row in desk.answer(address)}) == 3


def test_totals_of_a_later_file_replace_those_of_an_earlier_one(site, desk):
    """Before, 50 on one day and 80 in all on the next were 130."""
    site.make(reward=REVENUE, policy={"name": "thompson_gaussian"})
    decisions(site, "u1", "u2")
    for total, expected in ((50, 50.0), (80, 80.0), (80, 80.0), (30, 30.0), (80, 80.0), (0, 0.0)):
        _, page = desk.work(f"subject_id,revenue\nu1,{total}\nu3,9\n", "results")
        assert "Reported" in page
        assert earned(site) == pytest.approx(expected), total


def test_totals_of_several_rows_are_added_up(site, desk):
    site.make(reward=REVENUE, policy={"name": "thompson_gaussian"})
    decisions(site, "u1", "u2")
    rows = "u1,10\nu2,5\nu1,20\n"
    desk.work(f"subject_id,revenue\n{rows}", "results")
    assert earned(site) == pytest.approx(35.0)
    desk.work(f"subject_id,revenue\n{rows}u1,20\n", "results")
    assert earned(site) == pytest.approx(55.0)


def test_numbers_that_are_new_are_added(site, desk):
    site.make(reward=REVENUE, policy={"name": "thompson_gaussian"})
    decisions(site, "u1")
    desk.work("subject_id,revenue\nu1,10\nu1,10\n", "results", numbers="new")
    assert earned(site) == pytest.approx(20.0)
    desk.work("subject_id,revenue\nu1,30\n", "results", numbers="new")
    assert earned(site) == pytest.approx(50.0)


def test_times_without_a_zone_are_asked_for_once(site, desk):
    site.make()
    decisions(site, *(f"u{i}" for i in range(4)))
    local = datetime.fromtimestamp(site.clock.now, UTC) - timedelta(hours=5)
    at = f"{local - timedelta(seconds=30):%m/%d/%Y %I:%M:%S %p}"
    listed = f"subject_id,click,occurred_at\nu0,1,{at}\n"
    address = desk.upload(listed, "results").location
    fields = desk.visitor.form(address, "who")
    refused = desk.visitor.post(address, fields)
    assert refused.status_code == 422
    assert "Choose the time zone of this file" in refused.text
    shown = desk.visitor.post(address, fields | {"zone": "America/New_York", "action": "preview"})
    assert f"{local - timedelta(seconds=30):%Y-%m-%d %H:%M:%S} America/New_York" in preview(
        shown.text
    )
    desk.visitor.post(address, fields | {"zone": "America/New_York"})
    assert "1 event<" in desk.finish(address)
    day = f"subject_id,click,when,occurred_at\nu1,1,x,{local:%Y-%m-%d}\n"
    address, page = desk.work(day, "results")
    assert "1 event<" in page, "the zone is remembered, and a date is some time that day"
    late = f"subject_id,click,occurred_at\nu2,1,{local + timedelta(hours=10):%Y-%m-%d %H:%M}\n"
    address, page = desk.work(late, "results")
    assert "is in the future: is the time zone right?" in page


def test_dates_that_may_be_two_are_asked_about(site, desk):
    site.make()
    decisions(site, "u0")
    listed = "subject_id,click,occurred_at\nu0,1,3/4/2020 10:00Z\n"
    address = desk.upload(listed, "results").location
    fields = desk.visitor.form(address, "who")
    assert "may be two dates" in desk.visitor.post(address, fields).text
    page = desk.visitor.post(address, fields | {"day": "second", "action": "preview"}).text
    assert "2020-03-04 10:00:00 UTC" in preview(page)


def test_meaning_of_columns_is_kept_for_the_next_such_file(site, desk):
    site.make()
    site.make(key="other")
    decisions(site, "a", "b")
    desk.work("wer,was\na,yes\n", "results", who="wer", by="subject", **{"metric:click": "was"})
    address = desk.upload("was,wer\nno,b\n", "results").location
    page = desk.visitor.get(address).text
    assert "your choices are kept" in page
    fields = desk.visitor.form(address, "who")
    assert (fields["who"], fields["metric:click"], fields["by"]) == ("wer", "was", "subject")
    assert (
        "your choices are kept"
        not in desk.visitor.get(desk.upload("was,wer,x\nno,b,1\n", "results").location).text
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("Email;Größe\nann@x.example;Köln\n".encode("cp1252"), "people.csv"),
        ("sep=|\nEmail|Größe\nann@x.example|Köln\n".encode("utf-16"), "people.txt"),
        ("Email\tGröße\r\nann@x.example\tKöln\r\n".encode("utf-8-sig"), "people.tsv"),
    ],
)
def test_text_file_is_read_whatever_it_is_written_as(site, desk, content, name):
    site.make()
    answer = desk.upload(content, name=name)
    assert "<td>Köln</td>" in desk.visitor.get(answer.location).text
    desk.visitor.post(answer.location, desk.visitor.form(answer.location, "who"))
    desk.finish(answer.location)
    (row,) = desk.answer(answer.location)
    assert (row["subject_id"], row["Größe"]) == ("ann@x.example", "Köln")


def test_text_file_may_be_read_anew_in_another_encoding(site, desk):
    site.make()
    address = desk.upload("id,city\na,Łódź\n".encode("cp1250")).location
    fields = desk.visitor.form(address, "who")
    assert "Łódź" not in desk.visitor.get(address).text
    again = desk.visitor.post(address, fields | {"encoding": "windows-1250"})
    assert again.location == address
    assert "<td>Łódź</td>" in desk.visitor.get(address).text
    desk.visitor.post(address, desk.visitor.form(address, "who"))
    desk.finish(address)
    assert desk.answer(address)[0]["city"] == "Łódź"


def test_parquet_file_with_two_columns_of_one_name_is_shown(site, desk):
    """Before, its page was an error, and so was every later look at it."""
    site.make()
    columns = [pa.array(["u1"]), pa.array(["x@x.example"]), pa.array(["y@x.example"])]
    file = io.BytesIO()
    pq.write_table(pa.table(columns, names=["subject_id", "email", "email"]), file)
    address = desk.upload(file.getvalue(), name="twins.parquet").location
    page = desk.visitor.get(address)
    assert page.status_code == 200
    assert "<td>y@x.example</td>" in page.text
    fields = desk.visitor.form(address, "who")
    refused = desk.visitor.post(address, fields | {"who": "email"})
    assert "2 columns are called “email”" in refused.text
    desk.visitor.post(address, fields)
    desk.finish(address)
    (row,) = desk.answer(address)
    assert (row["subject_id"], row["email"], row["email_"]) == ("u1", "x@x.example", "y@x.example")


def export_of(known):
    """One row of an export of a mailer for ann, who opened and clicked, in the mailer's shape."""
    mapped = [known.subject, *known.metrics.values(), known.metric, known.occurred_at]
    columns = list(dict.fromkeys([*filter(None, mapped), *known.columns]))
    cells = dict.fromkeys(columns, "")
    cells |= dict.fromkeys(known.metrics.values(), "1")
    cells |= {known.subject: "ann@x.example"}
    if "brevo" in known.key:
        cells |= dict.fromkeys(known.metrics.values(), "NA")
        cells |= {known.metrics["open"]: "AT", known.metrics["click"]: "AT"}
    if known.occurred_at:
        cells |= {known.occurred_at: "AT"}
    if known.metric:
        cells |= {known.metric: "CLICK"}
    sign = ";" if "brevo" in known.key else ","
    return f"{sign.join(columns)}\n{sign.join(cells[c] for c in columns)}\n"


@pytest.mark.parametrize(
    "known", [e for e in EXPORTS if e.kind == "results"], ids=lambda known: known.key
)
def test_export_of_a_mailer_needs_no_choice_but_a_zone(site, desk, known):
    site.make()
    (decision,) = decisions(site, "ann@x.example")
    at = datetime.fromtimestamp(site.clock.now - 30, UTC)
    content = export_of(known).replace("AT", f"{at:%d-%m-%Y %H:%M:%S}")
    address = desk.upload(content, "results").location
    assert known.title in desk.visitor.get(address).text
    desk.visitor.post(address, desk.visitor.form(address, "who") | {"zone": "UTC", "day": "first"})
    assert "Reported" in desk.finish(address)
    events = {event["metric"] for event in site.engine.receipt(decision).events}
    assert events == ({*known.metrics} if "brevo" not in known.key and known.metrics else events)
    assert "click" in events or known.every_row == "open"


def test_workbook_of_results_has_its_dates(site, desk):
    site.make()
    (decision,) = decisions(site, "ann")
    days = site.clock.now / 86_400 + 25_569  # as Excel counts them
    rows = [[text("Email"), text("Clicked at")], [text("ann"), number(float(int(days)), DATE)]]
    address = desk.upload(site_file(desk, rows).read_bytes(), "results", "r.xlsx").location
    fields = desk.visitor.form(address, "who")
    desk.visitor.post(address, fields | {"zone": "UTC"})
    assert "1 event<" in desk.finish(address)
    (event,) = site.engine.receipt(decision).events
    assert event["occurred_at"].timestamp() == pytest.approx(site.clock.now)


def test_bad_event_takes_no_other_with_it(site, desk):
    site.make(reward=REVENUE, policy={"name": "thompson_gaussian"})
    decisions(site, "u1", "u2", "u3")
    rows = 'u1,"1.234,5"\nu2,"12,50"\nu3,"7,5"\nu3\n'
    address, page = desk.work(f"subject_id,revenue\n{rows}", "results")
    assert "2 rows of 4 will be left out" in page
    report = list(
        csv.DictReader(
            io.StringIO(desk.visitor.get(f"{address}/report.csv").text.removeprefix("\ufeff"))
        )
    )
    assert [(row["row"], row["value"]) for row in report] == [("5", ""), ("2", "1.234,5")]
    desk.go_on(address)
    assert earned(site) == pytest.approx(20.0)


def test_file_of_events_may_have_unknown_ones(site, desk):
    site.make()
    (decision,) = decisions(site, "ann")
    listed = "Email,Event\nann,Sent\nann,Clicked Email\n"
    address, page = desk.work(listed, "results")
    assert "unknown metric" in page
    desk.go_on(address)
    assert [event["metric"] for event in site.engine.receipt(decision).events] == ["click"]


def test_results_without_a_time_say_who_got_several_emails(site, desk):
    """Before, the last email was credited without a word."""
    site.make()
    first = decisions(site, "u1", "u2")
    (second,) = decisions(site, "u1")
    address, page = desk.work("subject_id,click\nu1,1\nu2,1\nu3,1\n", "results")
    assert "1 event is of recipients who got several emails" in page
    assert site.engine.receipt(second).events == []
    assert "2 events<" in desk.go_on(address)
    clicks = [len(site.engine.receipt(decision).events) for decision in (*first, second)]
    assert clicks == [0, 1, 1]
