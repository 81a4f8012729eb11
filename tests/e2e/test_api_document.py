"""The first call of docs/api.md works as pasted."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.patience import LIMIT_SECONDS

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHELL, PYTHON = (next(text for kind, text in EXAMPLES if kind == k) for k in ("sh", "python"))


def test_first_call_of_the_api_page_works_as_pasted(start_server, tmp_path) -> None:
    server = start_server()
    pasted = f"{SHELL}\npython - <<'END'\n{PYTHON}END\n"
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    given = {"PATH": os.pathsep.join(paths), "BANDITS_DATABASE_URL": server.database_url}
    done = subprocess.run(
        # Only the port is another: 8000 may be in use here.
        [
            "/bin/bash",
            "-euo",
            "pipefail",
            "-c",
            pasted.replace("http://127.0.0.1:8000", server.url),
        ],
        cwd=tmp_path,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"decision_id":"spring-u-1"' in done.stdout
    assert done.stdout.count('"accepted":1') == 1
    assert "accepted=1" in done.stdout
