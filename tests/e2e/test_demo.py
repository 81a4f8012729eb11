"""`bandits demo`, as a newcomer starts it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from storage import open_store
from tests.patience import LIMIT_SECONDS, wait_until

BANDITS = Path(sys.executable).with_name("bandits")


class Demo:
    """A running demo, and what it printed."""

    def __init__(self, folder: Path, *options: str) -> None:
        own = {k: v for k, v in os.environ.items() if not k.startswith("BANDITS_")}
        self.errors, printed = folder / "demo.err", folder / "demo.out"
        with self.errors.open("ab") as errors, printed.open("wb") as out:
            self.process = subprocess.Popen(
                [BANDITS, "demo", "--port", "0", *options],
                stdout=out,
                stderr=errors,
                cwd=folder,
                env=own | {"TMPDIR": str(folder)},
            )

        def said() -> str:
            assert self.process.poll() is None, self.errors.read_text()
            return printed.read_text()

        self.said = wait_until(said, "greeting of the demo", lambda text: "Ctrl-C" in text)

    def told(self, label: str) -> str:
        return re.search(rf"^ +{label} +(\S+)$", self.said, re.MULTILINE)[1]

    def sign_in(self) -> httpx.Client:
        page = self.told("Open")
        client = httpx.Client(
            base_url=page.split("/experiments")[0], follow_redirects=True, timeout=LIMIT_SECONDS
        )
        form = client.get("/sign-in")
        token = re.search(r'name="csrf_token" value="([^"]+)"', form.text)[1]
        sent = {"email": self.told("E-mail"), "password": self.told("Password"), "next": "/"}
        answer = client.post("/sign-in", data=sent | {"csrf_token": token})
        assert "Campaigns" in answer.text
        return client

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(LIMIT_SECONDS)
        finally:
            self.process.kill()
            self.process.wait(LIMIT_SECONDS)


@pytest.fixture
def start_demo(tmp_path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start(*options: str) -> Demo:
        started.append(Demo(tmp_path, *options))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait(LIMIT_SECONDS)


def test_the_demo_learns_from_recipients_and_ends_without_a_trace(start_demo, tmp_path):
    demo = start_demo()
    address = demo.told("Open")
    with closing(demo.sign_in()) as browser:
        assert "Spring sale" in browser.get(address).text
    headers = {"Authorization": f"Bearer {demo.told('API key')}"}
    with httpx.Client(headers=headers, timeout=LIMIT_SECONDS) as api:
        results = address.replace("/experiments/", "/api/v1/experiments/") + "/results"

        def moved(arms):
            learned = sum(a["complete"] for a in arms) > 1000
            return learned and max(a["share_now"] for a in arms) > 2 / len(arms)

        wait_until(lambda: api.get(results).json()["arms"], "share that moved", moved)
    assert list(tmp_path.glob("bandits-demo-*"))
    assert demo.stop() == 0, demo.errors.read_text()
    assert not list(tmp_path.glob("bandits-demo-*")), "the database is gone"
    assert "Traceback" not in demo.errors.read_text()
    with pytest.raises(httpx.TransportError):
        httpx.get(address, timeout=LIMIT_SECONDS)


def test_a_kept_demo_goes_on_where_it_was_with_a_new_key(start_demo, tmp_path):
    url = f"sqlite:///{tmp_path / 'kept.db'}"
    first = start_demo("--database", url)

    def sent():
        with closing(open_store(url)) as store:
            points = store.snapshots.history("spring-sale", 1)
        return bool(points)

    wait_until(sent, "email")
    assert first.stop() == 0, first.errors.read_text()
    second = start_demo("--database", url)
    with closing(second.sign_in()) as browser:
        assert "Running" in browser.get(second.told("Open")).text
    assert second.stop() == 0, second.errors.read_text()
    with closing(open_store(url)) as store:
        assert len(store.accounts.users()) == 1
        keys = store.accounts.keys.all()
        assert len(keys) == 2
        assert all(key.revoked_at for key in keys)


def test_a_taken_port_is_told_in_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [BANDITS, "demo", "--port", port],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in ended.stderr
    assert ended.stdout == ""
