"""The server's clock is stepped by a day under load, forth and back: nothing is lost."""

from pathlib import Path

from tests.patience import wait_until

DAY = 86_400.0
_CLOCK = """
import time

_steady = time.time


def _stepped():
    with open({path!r}) as file:
        return _steady() + float(file.read() or 0)


time.time = _stepped
"""


def test_clock_stepped_by_a_day_loses_nothing_and_learning_goes_on(
    tmp_path, start_server, start_load
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    folder = tmp_path / "clock"
    folder.mkdir()
    Path(folder, "sitecustomize.py").write_text(_CLOCK.format(path=str(offset)))
    server = start_server(PYTHONPATH=str(folder))
    load = start_load(server)
    with server.client() as api:

        def version() -> int:
            return api.get("/api/v1/experiments/spring").json()["policy_version"]

        for days in (1, -1):
            stepped = offset.with_suffix(".new")
            stepped.write_text(str(days * DAY))
            stepped.replace(offset)  # never empty
            load.await_more(50)
            before = version()
            wait_until(version, "fold after the step", lambda newest, v=before: newest > v)
            assert api.get("/readyz").status_code == 200
    load.stop()
    assert server.stop() == 0
    load.check()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
