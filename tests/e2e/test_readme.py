"""The README's first five minutes work as pasted."""

import re
import subprocess
import sys
from pathlib import Path

from tests.patience import LIMIT_SECONDS

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000"


def pasted(section: str) -> str:
    """Put the blocks of a section into one shell script, Python run by the Python here."""
    text = README.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    script = ["set -e"]
    for language, block in re.findall(
        r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    ):
        script.append(block if language == "sh" else f"python - <<'END'\n{block}END")
    assert len(script) > 2
    return "\n".join(script)


def run(script: str, folder: Path, **added: str) -> str:
    """Paste a script into a shell that has only our programs and the system's."""
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **added}
    command = ["/bin/sh", "-c", script]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_sender_makes_a_campaign_gets_an_email_and_reports_a_click(
    start_server, tmp_path
) -> None:
    server = start_server()
    script = pasted("You send the emails")
    assert script.count(ADDRESS) == 2
    given = {"BANDITS_DATABASE_URL": server.database_url, "BANDITS_URL": server.url}
    said = run(script.replace(ADDRESS, server.url), tmp_path, **given)
    assert re.search(r"^send [ab] chosen with 0\.5$", said, re.MULTILINE)
    assert "RewardReceipt(accepted=1, repeated=0, late=0, unknown=[], early=[], " in said
    header, *choices = (tmp_path / "choices.csv").read_text().splitlines()
    assert header.startswith('"subject_id","decision_id","subject_line","subject_line.text"')
    assert len(choices) == 2
    with server.client() as api:
        assert api.get("/api/v1/experiments/spring").json()["state"] == "running"


def test_a_researcher_compares_policies_in_python(tmp_path) -> None:
    block = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)[-1]
    assert "simulate(" in block
    small = block.replace("horizon=20_000,", "horizon=2_000, replications=20,")
    assert small != block
    said = run(f"python - <<'END'\n{small}END", tmp_path)
    assert "thompson" in said
