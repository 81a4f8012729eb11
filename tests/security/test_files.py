"""Files and caches: what the server stores is for its user alone, and browsers keep none of it."""

import io
import os
import stat
from contextlib import closing

import pytest

from bandits.errors import Unavailable
from storage import open_store, upgrade
from webapp.jobs.uploads import Uploads, uploads_folder
from webapp.settings import Settings
from webapp.worker import FileLock


def mode(path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def careless():
    """A shell whose new files everybody may read and write."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path / "files")


def add(uploads):
    content = io.BytesIO(b"id\nanna@shop.example\n")
    return uploads.add("sale", "recipients", content, "people.csv", at=0.0, by="test")


def test_database_and_its_neighbours_are_private(tmp_path) -> None:
    """Before 0644 under the usual umask: every user of the machine could read all of it."""
    url = f"sqlite:///{tmp_path}/bandits.db"
    upgrade(url)
    with closing(open_store(url)) as store:
        store.secret("subjects")
        modes = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["bandits.db", "bandits.db-wal", "bandits.db-shm"], 0o600)


def test_database_that_others_could_read_is_made_private(tmp_path) -> None:
    path = tmp_path / "bandits.db"
    upgrade(f"sqlite:///{path}")
    path.chmod(0o644)
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.secret("subjects")
    assert mode(path) == 0o600


def test_server_files_are_private(impatient) -> None:
    names = {path.name: mode(path) for path in impatient.folder.glob("bandits.db*")}
    assert names.pop("bandits.db.lock") == 0o600
    assert set(names.values()) == {0o600}


def test_lock_is_private_and_its_own(tmp_path) -> None:
    lock = FileLock(tmp_path / "bandits.db.lock")
    lock.acquire(0)
    assert mode(lock.path) == 0o600
    lock.release()


def test_lock_that_is_a_link_is_refused(tmp_path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "bandits.db.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(Unavailable, match="cannot be used"):
        FileLock(tmp_path / "bandits.db.lock").acquire(0)
    assert (tmp_path / "precious").read_text() == "kept"


def test_lock_of_another_user_is_refused(tmp_path, monkeypatch) -> None:
    """Another user could make the file first, hold it, and keep the server from starting."""
    path = tmp_path / "bandits.db.lock"
    path.touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Unavailable, match="another user"):
        FileLock(path).acquire(0)


def test_uploads_are_private(uploads, tmp_path) -> None:
    upload = add(uploads)
    with uploads.open_answer(upload) as answer:
        answer.write(b"line\n")
    held = uploads.hold(upload)
    held.close()
    folders = [tmp_path / "files", tmp_path / "files" / upload.id]
    assert [mode(folder) for folder in folders] == [0o700] * 2
    assert {mode(path) for path in folders[1].iterdir()} == {0o600}


def test_uploads_folder_that_others_may_enter_is_closed(uploads, tmp_path) -> None:
    (tmp_path / "files").mkdir(mode=0o777)
    add(uploads)
    assert mode(tmp_path / "files") == 0o700


def test_uploads_folder_that_is_a_link_is_refused(uploads, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="a link"):
        add(uploads)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_uploads_folder_of_another_user_is_refused(uploads, tmp_path, monkeypatch) -> None:
    (tmp_path / "files").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Unavailable, match="another user"):
        add(uploads)


def test_uploads_follow_no_link_in_their_folder(uploads, tmp_path) -> None:
    upload = add(uploads)
    place = tmp_path / "files" / upload.id
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    assert uploads.list_for("sale") == []
    (tmp_path / "precious").write_bytes(b"kept")
    second = add(uploads)
    uploads.answer(second).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        uploads.open_answer(second)
    assert (tmp_path / "precious").read_bytes() == b"kept"


@pytest.mark.parametrize("upload_id", ["..", ".", "%2e%2e", "0" * 15, "x" * 16])
def test_uploads_are_found_by_their_ids_alone(manager, site, upload_id) -> None:
    site.make()
    assert manager.get(f"/experiments/sale/files/{upload_id}").status_code in {302, 308, 404}


@pytest.mark.parametrize(
    ("environment", "parent"),
    [
        ({"STATE_DIRECTORY": "/var/lib/bandits"}, "/var/lib/bandits"),
        ({"XDG_STATE_HOME": "/home/b/state"}, "/home/b/state/bandits"),
        ({"HOME": "/home/b"}, "/home/b/.local/state/bandits"),
    ],
)
def test_uploads_folder_is_in_no_shared_folder(monkeypatch, environment, parent) -> None:
    """Before in /tmp under a name that anybody could foresee, and make first."""
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = uploads_folder(Settings(database_url="postgresql://localhost/bandits"))
    assert str(folder.parent) == parent


def test_private_pages_and_exports_are_not_stored(site, manager) -> None:
    site.make()
    paths = ["/", "/settings", "/settings/keys", "/experiments/sale", "/sign-in"]
    paths += ["/experiments/sale/results.csv", "/experiments/sale/results.json"]
    for path in paths:
        answer = manager.get(path)
        assert answer.status_code in {200, 302}, path
        assert answer.headers["Cache-Control"] == "no-store", path
    form = manager.get("/new-experiment/one-page")
    assert form.headers["Cache-Control"] in {"private, no-cache", "no-store"}


def test_answers_of_the_api_are_not_stored(api) -> None:
    api.start()
    answers = [api.get("/experiments/spring"), api.post("/experiments/spring/choose", {})]
    answers += [api.post("/experiments/spring/choose", {"subject_id": "u"})]
    assert [a.headers["Cache-Control"] for a in answers] == ["no-store"] * 3
