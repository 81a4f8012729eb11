"""The database goes away or is full, under load: senders wait, nothing is lost, all goes on."""

import resource

import httpx

from tests.patience import wait_until

_ROOM = 65_536  # bytes that the files may still grow


def refusal(api: httpx.Client, asked: set[str]) -> httpx.Response:
    """Ask until a decision is refused; return the refusal."""

    def ask() -> httpx.Response:
        made = f"asked-{len(asked)}"
        asked.add(made)
        body = {"subject_id": "anybody", "decision_id": made}
        return api.post("/api/v1/experiments/spring/choose", json=body)

    return wait_until(ask, "refusal", lambda answer: answer.status_code not in {200, 201})


def check_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/unavailable"


def test_a_restart_of_postgresql_is_waited_for_by_senders_and_by_the_server(
    restartable, start_server, start_load
) -> None:
    server = start_server(
        "--workers", "2", database_url=restartable.get_uri(), BANDITS_WAIT_SECONDS="8"
    )
    load = start_load(server)
    with server.client() as api:
        for _ in range(2):
            load.await_more(200)
            restartable.stop()
            check_refused(refusal(api, load.ledger.asked))
            wait_until(
                lambda: api.get("/readyz").status_code, "not ready", lambda code: code == 503
            )
            assert api.get("/healthz").status_code == 200
            restartable.ensure_postgres_running()
            load.await_more(200)
            assert api.get("/readyz").status_code == 200

        def version() -> int:
            return api.get("/api/v1/experiments/spring").json()["policy_version"]

        before = version()
        wait_until(version, "fold after the restart", lambda newest: newest > before)
    load.stop()
    assert server.stop() == 0
    load.check()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_full_disk_refuses_cleanly_and_goes_on_once_there_is_room(
    start_server, start_load
) -> None:
    server = start_server()
    load = start_load(server)
    load.await_more(200)
    files = [server.database.with_name(f"bandits.db{ending}") for ending in ("", "-wal")]
    full = max(file.stat().st_size for file in files) + _ROOM
    # A file that may not grow, rather than a file system: it needs no right to mount.
    processes = (server.process.pid, server.worker)
    before = {p: resource.prlimit(p, resource.RLIMIT_FSIZE) for p in processes}
    for process, (_, hard) in before.items():
        resource.prlimit(process, resource.RLIMIT_FSIZE, (full, hard))
    with server.client() as api:
        check_refused(refusal(api, load.ledger.asked))
        ids = [f"many-{i}" for i in range(5_000)]
        many = [{"subject_id": i, "decision_id": i} for i in ids]
        path = "/api/v1/experiments/spring/choose/batch"
        check_refused(api.post(path, json={"requests": many}))
        assert api.get("/readyz").status_code == 200  # what is there can be read
        assert api.get("/api/v1/experiments/spring/results").status_code == 200
        for process, limits in before.items():
            resource.prlimit(process, resource.RLIMIT_FSIZE, limits)
        load.await_more(200)
        # Whoever was refused was not decided for: now it works, as the first time.
        assert api.post(path, json={"requests": many}).status_code == 201
    load.ledger.asked.update(ids)
    load.stop()
    assert server.stop() == 0
    load.check()
    said = server.log.read_text()
    assert "choose/batch failed: the database does not answer" in said
    assert "Traceback" not in said, "where it was noticed is of no use to an operator"
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
