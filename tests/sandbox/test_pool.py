"""Jobs that take too much, die, stand still or are given up, and those beside them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from engine import Constraint
from engine.sandbox import Job, Pool, Stopped, Task
from engine.sandbox.frames import LENGTH_BYTES
from engine.sandbox.nursery import Nursery
from engine.sandbox.pool import _LIVE
from engine.sandbox.processes import Child

MODULE = "tests.sandbox.worker"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool(places=2)
    pool.prepare(MODULE, "here", b"content")
    yield pool
    pool.close()


def job(source: str, **settings: Any) -> Job:
    return Job(MODULE, settings.pop("name", "here"), source.encode(), **{"cpu_s": 5.0, **settings})


def answer(pool: Pool, source: str, owner: str = "a", **settings: Any) -> str:
    return pool.submit(job(source, **settings), [owner]).result(120).content.decode()


def test_a_session_keeps_its_process_and_knows_what_was_prepared(pool: Pool) -> None:
    found = []
    for _ in range(3):
        task = pool.submit(job("(os.getpid(), known, setup)", session="one", setup=b"s"), ["a"])
        found.append(task.result(120).content.decode())
        assert task.finished.wait(120)
    assert len(set(found)) == 1
    assert found[0].endswith("b'content', b's')")
    assert answer(pool, "os.getpid()", session="another") != answer(pool, "os.getpid()", session="one")


def test_further_parts_come_behind_the_answer(pool: Pool) -> None:
    parts: list[bytes] = []
    task = pool.submit(job("1 + 1", on_more=parts.append), ["a"])
    assert task.result(120).content == b"2"
    assert task.finished.wait(120)
    assert parts == [b"more"]


@pytest.mark.parametrize(
    ("source", "limits", "reason"),
    [
        ("spin(9)", {"cpu_s": 0.3}, "cpu"),
        ("eat(1 << 28)", {"memory_bytes": 64 << 20}, "memory"),
        ("os.abort()", {}, "memory"),
        ("exec('import errno; raise OSError(errno.ENOMEM, \\'no pages\\')')", {}, "memory"),
        ("os.kill(os.getpid(), 11)", {}, "crashed"),
        ("1 / 0", {}, "crashed"),
        ("os.kill(os.getpid(), 9)", {}, "lost"),
        ("os.kill(os.getpid(), 19)", {}, "lost"),
    ],
)
def test_what_takes_too_much_or_dies_says_why(pool: Pool, source: str, limits: Any, reason: str) -> None:
    with pytest.raises(Stopped) as stopped:
        answer(pool, source, **limits)
    assert stopped.value.reason == reason
    assert answer(pool, "'still here'") == "still here"


def test_sleeping_is_no_cpu_time(pool: Pool) -> None:
    assert answer(pool, "time.sleep(0.6)", cpu_s=0.3) == "None"


def test_sleeping_is_time_for_a_job_that_has_some(pool: Pool) -> None:
    with pytest.raises(Stopped) as stopped:
        answer(pool, "time.sleep(600)", wall_s=0.3)
    assert stopped.value.reason == "wall"
    assert answer(pool, "time.sleep(0.1)", wall_s=60.0) == "None"


def test_jobs_that_sleep_pay_for_their_places(pool: Pool) -> None:
    asleep = [pool.submit(job("time.sleep(600)", wall_s=600.0), ["a"]) for _ in range(6)]
    for owner in ("b", "a"):
        assert answer(pool, "'small'", owner, wall_s=60.0) == "small"
    assert not any(task.done() for task in asleep)
    for task in asleep:
        task.cancel()


def test_a_small_job_of_another_owner_overtakes_long_ones(pool: Pool) -> None:
    long = [pool.submit(job("spin(2)"), ["a"]) for _ in range(6)]
    time.sleep(0.3)
    assert answer(pool, "'small'", "b") == "small"
    assert not any(task.done() for task in long)
    for task in long:
        task.cancel()


def test_a_job_whose_process_is_being_started_holds_its_place(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [pool.submit(job("spin(6000)", cpu_s=9000), ["a"]) for _ in range(2)]
    until = time.monotonic() + 60
    while not all(task.child and task.child.pid for task in long) and time.monotonic() < until:
        time.sleep(0.01)
    read, unborn, turns = Nursery._read_child, threading.Event(), list[list[bool]]()

    def late(nursery: Nursery, child: Child) -> None:
        if child.session == "unborn":
            unborn.set()
        else:
            read(nursery, child)

    monkeypatch.setattr(Nursery, "_read_child", late)
    small = pool.submit(job("1", session="unborn"), ["b"])
    assert unborn.wait(60)
    for _ in range(4):
        turned = threading.Event()
        pool._later(lambda: turns.append([task.child.paused for task in long if task.child]))
        pool._later(turned.set)
        assert turned.wait(60)
    for task in (small, *long):
        task.cancel()
    assert [sum(paused) for paused in turns] == [1] * 4


def test_a_process_that_is_being_started_is_given_up_for_whose_turn_it_is(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Nursery._read_child

    def unborn(nursery: Nursery, child: Child) -> None:
        if child.session != "unborn":
            read(nursery, child)

    monkeypatch.setattr(Nursery, "_read_child", unborn)
    held: list[Task] = []
    for owner in range(_LIVE):
        task = pool.submit(job("1", session="unborn"), [owner])
        until = time.monotonic() + 60
        while task.child is None and time.monotonic() < until:
            time.sleep(0.01)
        assert task.child is not None
        pool._later(lambda owner=owner: pool._shares.charge(owner, 1.0))  # type: ignore[misc]  # bound now
        held.append(task)
    assert answer(pool, "'small'", "late") == "small"
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()


def test_jobs_of_another_module_have_places_of_their_own(pool: Pool) -> None:
    held = [pool.submit(job("time.sleep(600)"), ["a"]) for _ in range(2)]  # they never get beyond their first moment
    setup = json.dumps(asdict(Constraint.json_schema(True))).encode()
    judged = pool.submit(Job("engine.judge.worker", "", b"[1]\n1", setup=setup), ["a"]).result(120)
    assert json.loads(judged.content)[0]["valid"] is True
    assert not any(task.done() for task in held)
    for task in held:
        task.cancel()


def test_what_nobody_waits_for_is_stopped(pool: Pool) -> None:
    tasks = [pool.submit(job("spin(6000)", cpu_s=9000), ["a"]) for _ in range(4)]
    time.sleep(0.3)
    for task in tasks:
        task.cancel()
    assert all(task.finished.wait(120) for task in tasks)
    assert answer(pool, "'free'", "a") == "free"


def test_what_is_given_up_before_its_process_was_heard_of_never_begins(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(pool, "'ready'", session="before") == "ready"
    told: list[int] = []
    tasks: SimpleQueue[Task] = SimpleQueue()
    read = Nursery._read_child

    def given_up_first(nursery: Nursery, child: Child) -> None:
        if child.session != "late":
            read(nursery, child)
        elif not told:  # its number has come, and is not read
            told.append(int(child.channel.socket.recv(1024, socket.MSG_PEEK)[LENGTH_BYTES:]))
            tasks.get().cancel()

    monkeypatch.setattr(Nursery, "_read_child", given_up_first)
    task = pool.submit(job(f"meet({str(tmp_path)!r}, 2)", session="late"), ["a"])
    tasks.put(task)
    assert task.finished.wait(120)
    until = time.monotonic() + 60
    while alive(told[0]) and not list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(told[0])
    assert not list(tmp_path.iterdir()), "it has begun, and nobody can stop it"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_every_process_may_be_killed_or_stopped_and_a_job_comes_through(
    pool: Pool, number: int, tmp_path: Path
) -> None:
    resting = [pool.submit(job(f"meet({str(tmp_path)!r}, 2)"), ["a"]) for _ in range(2)]
    assert all(task.finished.wait(60) for task in resting), "two processes of the session wait for its next job"
    for pid in pool.pids:
        os.kill(pid, number)
    assert answer(pool, "known") == "b'content'"


def test_a_closed_pool_ends_its_jobs_and_its_processes() -> None:
    pool = Pool(places=2)
    pool.prepare(MODULE, "here", b"")
    task = pool.submit(job("spin(60)", cpu_s=90), ["a"])
    assert answer(pool, "1") == "1"
    pids = pool.pids
    threading.Timer(0.1, pool.close).start()
    with pytest.raises(Stopped) as stopped:
        task.result(120)
    assert stopped.value.reason == "closed"
    pool.close()
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_stands_still_for_too_long_says_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that sleeps uses no CPU time: the limit of wall time behind that ends it."""
    monkeypatch.setattr("engine.sandbox.task._LEAST_PATIENCE_S", 0.2)
    monkeypatch.setattr("engine.sandbox.pool._PATIENT", 0.1)
    pool = Pool(places=1)
    try:
        with pytest.raises(Stopped) as stopped:
            answer(pool, "__import__('time').sleep(600)", cpu_s=1.0)
    finally:
        pool.close()
    assert stopped.value.reason == "busy"
    assert re.fullmatch(r"0\.\d s of CPU time in \d+ s", stopped.value.detail)


def test_what_waits_too_long_for_its_turn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sandbox.task._LEAST_PATIENCE_S", 0.5)
    monkeypatch.setattr("engine.sandbox.pool._PATIENT", 0.0)
    pool = Pool(places=1)
    try:
        tasks = [pool.submit(job("spin(6000)", cpu_s=9000), ["a"]) for _ in range(6)]
        reasons = [stopped.reason for task in tasks if isinstance(stopped := task.exception(60), Stopped)]
    finally:
        pool.close()
    assert reasons == ["busy"] * 6
