"""Parts of the server by themselves: the lock, the address, metrics, logs, settings."""

import json
import logging
import re
import socket
import sys
import time
from contextlib import closing, nullcontext
from types import SimpleNamespace

import pytest

from bandits.errors import InvalidInput, Unavailable
from bandits.schemas import Decision
from storage import open_store
from webapp import worker
from webapp.log_config import JsonFormatter, NoiseFilter, TextFormatter
from webapp.metrics import RequestMetrics, family
from webapp.server import Address, PortInUse, create_set_up_link, reserve, warn_if_open
from webapp.settings import Settings
from webapp.worker import FileLock


def test_file_lock_is_held_by_one_and_names_its_holder(tmp_path) -> None:
    path = tmp_path / "bandits.db.lock"
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    with pytest.raises(Unavailable, match=r"process \d+ already serves .*/bandits\.db$"):
        second.acquire(wait_seconds=0.1)
    first.release()
    second.acquire(wait_seconds=0)
    second.release()


@pytest.mark.parametrize(("ends_after", "taken"), [(4.0, True), (6.0, False)])
def test_file_lock_is_waited_for_five_seconds_unless_told_otherwise(
    tmp_path, monkeypatch, ends_after, taken
) -> None:
    first, second = (FileLock(tmp_path / "bandits.db.lock") for _ in range(2))
    first.acquire()
    clock = SimpleNamespace(now=0.0)

    def pause(seconds: float) -> None:
        clock.now += seconds
        if clock.now >= ends_after:
            first.release()

    clocks = SimpleNamespace(monotonic=lambda: clock.now, sleep=pause)
    monkeypatch.setattr(worker, "time", clocks)
    with nullcontext() if taken else pytest.raises(Unavailable):
        second.acquire()
    assert clock.now == pytest.approx(min(ends_after, 5.0), abs=0.1)
    for lock in (first, second):
        lock.release()


def test_file_lock_says_the_process_that_holds_it_now(tmp_path) -> None:
    path = tmp_path / "bandits.db.lock"
    path.write_text("12345678 who held it once\n")
    lock = FileLock(path)
    lock.acquire()
    assert path.read_text().strip().isdecimal()
    assert "12345678" not in path.read_text()
    lock.release()


def test_an_address_is_reserved_with_a_free_port() -> None:
    with reserve(Address("127.0.0.1", 0)) as address:
        assert address.port > 0
        assert str(address) == f"http://127.0.0.1:{address.port}"
    assert str(Address("::1", 80)) == "http://[::1]:80"


def test_an_address_that_is_listened_at_or_is_nobodys_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        refusal = rf"port {port} of 127\.0\.0\.1 is in use"
        with pytest.raises(PortInUse, match=refusal), reserve(Address("127.0.0.1", port)):
            pass
    with pytest.raises(Unavailable, match="cannot be used"), reserve(Address("192.0.2.1", 0)):
        pass


@pytest.mark.parametrize(
    ("host", "proxies", "lines"),
    [
        ("0.0.0.0", "", 1),  # noqa: S104 - which is warned of
        ("::", "", 1),
        ("192.0.2.1", "", 1),
        ("bandits.example", "", 1),
        ("0.0.0.0", "10.0.0.5", 0),  # noqa: S104 - behind a proxy
        ("127.0.0.1", "", 0),
        ("127.0.0.2", "", 0),
        ("::1", "", 0),
        ("localhost", "", 0),
    ],
)
def test_warning_of_an_address_that_is_open_without_a_proxy(caplog, host, proxies, lines) -> None:
    warn_if_open(Address(host, 8000), proxies)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == lines
    for message in messages:
        assert str(Address(host, 8000)) in message
        assert "without TLS" in message
        assert "\n" not in message


def test_requests_are_counted_and_their_times_sorted_into_buckets() -> None:
    requests = RequestMetrics()
    for seconds in (0.0005, 0.001, 0.3, 99.0):
        requests.count_request("/x", "GET", 200, seconds)
    requests.count_request("/x", "POST", 503, 0.02)
    lines = [re.sub(r',process="\d+"', "", line) for line in requests.lines()]
    plain = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert plain['bandits_requests_total{route="/x",method="GET",status="200"}'] == "4"
    assert plain['bandits_requests_total{route="/x",method="POST",status="503"}'] == "1"
    assert plain['bandits_request_seconds_bucket{route="/x",le="0.001"}'] == "2"
    assert plain['bandits_request_seconds_bucket{route="/x",le="10.0"}'] == "4"
    assert plain['bandits_request_seconds_bucket{route="/x",le="+Inf"}'] == "5"
    assert plain['bandits_request_seconds_count{route="/x"}'] == "5"
    assert float(plain['bandits_request_seconds_sum{route="/x"}']) == pytest.approx(99.3215)


def test_a_fallback_is_counted_as_one_whatever_else_it_is() -> None:
    work = RequestMetrics()
    for n in (1, 3):
        work.count_decisions("spring", [Decision("d", {}, 1.0, 2, n == 3, fallback=True)] * n)
    (line,) = [n for n in work.lines() if n.startswith("bandits_decisions_total")]
    assert line.startswith('bandits_decisions_total{experiment="spring",outcome="fallback"')
    assert line.endswith(" 4")


def test_metric_labels_are_escaped() -> None:
    assert family("m", "gauge", "x", [({"k": 'a"b\\c\nd'}, 1)])[-1] == 'm{k="a\\"b\\\\c\\nd"} 1'


def record(message: str, **beside: object) -> logging.LogRecord:
    log_record = logging.LogRecord("bandits.x", logging.INFO, "", 0, message, (), None)
    log_record.__dict__.update(beside)
    return log_record


def test_log_record_is_one_line_for_people_and_one_object_for_machines() -> None:
    log_record = record("learned", experiment="spring", milliseconds=0.5, route="/x")
    text = TextFormatter().format(log_record)
    assert text.endswith("INFO    bandits.x: learned experiment=spring milliseconds=0.5")
    entry = json.loads(JsonFormatter().format(log_record))
    assert entry["message"] == "learned"
    assert entry["experiment"] == "spring"
    assert entry["level"] == "info"
    assert entry["route"] == "/x"


def test_a_failure_is_logged_with_its_trace() -> None:
    log_record = record("broke\nin two")
    try:
        int("inside")
    except ValueError:
        log_record.exc_info = sys.exc_info()
    written = JsonFormatter().format(log_record)
    assert "\n" not in written
    assert "ValueError: invalid literal" in json.loads(written)["traceback"]


def test_noise_filter_keeps_messages_of_the_web_server_that_do_not_mislead() -> None:
    assert NoiseFilter().filter(record("Killing worker-1 after it refused"))
    assert not NoiseFilter().filter(record("Configuration allows spawning up to 64 threads"))


def test_setting_is_read_from_flag_then_variable_then_default() -> None:
    environment = {"BANDITS_DATABASE_URL": "sqlite:///b.db", "BANDITS_ACCESS_LOG": "true"}
    read = Settings.read(environment, database_url="sqlite:///a.db", log_format=None)
    assert read.database_url == "sqlite:///a.db"
    assert read.access_log is True
    assert read.log_format == "text"


def test_a_variable_that_does_not_fit_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.read({"BANDITS_MAX_BODY_BYTES": "12"})
    assert [f.pointer for f in caught.value.faults] == ["BANDITS_MAX_BODY_BYTES"]


class TestSetUpLink:
    @pytest.fixture
    def store(self, sqlite):
        with closing(open_store(sqlite.upgraded())) as new_store:
            yield new_store

    @pytest.mark.parametrize(
        ("host", "settings", "start"),
        [
            ("127.0.0.1", {}, "http://127.0.0.1:8000/set-up#"),
            ("0.0.0.0", {}, "http://127.0.0.1:8000/set-up#"),  # noqa: S104 - not listened at
            ("::", {}, "http://[::1]:8000/set-up#"),
            ("127.0.0.1", {"url_prefix": "/mail"}, "http://127.0.0.1:8000/mail/set-up#"),
            ("127.0.0.1", {"public_url": "https://x.example/"}, "https://x.example/set-up#"),
        ],
    )
    def test_set_up_link_begins_where_people_reach_the_server(self, store, host, settings, start):
        link = create_set_up_link(Settings(**settings), Address(host, 8000), store)
        assert link.startswith(start)
        assert store.accounts.links.find("set-up", link.removeprefix(start), at=time.time())

    def test_set_up_link_is_not_made_once_somebody_has_an_account_or_a_provider_does(self, store):
        address = Address("127.0.0.1", 8000)
        provided = Settings(oidc_issuer="https://provider.example")
        assert create_set_up_link(provided, address, store) is None
        store.accounts.add_user("ann@shop.example", "hash", "viewer", at=1.0, by="test")
        assert create_set_up_link(Settings(), address, store) is None
