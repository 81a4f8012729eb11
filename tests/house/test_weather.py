"""Tests wait for states, under the one limit of `patience`: on a busy machine they are slow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import LIMIT_SECONDS, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = ROOT / "tests/patience.py"
BENCHMARKS = ROOT / "tests/benchmarks"  # which measure time, and assert nothing
SLEEPS = {"sleep", "wait_for_timeout"}
STOPWATCHES = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
ENDLESS = {"wait", "join", "communicate"}
LIMITED = {*ENDLESS, "result", "set_default_timeout", "wait_for"}
PROGRAMS = {"run", "call", "check_call", "check_output"}
REQUESTS = {"Client", "delete", "get", "head", "options", "patch", "post", "put", "request"}


def number(node: ast.expr) -> bool:
    """Tell whether an expression is made of numbers alone."""
    parts = [n for n in ast.walk(node) if isinstance(n, ast.expr)]
    kinds = (ast.Constant, ast.BinOp, ast.UnaryOp)
    values = [n.value for n in parts if isinstance(n, ast.Constant)]
    return all(isinstance(n, kinds) for n in parts) and all(
        isinstance(v, int | float) for v in values
    )


def impatience(call: ast.Call) -> str:
    """Return what is wrong with how a call waits, or nothing."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            pass
        case ast.Attribute(attr=name) | ast.Name(id=name):
            owner = ""
        case _:
            return ""
    keywords = {k.arg: k.value for k in call.keywords}
    timeout = keywords.get("timeout")
    spread = None in keywords  # as **options, which may hold one
    needy = (owner == "subprocess" and name in PROGRAMS) or (owner == "httpx" and name in REQUESTS)
    rules = (
        ("waits for time to pass; wait for a state", name in SLEEPS),
        ("measures time; count, or set a clock", name in STOPWATCHES),
        ("has a time-out of its own", timeout is not None and number(timeout)),
        ("has a limit of its own", name in LIMITED and any(map(number, call.args))),
        ("has no limit", name in ENDLESS and not (call.args or keywords)),
        ("has no time-out, or its library's", needy and timeout is None and not spread),
    )
    return next((f"{name} {fault}" for fault, broken in rules if broken), "")


def faults(path: Path) -> Iterator[str]:
    """Go through the calls of a file that wait in a way of their own."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and (fault := impatience(node)):
            if BENCHMARKS in path.parents and "measures time" in fault:
                continue
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {fault}"


def test_tests_wait_for_states_under_one_limit() -> None:
    paths = [p for p in sorted((ROOT / "tests").rglob("*.py")) if p != PATIENCE]
    assert len(paths) > 100
    found = [fault for path in paths for fault in faults(path)]
    assert found == [], "\n".join(["see tests/patience.py", *found])


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(0.1)",
        "sleep(1)",
        "page.wait_for_timeout(50)",
        "deadline = time.monotonic() + LIMIT_SECONDS",
        "thread.join()",
        "thread.join(5)",
        "process.wait()",
        "event.wait(60.0)",
        "event.wait(2 * 60)",
        "future.result(timeout=60)",
        "process.communicate()",
        "subprocess.run(command, check=True)",
        "subprocess.run(command, check=True, timeout=60)",
        "expect(page).to_have_text('x', timeout=20_000)",
        "httpx.get(url)",
        "httpx.Client(base_url=url)",
    ],
)
def test_impatient_calls_are_found(code: str) -> None:
    (call,) = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call) and impatience(n)]
    assert call.lineno == 1


@pytest.mark.parametrize(
    "code",
    [
        "thread.join(LIMIT_SECONDS)",
        "''.join(words)",
        "event.wait(LIMIT_SECONDS)",
        "subprocess.run(command, check=True, timeout=LIMIT_SECONDS)",
        "httpx.Client(base_url=url, timeout=LIMIT_SECONDS)",
        "Client(url, token, sleep=pauses.append, deadline_seconds=0.5)",
        "load.await_more(200)",
        "future.result()",
    ],
)
def test_patient_calls_are_not_found_fault_with(code: str) -> None:
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call)]
    assert [impatience(call) for call in calls] == [""] * len(calls)


def test_busy_processes_end_with_their_command_and_its_exit_status() -> None:
    children = "print(open(f'/proc/self/task/{os.getpid()}/children').read()); sys.exit(3)"
    command = [sys.executable, "-c", f"import os, sys; {children}"]
    ended = subprocess.run(
        [sys.executable, ROOT / "tests/busy.py", "2", *command],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    numbers = ended.stdout.split()
    assert (ended.returncode, len(numbers)) == (3, 2)
    wait_until(
        lambda: [n for n in numbers if Path(f"/proc/{n}").exists()], "end of them", lambda n: not n
    )
