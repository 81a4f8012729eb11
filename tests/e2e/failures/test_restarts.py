"""Restarts on a socket that systemd keeps open: under load, no connection is refused or lost."""

import pytest

from tests.conftest import SOAK

KINDS = ["sqlite", "postgresql"] if SOAK else ["sqlite"]
RESTARTS = 8 if SOAK else 1
DRAIN_SECONDS = "1.5"  # longer than a caller on a busy machine is kept between two of its steps


@pytest.mark.parametrize("kind", KINDS)
def test_restart_on_a_socket_of_systemd_refuses_no_connection_and_loses_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    kind, listener, start_server, start_load, start_callers, gentle, request
) -> None:
    options: tuple[str, ...] = ()
    where = {"listener": listener, "BANDITS_DRAIN_SECONDS": DRAIN_SECONDS}
    if kind == "postgresql":
        where |= {"database_url": request.getfixturevalue("postgresql").empty()}
        options = ("--workers", "2")
    server = start_server(*options, **where)
    port = listener.getsockname()[1]
    assert server.url == f"http://127.0.0.1:{port}", "the socket comes before --port"
    load = start_load(server, pace=gentle)
    callers = start_callers(port)
    for _ in range(RESTARTS):
        callers.await_more(20)
        load.await_more(20)
        assert server.stop() == 0
        server.process.stdout.close()
        server = start_server(*options, **where)
    load.await_more(20)
    report = callers.await_more(20)
    load.stop()
    assert server.stop() == 0
    load.check()
    assert report["failures"] == []
    assert report["counts"]["ended"] >= 1, "connections that were kept were ended with an answer"
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
