"""What most schemas share, learnt in the background: an unseen schema gets cheap, and the worker knows it too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from engine.config import EngineConfig
from engine.grammar import GrammarService
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

WORDS = [f"{first}{rest}".encode() for first in "abcdefghij" for rest in range(600)]
"""Enough tokens that masks cost more than rules."""
HEAVY = Constraint.json_schema({"type": "string", "pattern": "^([^-]{1,9}-?){1,20}$"})


def service_at(folder: Path) -> GrammarService:
    return GrammarService(byte_tokenizer(), 258, config=EngineConfig(cache_dir=folder))


def test_a_worker_that_knows_takes_the_place_of_the_first(tmp_path: Path) -> None:
    service = service_at(tmp_path)
    learning = service.warm()
    assert service.compile(HEAVY).accepts(b'"12345"')
    first = service.sandbox.pids[0]
    assert service.warm() is learning
    learning.join(timeout=60)
    assert service.compile(Constraint.json_schema({"enum": list(range(400))})).accepts(b"399")
    assert {parent(pid) for pid in service.sandbox.pids} - {os.getpid(), first}
    service.close()


def test_closing_while_it_learns_leaves_no_process(tmp_path: Path) -> None:
    service = service_at(tmp_path)
    learning = service.warm()
    nursery, deadline = service.sandbox.nursery, time.monotonic() + 30
    while not (learners := [server.process.pid for server in nursery._becoming]) and time.monotonic() < deadline:
        time.sleep(0.01)
    service.close()
    learning.join(timeout=60)
    assert not learning.is_alive()
    assert learners
    deadline = time.monotonic() + 30
    while any(map(running, learners)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(running, learners))


def test_a_process_that_ends_while_it_learns_ends_well(tmp_path: Path) -> None:
    """The thread is inside xgrammar all the time, in grammars that it has not seen."""
    program = f"""
import itertools, pathlib, time
from engine.grammar.recipe import Recipe
from tests.grammar.test_warm import service_at

def learn(stop):
    for n in itertools.takewhile(lambda _: not stop(), itertools.count()):
        service._maker.compiler.cook(Recipe("ebnf", f'root ::= "{{n}}" [a-z]{{{{1,9}}}}'))

service = service_at(pathlib.Path({str(tmp_path)!r}))
service._maker.compiler.warm = learn
service.warm()
time.sleep(0.1)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, b"")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
