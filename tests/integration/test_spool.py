"""Spool: what was appended is handed over, whatever happens in between."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from bandits.errors import Unavailable
from storage import spool as spool_module
from storage.connections import Cipher
from storage.spool import Spool, SpoolFull, SpoolRecord
from tests.patience import LIMIT_SECONDS, wait_until

KEY = "k" * 40
NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def opened(folder) -> Iterator[Callable[..., Spool]]:
    """Open spools in the folder, by the keys that are given."""
    spools: list[Spool] = []

    def open_spool(*keys: str, **options) -> Spool:
        spools.append(Spool(folder, Cipher(keys), **options))
        return spools[-1]

    yield open_spool
    for spool in spools:
        spool.close()


@pytest.fixture
def spool(opened) -> Spool:
    return opened()


def record(text: str = "one", *, at: float = NOW) -> SpoolRecord:
    return SpoolRecord("links", at, b"head", text.encode())


def texts(records) -> list[str]:
    return [r.text.decode() for r in records]


def drained(spool: Spool, *, now: float = NOW, keep: str = "", wait: float = 30.0) -> list[str]:
    """Drain it, and return the texts of what was handed over; those with `keep` wait."""
    seen: list[SpoolRecord] = []

    def handle(records):
        seen.extend(records)
        return [r for r in records if keep and keep in r.text.decode()]

    count = spool.drain(handle, now=now, wait_seconds=wait)
    assert count == len(seen)
    return texts(seen)


def files(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name != "drain.lock"]


def test_records_are_handed_over_in_order_once(spool, folder):
    for i in range(5):
        spool.append(record(str(i)))
    assert drained(spool) == ["0", "1", "2", "3", "4"]
    assert drained(spool) == []
    assert files(folder) == []
    spool.append(record("again"))
    assert drained(spool) == ["again"]


def test_drain_of_no_folder_makes_none(spool, folder):
    assert drained(spool) == []
    assert spool.find(["x"]) == []
    assert spool.size() == 0
    assert not folder.exists()


def test_portions_are_bounded_by_number_and_by_size(spool, monkeypatch):
    monkeypatch.setattr(spool_module, "_MOST_RECORDS", 3)
    monkeypatch.setattr(spool_module, "_PORTION_BYTES", 1000)
    for size in (1, 1, 1, 1, 2000, 1):
        spool.append(record("x" * size))
    portions: list[int] = []

    def handle(records):
        portions.append(len(records))
        return []

    assert spool.drain(handle, now=NOW, wait_seconds=1.0) == 6
    assert portions == [3, 2, 1]


def test_folder_and_files_are_private(spool, folder):
    spool.append(record())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o600}


def test_records_are_encrypted_where_there_is_a_key(opened, folder):
    secret = opened(KEY)
    secret.append(record("ann@shop.example"))
    (file,) = files(folder)
    assert b"ann@shop" not in file.read_bytes()
    assert drained(opened("o" * 40)) == []  # of another key: they stay
    assert drained(opened("o" * 40, KEY)) == ["ann@shop.example"]


def test_failed_drain_keeps_everything(spool):
    spool.append(record("a"))

    def fail(_records):
        raise Unavailable("away")

    for _ in range(3):
        with pytest.raises(Unavailable):
            spool.drain(fail, now=NOW, wait_seconds=1.0)
        spool.append(record("b"))
    assert sorted(drained(spool)) == ["a", "b", "b", "b"]


def test_outage_makes_few_files(spool, folder):
    def fail(_records):
        raise Unavailable("away")

    for _ in range(50):
        spool.append(record())
        with pytest.raises(Unavailable):
            spool.drain(fail, now=NOW, wait_seconds=1.0)
    assert len(files(folder)) == 2
    assert len(drained(spool)) == 50


def test_waiting_records_come_again_later(spool):
    for text in ("wait", "done"):
        spool.append(record(text))
    assert drained(spool, keep="wait") == ["wait", "done"]
    assert drained(spool, now=NOW + 29) == []
    assert drained(spool, now=NOW + 31, keep="wait") == ["wait"]
    assert drained(spool, now=NOW + 62) == ["wait"]
    assert drained(spool, now=NOW + 999) == []


def test_writers_and_drains_at_the_same_time_lose_nothing(spool, opened, monkeypatch):
    monkeypatch.setattr(spool_module, "_SEGMENT_BYTES", 2000)
    done, seen = Event(), []

    def drain() -> None:
        other = opened()  # as the launcher has another one
        while not done.is_set():
            seen.extend(drained(other))
        seen.extend(drained(other))

    def write(writer: int) -> None:
        own = spool if writer < 4 else opened()
        for i in range(20):
            own.append(record(f"{writer}-{i}"))

    with ThreadPoolExecutor(9) as pool:
        draining = pool.submit(drain)
        writing = [pool.submit(write, writer) for writer in range(8)]
        try:
            for future in writing:
                future.result(LIMIT_SECONDS)
        finally:
            done.set()
        draining.result(LIMIT_SECONDS)
    assert Counter(seen) == Counter(f"{w}-{i}" for w in range(8) for i in range(20))


WRITER = """
import sys
from pathlib import Path
from storage.connections import Cipher
from storage.spool import Spool, SpoolRecord
spool = Spool(Path(sys.argv[1]), Cipher())
i = 0
while True:
    spool.append(SpoolRecord("links", 0.0, b"", str(i).encode()))
    print(i, flush=True)
    i += 1
"""


def test_record_of_a_killed_writer_is_there_if_it_was_answered(spool, folder):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as writer:
        for _ in range(30):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    answered = max([29, *map(int, rest)])
    seen = [int(text) for text in drained(spool)]
    assert seen == list(range(len(seen)))
    assert len(seen) in {answered + 1, answered + 2}  # the last one may not have been told


@pytest.mark.parametrize("cut", [1, 7, 9, 20])
def test_file_that_a_crash_cut_off_gives_all_before(spool, folder, cut):
    spool.append(record("whole"))
    (file,) = files(folder)
    end = file.stat().st_size
    spool.append(record("torn"))
    with file.open("r+b") as opened:
        opened.truncate(end + cut)
    assert drained(spool) == ["whole"]
    assert files(folder) == []


@pytest.mark.parametrize("content", [b"", b"bandits", b"bandits spool 1\n"])
def test_file_without_a_record_is_removed(spool, folder, content):
    spool.append(record())
    empty = folder / "99-x.live"
    empty.write_bytes(content)
    assert drained(spool) == ["one"]
    assert files(folder) == [empty]  # somebody may be about to write to it
    os.utime(empty, (1.0, 1.0))
    assert drained(spool) == []
    assert files(folder) == []


def test_file_of_another_version_stays(spool, folder, caplog):
    spool.append(record())
    (folder / "99-x.live").write_bytes(b"bandits spool 9\nxyz")
    assert drained(spool) == ["one"]
    assert len(files(folder)) == 1
    assert "another version" in caplog.text
    with pytest.raises(Unavailable, match="another version"):
        spool.erase(["ann"])


def test_full_spool_takes_nothing_and_loses_nothing(opened):
    spool = opened(most_bytes=2000)
    sent = [record(f"{i:0100}") for i in range(20)]
    taken = 0
    with suppress(SpoolFull):
        for one in sent:
            spool.append(one)
            taken += 1
    assert 5 < taken < 20
    with pytest.raises(SpoolFull, match="at most 2,000"):
        spool.append(sent[-1])
    assert drained(spool) == texts(sent[:taken])


def test_full_disk_leaves_no_part_of_a_record(spool, folder, monkeypatch):
    spool.append(record("before"))
    write, calls = os.write, []

    def fill(number: int, content: bytes) -> int:
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(number)
        return write(number, bytes(content[:5]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        with pytest.raises(SpoolFull, match="No space left"):
            spool.append(record("lost"))
    spool.append(record("after"))
    assert sorted(drained(spool)) == ["after", "before"]


def test_erase_removes_what_names_a_subject_and_no_more(opened):
    spool = opened(KEY)
    for text in (
        '{"decision_ids": ["ann-1"]}',
        '[{"email": "Ann@Shop.example"}]',
        "who=ann%40shop.example&x=1",
        '{"decision_ids": ["bob-1"]}',
    ):
        spool.append(record(text))
    names = ["ann@shop.example", "ann-1"]
    assert len(spool.find(names)) == 3
    assert spool.erase(names) == 3
    assert spool.erase(names) == 0
    spool.append(record("late"))
    assert drained(spool) == ['{"decision_ids": ["bob-1"]}', "late"]


def test_erase_waits_for_a_drain_that_has_begun(spool, opened):
    spool.append(record("ann-1"))
    begun, go_on = Event(), Event()

    def handle(_records):
        begun.set()
        assert go_on.wait(LIMIT_SECONDS)
        return []

    with ThreadPoolExecutor(2) as pool:
        draining = pool.submit(spool.drain, handle, now=NOW, wait_seconds=1.0)
        assert begun.wait(LIMIT_SECONDS)
        erasing = pool.submit(opened().erase, ["ann-1"])
        go_on.set()
        assert draining.result(LIMIT_SECONDS) == 1
        assert erasing.result(LIMIT_SECONDS) == 0


def test_rewritten_file_that_a_crash_left_half_is_no_second_one(spool, folder):
    spool.append(record())
    (folder / "00000000000000-00000000000000000000.new").write_bytes(b"bandits spool 1\nhalf")
    assert drained(spool) == ["one"]
    assert files(folder) == []


def test_spool_in_a_link_or_a_strange_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Unavailable, match="link"):
        Spool(tmp_path / "link", Cipher()).append(record())


def test_threads_that_append_together_share_a_sync(spool, monkeypatch):
    sync, count, gate = os.fsync, [], Event()

    def slow(number: int) -> None:
        count.append(number)
        assert gate.wait(LIMIT_SECONDS)
        sync(number)

    spool.append(record("first"))  # which makes the file
    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor(17) as pool:
        leader = pool.submit(spool.append, record("leader"))
        wait_until(lambda: count, "sync")
        others = [pool.submit(spool.append, record(str(i))) for i in range(16)]
        wait_until(lambda: len(spool._queue), "queue", lambda n: n == 16)
        gate.set()
        for future in (leader, *others):
            future.result(LIMIT_SECONDS)
    assert len(count) == 2
    assert len(drained(spool)) == 18
