"""SIGINT while an engine loads: the process ends, whatever runs at that moment."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
from engine.serve.modal.preemption import ending_at_interrupt

class Dropped:
    def __del__(self):  # Python passes over what a destructor raises, KeyboardInterrupt too
        os.kill(os.getpid(), signal.SIGINT)

with ending_at_interrupt(lambda: print("entry removed")):
    {inside}
print("loaded")
{after}
"""


def run(inside: str, after: str = "") -> subprocess.CompletedProcess[str]:
    code = CODE.format(inside=inside, after=after)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_interrupt_that_python_would_pass_over_ends_the_process() -> None:
    done = run("Dropped()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "entry removed\n", "")


def test_afterwards_the_handler_is_the_one_of_before() -> None:
    done = run("pass", "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler")
    assert (done.returncode, done.stdout) == (0, "loaded\n")
