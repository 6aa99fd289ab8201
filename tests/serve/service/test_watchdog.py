"""The watchdog acts even when a thread holds the interpreter's lock, so that no Python runs beside it."""

from __future__ import annotations

import subprocess
import sys

HOLDING = """
import re, threading, time
from engine.serve.service.service import Service
from engine.serve.settings import ServeSettings
from engine.serve.service.watchdog import Watchdog
from tests.serve.fakes import FakeEngine

dog = Watchdog(Service(FakeEngine(), ServeSettings(wedged_after_s=2.0)), every_s=0.2)
dog.start()
time.sleep(3)  # whoever gives the lock up is left alone
print("alive", flush=True)
re.match("(a+)+$", "a" * 60 + "b")
"""


def test_a_thread_that_never_gives_the_lock_up_ends_the_process_with_its_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", HOLDING], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "alive\n")
    assert "in match" in ended.stderr
