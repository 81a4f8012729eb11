"""Files of recipients, choices and results: what a row means, and what is said of a bad one."""

import csv
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.rewards import RewardRule
from bandits.schemas import Decision, RewardReceipt
from webapp.files.choices import ChoiceRows, check_output, write_table
from webapp.files.file_check import check_recipients
from webapp.files.recipients import RecipientColumns, RecipientFile, check_run, run_digest
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.table_files import open_table

SPRING = msgspec.convert(
    {
        "key": "spring",
        "slots": [
            {
                "key": "subject_line",
                "variants": [
                    {"key": "a", "payload": {"text": "Spring, at last"}},
                    {"key": "b", "payload": {"text": "20 % off", "emoji": True}},
                ],
            },
            {"key": "propensity", "variants": [{"key": "x"}, {"key": "y"}]},
        ],
        "policy": {"name": "thompson_gaussian"},
        "reward": {"metrics": {"click": {}, "order": {"count": "sum", "high": 500.0}}},
        "context": [
            {"name": "recency", "kind": "number", "low": 0, "high": 24},
            {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
        ],
    },
    Experiment,
)


@pytest.fixture
def write(tmp_path):
    """Write a file and open it as a table."""

    def make(text, name="people.csv"):
        (tmp_path / name).write_text(text, "utf-8")
        return open_table(tmp_path / name)

    return make


def requests(table, columns=None, size=2):
    portions = RecipientFile(table, SPRING, columns).portions("run", size)
    return [r for portion in portions for r in portion.requests]


def check(table):
    """Read a whole file of which no row may be wrong."""
    outcome, _ = check_recipients(RecipientFile(table, SPRING), SPRING, None)
    outcome.refuse_useless()
    return outcome


def refusal(what):
    with pytest.raises(InvalidInput) as caught:
        what()
    return [fault.detail for fault in caught.value.faults]


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_a_row_is_a_request_typed_as_the_experiment_declares(write, comma) -> None:
    text = "subject_id,recency,channel,city\nu-1,3,Web,Bonn\n\n007,,Fax,\nu-3,1e1,,x\n"
    first, second, third = requests(write("\ufeff" + text.replace(",", comma)))
    assert first.subject_id == "u-1"
    assert first.context == {"recency": 3.0, "channel": "Web"}
    assert second.subject_id == "007"
    assert second.context == {"channel": "Fax"}
    assert third.context == {"recency": 10.0}
    ids = [r.decision_id for r in (first, second, third)]
    assert ids == ["run-0000000000", "run-0000000001", "run-0000000002"]


def test_a_parquet_file_means_the_same(tmp_path) -> None:
    columns = {
        "subject_id": [7, 8, 9],
        "recency": [Decimal("3.5"), None, Decimal(4)],
        "channel": pa.array(["Web", None, "Web"]).dictionary_encode(),
        "joined": [date(2026, 1, 1)] * 3,
    }
    pq.write_table(pa.table(columns), tmp_path / "people.parquet")
    converted = requests(open_table(tmp_path / "people.parquet"))
    assert [r.subject_id for r in converted] == ["7", "8", "9"]
    assert [r.context for r in converted] == [
        {"recency": 3.5, "channel": "Web"},
        None,
        {"recency": 4.0, "channel": "Web"},
    ]


def test_columns_may_have_other_names_or_be_left_out(write) -> None:
    columns = RecipientColumns(subject="email", context={"recency": "months", "channel": None})
    (only,) = requests(write("months,email\n3,a@example.com\n"), columns)
    assert only.subject_id == "a@example.com"
    assert only.context == {"recency": 3.0}


def test_a_column_can_restrict_a_slot(write) -> None:
    table = write("subject_id,recency,channel,eligible.subject_line\nu-1,,,a | b\nu-2,,,\n")
    assert [r.eligible for r in requests(table)] == [{"subject_line": ["a", "b"]}, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subject_id,recency\nu,1\n", "no column 'channel' for the feature 'channel'"),
        ("id,recency,channel\nu,1,\n", "no column 'subject_id' that tells who each row is"),
        ("subject_id,recency,channel\nu,1\n", "line 2: has 2 fields, the header has 3"),
        ("subject_id,recency,channel\nu,1,\nv,often,\n", "'recency': 'often' is not a number"),
        ("subject_id,recency,channel\nu,1_0,\n", "line 2, column 'recency': '1_0' is not a number"),
        ("subject_id,recency,channel\nu,inf,\n", "line 2, column 'recency': 'inf' is not a number"),
        ("subject_id,recency,channel\n,1,\n", "line 2, column 'subject_id': is empty"),
        (f"subject_id,recency,channel\n{'u' * 257},1,\n", "is longer than 256 characters"),
        ("subject_id,recency,recency,channel\nu,1,1,\n", "2 columns are called 'recency'"),
        ("subject_id,recency,channel,eligible.x\nu,,,a\n", "'eligible.x' names no slot; slots are"),
        ("subject_id,recency,channel,eligible.subject_line\nu,,,c\n", "unknown variant 'c'; known"),
        ("subject_id,recency,channel\n", "the file has a header and no rows"),
        ("", "is empty"),
        ('subject_id,recency,channel\n"u,1,\n', "line 2: unexpected end of data"),
    ],
)
def test_a_bad_file_is_refused_at_its_place(write, text, said) -> None:
    (detail,) = refusal(lambda: check(write(text)))
    assert said in detail


def test_several_bad_rows_are_named_at_once(write) -> None:
    rows = "".join(f"u-{i},{'x' if i % 2 else 1},\n" for i in range(100))
    faults = refusal(lambda: check(write("subject_id,recency,channel\n" + rows)))
    assert len(faults) == 20
    assert "line 3," in faults[0]


@pytest.mark.parametrize("name", ["people.xlsx", "missing.csv", "torn.parquet", "torn.csv"])
def test_a_file_that_cannot_be_read_says_so(tmp_path, name) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "torn.csv").write_bytes("subject_id\nMüller\n".encode() * 20 + b"a\xfcb\n")
    (tmp_path / "people.xlsx").write_bytes(b"PK\x03\x04 and no more")
    (detail,) = refusal(lambda: list(open_table(tmp_path / name).portions(["subject_id"])))
    assert name in detail


def test_a_run_is_the_file_the_experiment_and_the_meaning_of_its_columns(tmp_path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("subject_id\nu\n")
    runs = {
        run_digest(path, "spring", RecipientColumns()),
        run_digest(path, "spring", RecipientColumns("subject_id")),
    }
    assert len(runs) == 1
    runs |= {
        run_digest(path, "autumn", RecipientColumns()),
        run_digest(path, "spring", RecipientColumns("email")),
    }
    path.write_text("subject_id\nv\n")
    runs.add(run_digest(path, "spring", RecipientColumns()))
    assert len(runs) == 4
    assert check_run("week-2") == "week-2"
    for bad in ("", "two words", "x" * 101, "é"):
        assert "a run is 1 to 100" in refusal(lambda bad=bad: check_run(bad))[0]


@pytest.mark.parametrize("name", ["choices.csv", "choices.parquet"])
def test_choices_have_a_column_for_everything_to_merge_in(write, tmp_path, name) -> None:
    request_list = requests(write("subject_id,recency,channel\nu-1,1,Web\nu-2,,\n"))
    rows = ChoiceRows(SPRING)
    b = {"subject_line": {"variant": "b", "payload": {"text": "20 % off", "emoji": True}}}
    decided = [
        Decision("run-0", b | {"propensity": {"variant": "x", "payload": {}}}, 0.25, 3),
        Decision(None, {s: {"variant": v} for s, v in [("subject_line", "a"), ("propensity", "y")]},
                 1.0, 0, fallback=True),
    ]  # fmt: skip
    write_table(tmp_path / name, rows.schema, [rows.batch(request_list, decided)])
    if name.endswith(".csv"):
        with (tmp_path / name).open() as file:
            first, second = csv.DictReader(file)
        assert (first["propensity"], first["fallback"]) == ("0.25", "false")
    else:
        first, second = pq.read_table(tmp_path / name).to_pylist()
        assert (first["propensity"], first["fallback"]) == (0.25, False)
        assert second["decision_id"] is None
    assert first["subject_id"] == "u-1"
    assert first["subject_line"] == "b"
    assert first["subject_line.text"] == "20 % off"
    assert first["subject_line.emoji"] == "true"
    assert (first["propensity_"], second["propensity_"]) == ("x", "y")
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_an_output_that_could_not_be_written_is_refused_before_anything(tmp_path) -> None:
    (tmp_path / "there.csv").touch()
    for name, said in [("x.json", "give it one of"), ("no/x.csv", "no folder"), ("there.csv", "is there already")]:  # fmt: skip # noqa: E501
        assert said in refusal(lambda name=name: check_output(tmp_path / name))[0]


def rewards(table, columns):
    return [
        r for portion in RewardExport(table, SPRING, columns).portions() for r in portion.rewards
    ]


def test_an_export_with_a_column_for_each_metric_gives_an_event_for_each_that_happened(
    write,
) -> None:
    columns = EventColumns(metrics={"click": "clicks", "order": "revenue"}, occurred_at="at")
    table = write(
        "decision_id,clicks,revenue,at\nd-1,3,49.9,2026-11-22T09:00:00Z\nd-2,0,,\nd-3,yes,,1800000000.5\n"
    )
    converted = rewards(table, columns)
    assert [(r.decision_id, r.metric, r.value) for r in converted] == [
        ("d-1", "click", 1.0),
        ("d-1", "order", 49.9),
        ("d-3", "click", 1.0),
    ]
    assert converted[0].occurred_at == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert converted[0].event_id == rewards(table, columns)[0].event_id
    assert len({(r.decision_id, r.event_id) for r in converted}) == 3


@pytest.mark.parametrize("at", ["1800000000.5", "1800000000500", "2027-01-15T08:00:00.5Z"])
def test_export_may_count_seconds_or_milliseconds(write, at) -> None:
    columns = EventColumns(metrics={"click": "clicks"}, occurred_at="at")
    (reward,) = rewards(write(f"decision_id,clicks,at\nd-1,1,{at}\n"), columns)
    assert reward.occurred_at == datetime(2027, 1, 15, 8, 0, 0, 500_000, UTC)


def test_an_export_with_a_row_for_each_event_keeps_the_mailers_ids(write) -> None:
    columns = EventColumns(metric="what", value="worth", event="id")
    table = write("decision_id,what,worth,id\nd-1,order,20,e-1\nd-1,click,,e-2\n")
    assert [(r.event_id, r.metric, r.value) for r in rewards(table, columns)] == [
        ("e-1", "order", 20.0),
        ("e-2", "click", 1.0),
    ]


def test_an_export_uses_no_ids_of_connections(write) -> None:
    """Before: a file could report a mailer's event before the mailer did."""
    columns = EventColumns(metric="what", event="id")
    table = write("decision_id,what,id\nd-1,click,e-1\nd-1,click,connection:mailer:e-2\n")
    (detail,) = refusal(lambda: rewards(table, columns))
    assert "line 3, column 'id': must not begin with `connection:`" in detail


def test_an_export_reports_listed_events_too(write) -> None:
    columns = EventColumns(metrics={"click": "clicks", "open": "opens", "refund": "returned"})
    table = write("decision_id,clicks,opens,returned\nd-1,1,3,12.5\nd-2,,1,\n")
    assert [(r.decision_id, r.metric, r.value) for r in rewards(table, columns)] == [
        ("d-1", "click", 1.0),
        ("d-1", "open", 1.0),  # opened three times: an email counts once
        ("d-1", "refund", 12.5),
        ("d-2", "open", 1.0),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("d-1,opne,1,", "line 2, column 'worth': "),
        ("d-1,refund,-1,", "line 2, column 'worth': "),
        ("d-1,,1,", "line 2, column 'what': names no metric"),
        ("d 1,click,1,", "line 2, column 'decision_id': is no decision id"),
        ("d-1,order,9999,", "line 2, column 'worth': "),
        ("d-1,order,lots,", "'lots' is not a number"),
        ("d-1,click,1,monday", "'monday' is no date or time"),
    ],
)
def test_a_bad_row_of_an_export_is_refused_and_nothing_is_sent(write, row, said) -> None:
    columns = EventColumns(metric="what", value="worth", occurred_at="at")
    table = write(f"decision_id,what,worth,at\n{row}\n")
    sent = []
    (detail,) = refusal(lambda: RewardExport(table, SPRING, columns).send(sent.append))
    assert said in detail
    assert sent == []


def test_the_outcome_tells_what_matched_and_why_the_rest_did_not(write) -> None:
    table = write("decision_id,clicks\nd-1,1\nd-2,0\nd-3,1\nd-4,1\n")

    def take(reported):
        assert [r.decision_id for r in reported] == ["d-1", "d-3", "d-4"]
        return RewardReceipt(1, 0, 0, ["d-3"], ["d-4"])

    outcome = RewardExport(table, SPRING, EventColumns(metrics={"click": "clicks"})).send(take)
    assert (outcome.rows, outcome.accepted, outcome.unknown, outcome.early) == (4, 1, 1, 1)
    unmatched = [(u.line, u.decision_id, u.reason) for u in outcome.unmatched]
    assert unmatched == [
        (4, "d-3", "no decision has this id, or none that is still kept"),
        (5, "d-4", "before its email was decided, or activated"),
    ]


MARGIN = msgspec.structs.replace(
    SPRING,
    reward=msgspec.convert(
        {"metrics": {"click": {}, "margin": {"latest": True, "low": -50.0, "high": 50.0}}},
        RewardRule,
    ),
)


def test_an_export_of_latest_values_has_their_times_and_zeros(write) -> None:
    text = (
        "decision_id,margin,click,as_of\n"
        "d-1,7.5,0,1800000000\n"
        "d-1,7.5,0,1800000060000\n"
        "d-1,0,1,2027-01-15T08:02:00Z\n"
        "d-1,,1,\n"
    )
    columns = EventColumns(metrics={"margin": "margin", "click": "click"}, as_of="as_of")
    (portion,) = RewardExport(write(text), MARGIN, columns).portions()
    first = datetime(2027, 1, 15, 8, tzinfo=UTC)
    assert [(r.metric, r.value, r.as_of) for r in portion.rewards] == [
        ("margin", 7.5, first),
        ("margin", 7.5, first.replace(minute=1)),
        ("margin", 0.0, first.replace(minute=2)),
        ("click", 1.0, first.replace(minute=2)),
        ("click", 1.0, None),
    ]
    assert len({r.event_id for r in portion.rewards}) == 5


@pytest.mark.parametrize(
    ("columns", "place"),
    [
        (EventColumns(metrics={"margin": "margin"}), "margin: choose the column"),
        (EventColumns(metrics={"margin": "margin"}, as_of="as_of"), "line 2, column 'as_of'"),
        (EventColumns(metric="what", value="margin"), "line 2, column 'margin'"),
    ],
)
def test_an_export_of_latest_values_without_their_times_is_refused(write, columns, place) -> None:
    table = write("decision_id,what,margin,as_of\nd-1,margin,7.5,\n")
    (detail,) = refusal(lambda: list(RewardExport(table, MARGIN, columns).portions()))
    assert place in detail
    assert "the latest one counts" in detail


def test_an_export_asks_for_the_times_of_values_before_it_reads_any(write) -> None:
    columns = EventColumns(metrics={"click": "click", "margin": "margin"})
    table = write("decision_id,click,margin\nd-1,1,\n")
    (detail,) = refusal(lambda: RewardExport(table, MARGIN, columns))
    assert "margin: choose the column of the times" in detail


def test_an_export_tells_times_of_events_and_of_values_apart(write) -> None:
    text = "decision_id,click,at,as_of\nd-1,1,1800000000,\nd-1,1,,1800000000\nd-1,1,,\n"
    columns = EventColumns(metrics={"click": "click"}, occurred_at="at", as_of="as_of")
    assert len({reward.event_id for reward in rewards(write(text), columns)}) == 3


def test_an_export_names_its_columns_and_metrics_rightly(write) -> None:
    table = write("decision_id,clicks\nd-1,1\n")
    for columns, said in [
        (EventColumns(), "name either"),
        (EventColumns(metrics={"opne": "clicks"}), "unknown metric 'opne'; known are click"),
        (EventColumns(metrics={"click": "opens"}), "no column 'opens'; columns are decision_id"),
    ]:
        assert said in refusal(lambda columns=columns: RewardExport(table, SPRING, columns))[0]
