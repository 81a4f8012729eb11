"""Processes that write to one database at the same time."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from bandits.engine.active_policy import load_statistic
from bandits.engine.fold import fold
from bandits.errors import StaleEdit
from storage import open_store
from storage.snapshots.verify import compare
from tests.patience import LIMIT_SECONDS

# A sender that chooses, is rewarded and cancels, beside others that ask for the same subjects.
SENDER = textwrap.dedent(
    """
    import sys
    import numpy as np
    from bandits.engine.fold import fold
    from bandits.store.values import Events, NewDecisions
    from storage import open_store
    from storage.databases import postgresql
    from storage.databases import sqlite

    # What is tested is that nothing is lost, not how long a busy machine may take.
    sqlite.BUSY_SECONDS = postgresql.LOCK_SECONDS = 120.0
    url, name, waves = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = open_store(url)
    record = store.experiments.record("spring")
    rng = np.random.default_rng(int(name))
    n = 40
    for wave in range(waves):
        ids = [f"{name}-{wave}-{i}" for i in range(n)]
        shared = [f"shared-{wave}-{i}" for i in range(n)]
        both = [*ids, *shared]
        order = rng.permutation(2 * n)
        subjects = [f"subject {wave} {i % n}" for i in range(2 * n)]
        chosen = NewDecisions(
            [both[i] for i in order], [subjects[i] for i in order], [b"body"] * 2 * n,
            order % 3, np.full(2 * n, 1 / 3), np.ones((2 * n, 1)), order < 0, order < 0,
            [b""] * 2 * n, 0,
        )
        earlier = store.log.append_decisions(record, chosen, at=float(wave))
        mine = sorted({earlier[r].id if r in earlier else chosen.ids[r] for r in range(2 * n)})
        rng.shuffle(mine)
        found, m = store.log.targets(mine), len(mine)
        clicks = Events(
            found.refs, found.numbers, ["e"] * m, ["click"] * m, [1.0] * m, [float(wave)] * m,
            [False] * m, [False] * m,
        )
        store.log.append_events(clicks, at=wave)
        store.log.cancel(mine[: n // 4], at=float(wave))
        if wave % 3 == 0:
            fold(store, "spring", now=1e6)
    store.close()
    """
)
WAVES = 5


@pytest.mark.parametrize("assignment", ["per_decision", "per_subject"])
def test_three_senders_and_folders_lose_and_double_nothing(store, sender, database_url, assignment):
    sender.start(assignment=assignment)
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SENDER, database_url, str(name), str(WAVES)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in range(3)
    ]
    assert [process.communicate(timeout=LIMIT_SECONDS)[1] for process in started] == [""] * 3
    while fold(store, "spring", now=1e6):
        pass
    record = store.experiments.record("spring")
    names = [str(n) for n in range(3)] + ["shared"]
    every = store.log.decisions(
        [f"{n}-{w}-{i}" for n in names for w in range(WAVES) for i in range(40)]
    )
    left = [d for d in every.values() if d.cancelled_at is None]
    if assignment == "per_decision":
        assert len(every) == 4 * 40 * WAVES  # each sender's own, and the shared ones once
    statistic, tally = load_statistic(
        record.configuration, store.snapshots.snapshot("spring", record.learned_version)
    )
    assert statistic.count.sum() == tally.sent.sum() == len(left)
    assert statistic.pending.sum() == 0
    assert statistic.total.sum() == len(left)  # each was clicked, by however many senders
    with store.snapshots.audit("spring") as audit:
        assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []


def test_a_subject_has_one_decision_whoever_asks_at_once(store, sender, database_url):
    record = sender.start(assignment="per_subject")
    subjects = [f"subject {i}" for i in range(200)]
    groups = [sender.chosen(200, subjects=subjects[k:] + subjects[:k]) for k in (0, 50, 100, 150)]
    stores = [open_store(database_url) for _ in groups]

    def ask(pair):
        opened, chosen = pair
        earlier = opened.log.append_decisions(record, chosen, at=1.0)
        answers = (earlier[r].id if r in earlier else chosen.ids[r] for r in range(200))
        return dict(zip(chosen.subjects, answers, strict=True))

    with ThreadPoolExecutor(len(groups)) as pool:
        answers = list(pool.map(ask, zip(stores, groups, strict=True)))
    for opened in stores:
        opened.close()
    assert answers[1:] == answers[:-1]
    assert len(store.log.decisions([i for g in groups for i in g.ids])) == 200


def test_an_id_asked_for_by_many_at_once_is_decided_once(store, sender, database_url):
    record = sender.start()
    ids = [f"id {i}" for i in range(200)]
    groups = [
        sender.chosen(200, ids=ids[k:] + ids[:k], digests=[b"body"] * 200) for k in (0, 70, 140)
    ]
    stores = [open_store(database_url) for _ in groups]
    with ThreadPoolExecutor(len(groups)) as pool:
        earlier = list(
            pool.map(
                lambda p: p[0].log.append_decisions(record, p[1], at=1.0),
                zip(stores, groups, strict=True),
            )
        )
    for opened in stores:
        opened.close()
    assert sum(map(len, earlier)) == 400
    assert len(store.log.decisions(ids)) == 200
    fold(store, "spring", now=1e6)
    with store.snapshots.audit("spring") as audit:
        assert sum(len(portion) for portion in audit.learned) == 200


def test_two_edits_at_once_are_one_edit_and_one_refusal(store, sender, database_url):
    record = sender.start()
    new = record.configuration.next_version(record.configuration.experiment, started=True)
    stores = [open_store(database_url) for _ in range(4)]

    def edit(opened):
        try:
            return opened.experiments.configure(
                "spring", new, allowed=["running"], at=1.0, by="test"
            ).configuration.version
        except StaleEdit as error:
            return error

    with ThreadPoolExecutor(len(stores)) as pool:
        outcomes = list(pool.map(edit, stores))
    for opened in stores:
        opened.close()
    assert sorted(str(o) for o in outcomes if o == 2) == ["2"]
    assert sum(isinstance(o, StaleEdit) for o in outcomes) == 3
