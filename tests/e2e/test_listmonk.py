"""listmonk's messenger over a real server: nothing is lost or sent twice.

In full with SOAK=1: a thousand messages.
"""

import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import SOAK
from tests.listmonk_server import AUTH, CAMPAIGN, PASSWORD, message, subscriber_uuid
from tests.mail_server import MailServer
from tests.patience import LIMIT_SECONDS, wait_until

MESSAGES = 1000 if SOAK else 200
EXPERIMENT = {
    "key": "spring",
    "slots": [
        {
            "key": "subject_line",
            "variants": [
                {"key": "s1", "payload": {"text": "One"}},
                {"key": "s2", "payload": {"text": "Two"}},
            ],
        },
        {"key": "hero", "variants": [{"key": "h1"}, {"key": "h2"}]},
    ],
    "policy": {"name": "thompson"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 86400, "maturity_seconds": 3600},
    "await_activation": True,
}
SUBJECTS, HEROES = {"s1": "One", "s2": "Two"}, {"h1": "First", "h2": "Second"}


@pytest.fixture
def mails() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("database", "number"), [("postgresql", signal.SIGTERM), ("sqlite", signal.SIGKILL)]
)
def test_every_subscriber_gets_one_mail_whatever_happens(
    start_server, request, mails, database, number
) -> None:
    url = request.getfixturevalue(database).empty()

    def start():
        return start_server(database_url=url, BANDITS_SMTP_URL=mails.url)

    server = start()
    server.bandits("connection", "add", "listmonk", "lists", "--value", f"password={PASSWORD}")
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=EXPERIMENT).status_code == 201
        assert api.post("/api/v1/experiments/spring/start").status_code == 200
    running = [server]
    mails.answer = "451 full, come again"

    def post(message_number: int) -> bool:
        """Post a message as listmonk does; tell whether it was answered 200."""
        try:
            answer = http.post(
                f"{running[0].url}/messengers/listmonk/lists", json=message(message_number)
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    waiting = set(range(MESSAGES))
    with httpx.Client(auth=AUTH, timeout=LIMIT_SECONDS) as http, ThreadPoolExecutor(10) as pool:
        first = random.Random(3).sample(sorted(waiting), 40)
        assert not any(pool.map(post, first))  # the mail server is full
        assert mails.count == 0
        mails.answer = "250 OK"
        answers = [(n, pool.submit(post, n)) for n in sorted(waiting)]
        wait_until(lambda: mails.count > MESSAGES // 4, "mails before the server stops")
        running[0].stop(number)
        running[0] = start()
        sent = {n for n, answer in answers if answer.result(LIMIT_SECONDS)}
        assert 0 < len(sent) < MESSAGES
        for _ in range(3):  # a message that was not answered comes again; so do some that were
            again = sorted(waiting - sent) + random.Random(4).sample(sorted(sent), 50)
            sent |= {n for n, ok in zip(again, pool.map(post, again), strict=True) if ok}
    unsure = waiting - sent  # noted when the process was killed: they count as sent in ten minutes
    assert len(unsure) <= (0 if number is signal.SIGTERM else 10)
    assert {len(own) for own in mails.mails.values()} == {1}
    assert MESSAGES - mails.count <= (0 if number is signal.SIGTERM else len(unsure))
    with running[0].client() as api:
        for n in random.Random(5).sample(sorted(sent), 40):
            decision = f"{CAMPAIGN}.{subscriber_uuid(n)}"
            receipt = api.get(f"/api/v1/decisions/{decision}").json()
            (mail,) = mails.mails[f"p{n}@example.com"]
            assert mail["Subject"] == SUBJECTS[receipt["slots"]["subject_line"]["variant"]]
            assert HEROES[receipt["slots"]["hero"]["variant"]] in mail.get_content()
            assert receipt["started_at"] is not None
