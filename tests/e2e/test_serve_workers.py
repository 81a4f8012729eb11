"""Several workers on one PostgreSQL database answer as one server."""

import re
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.patience import LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE

TURNS = 16
ROUNDS = 30


def test_workers_on_postgresql_decide_once_for_each_subject(start_server, postgresql) -> None:
    server = start_server("--workers", "2", database_url=postgresql.empty())
    declared = EXAMPLE | {"assignment": "per_subject", "learn_every_seconds": 0.1}
    declared["reward"] = {"metrics": {"click": {}}, "maturity_seconds": 0}
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=declared).status_code == 201
        assert api.post("/api/v1/experiments/spring/start").status_code == 200

    def send(turn: int) -> dict[str, str]:
        """Ask for the same subjects as the others of a round, in an order of one's own."""
        subjects = [f"u-{turn // TURNS}-{i}" for i in range(200)]
        rows = [{"subject_id": s} for s in (subjects if turn % 2 else reversed(subjects))]
        with server.client() as client:  # a connection of its own, so any worker may answer
            answer = client.post("/api/v1/experiments/spring/choose/batch", json={"requests": rows})
            assert answer.status_code in {200, 201}, answer.text
            decided = answer.json()["decisions"]
            made = {r["subject_id"]: d["decision_id"] for r, d in zip(rows, decided, strict=True)}
            metrics = client.get("/metrics").text
        made["process"] = re.findall(r'process="(\d+)"', metrics)[0]
        return made

    processes: set[str] = set()
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, ROUNDS * TURNS, TURNS):  # who answers is the kernel's choice
            answers = list(pool.map(send, range(start, start + TURNS)))
            processes = {made.pop("process") for made in answers}
            assert all(made == answers[0] for made in answers)
            if len(processes) == 2:
                break
    assert len(processes) == 2, "both workers answered for the same subjects"
    assert httpx.get(f"{server.url}/readyz", timeout=LIMIT_SECONDS).status_code == 200
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    verified = server.bandits("verify", check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
