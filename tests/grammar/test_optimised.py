"""`python -O` drops every assert of the engine: the same tests pass there, and can still fail there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = ("test_adversary.py", "matching/test_runaway.py", "matching/test_matcher.py")
"""Whole documents under adversarial logits, guards, and the matcher's own rules: a minute's suite in a few seconds."""


def optimised(*files: Path) -> subprocess.CompletedProcess[str]:
    """Test modules keep their asserts, since pytest rewrites them; the modules they test lose theirs."""
    command = [sys.executable, "-O", "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    return subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_core_passes_without_the_engines_asserts() -> None:
    done = optimised(*(HERE / name for name in CORE))
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout


def test_a_wrong_test_fails_there_too(tmp_path: Path) -> None:
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text("def test_wrong():\n    assert __debug__\n")
    done = optimised(wrong)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
