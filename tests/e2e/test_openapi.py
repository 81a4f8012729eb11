"""The served OpenAPI document against the server itself, by schemathesis, with all its checks."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import SOAK
from tests.patience import LIMIT_SECONDS, SOAK_SECONDS
from webapp.api.experiments import EXAMPLE

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
METHODS = {"get", "put", "post", "delete", "patch"}

# A run that revoked its own key, or stopped the experiment it works on, would test little else.
AIMED = """
[[operations]]
include-operation-id = ["choose", "choose_batch", "read_experiment", "edit_experiment",
                        "start_experiment", "pause_experiment", "read_results"]
parameters = { "path.key" = "spring" }

[[operations]]
include-operation-id = ["revoke_key", "rotate_key", "limit_key"]
parameters = { "path.key_id" = 2 }
"""


def test_schemathesis_finds_nothing_wrong(start_server, tmp_path) -> None:
    server = start_server()
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=EXAMPLE).status_code == 201
        assert api.post("/api/v1/experiments/spring/start").status_code == 200
        assert api.post("/api/v1/keys", json={"name": "n", "scopes": ["read"]}).status_code == 201
        paths = api.get("/api/v1/openapi.json").json()["paths"].values()
    operations = sum(method in METHODS for path in paths for method in path)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text((ROOT / "schemathesis.toml").read_text() + AIMED)
    command = [SCHEMATHESIS, "--config-file", configuration, "run"]
    options = {"--max-examples": 40 if SOAK else 3, "--seed": 1, "--warnings": "off"}
    options |= {"--request-timeout": LIMIT_SECONDS}
    command += [f"{server.url}/api/v1/openapi.json", "-H", f"Authorization: Bearer {server.token}"]
    command += [str(word) for option in options.items() for word in option]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=SOAK_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    passed = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert tested is not None
    assert int(tested[1]) == operations - 1 > 40  # all but the document itself
    assert passed is not None
    assert int(passed[1]) == int(passed[2])
    assert int(passed[1]) > (2000 if SOAK else 500)
    assert "Traceback" not in server.log.read_text()
