"""The kernels compile for every card they must run on, with shared memory to spare; no GPU is needed for that."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_kernels_compile_and_fit() -> None:
    """In a process of its own, since this one's kernels belong to the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_DISABLE_LINE_INFO"] = "1"  # an eighth of the time, and nothing here reads it
    command = [sys.executable, "-m", "tests.kernels.compile_all"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert re.findall(r"sm_(\d+): [1-9]\d* kernels", run.stdout) == ["80", "86", "89", "90"]
