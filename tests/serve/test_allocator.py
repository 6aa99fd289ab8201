"""Free pages are returned while nobody is served, and only then. Figures of memory, none of time."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.serve import allocator
from engine.serve.service import watchdog
from engine.serve.service.service import Service
from engine.serve.service.watchdog import Watchdog
from tests.serve.fakes import FakeEngine


def private() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_free_pages_between_blocks_in_use_are_returned():
    libc, size = ctypes.CDLL(None), 64 << 10
    libc.malloc.restype = ctypes.c_void_p
    blocks = [ctypes.c_void_p(libc.malloc(size)) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for number, block in enumerate(blocks):
        if number % 20:
            libc.free(block)
    full = private()
    assert allocator.give_back()
    assert full - private() > 80 << 20
    for block in blocks[::20]:
        libc.free(block)


def test_little_is_left_for_the_next_request(monkeypatch):
    monkeypatch.setattr(allocator, "allocated", lambda: (1 << 30, allocator.WORTH_BYTES - 1))
    assert not allocator.give_back()


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_libc", lambda: None)
    assert (allocator.share_heap(), allocator.allocated(), allocator.give_back()) == (False, (0, 0), False)


def test_the_watchdog_gives_back_only_while_nobody_waits(monkeypatch):
    given = []
    monkeypatch.setattr(watchdog, "give_back", lambda: given.append(1) or True)
    service = Service(FakeEngine())
    dog = Watchdog(service)
    service.in_flight["req-1"] = lambda error: None
    assert not dog.tidy()
    service.in_flight.clear()
    assert dog.tidy()
    assert given == [1]


PLACES = """
import ctypes, sys, threading
from engine.serve.allocator import allocated, share_heap
if allocated() == (0, 0):
    sys.exit(3)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
if "share" in sys.argv:
    assert share_heap()
found = []
thread = threading.Thread(target=lambda: found.append(libc.malloc(5000)))
thread.start(); thread.join()
heap = next(line.split()[0] for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]"))
low, high = (int(end, 16) for end in heap.split("-"))
print(low <= found[0] < high)
"""


@pytest.mark.parametrize(("asked", "inside"), [("share", "True"), ("leave", "False")])
def test_a_thread_takes_from_the_one_heap_when_it_was_asked_for(asked: str, inside: str) -> None:
    ours = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    command = [sys.executable, "-c", PLACES, asked]
    done = subprocess.run(command, env=ours, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 3:
        pytest.skip("no glibc 2.33 or newer")
    assert done.stdout.strip() == inside, done.stderr


ANEW = """
import os, sys
from engine.serve.allocator import allocated, take_python_too
if allocated() == (0, 0):
    sys.exit(3)
pid = os.environ.setdefault("FIRST_PID", str(os.getpid()))
take_python_too()
same = int(pid) == os.getpid()
print(sys.argv[1:], os.environ["PYTHONMALLOC"], sys.getallocatedblocks() == 0, same, sys.flags.optimize)
"""


@pytest.mark.parametrize(("chosen", "told"), [
    ({}, "['a b', ''] malloc True True 1"),
    ({"PYTHONMALLOC": "pymalloc"}, "['a b', ''] pymalloc False True 1"),
])  # fmt: skip
def test_a_server_starts_anew_with_python_in_the_heap_unless_told(chosen: dict[str, str], told: str) -> None:
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"}
    command = [sys.executable, "-O", "-c", ANEW, "a b", ""]
    done = subprocess.run(command, env=ours | chosen, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 3:
        pytest.skip("no glibc 2.33 or newer")
    assert done.stdout.strip() == told, done.stderr
