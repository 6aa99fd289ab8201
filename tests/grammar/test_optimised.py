"""`python -O` drops every assert of the engine: the same tests pass there, and can still fail there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = ("test_adversary.py", "matching/test_runaway.py", "matching/test_matcher.py")
"""Whole documents under adversarial logits, guards, and the matcher's own rules: a minute's suite in a few seconds."""


@pytest.mark.slow
def test_the_core_passes_without_the_engines_asserts_and_a_wrong_test_fails_there_too(tmp_path: Path) -> None:
    """Test modules keep their asserts, since pytest rewrites them; the modules they test lose theirs."""
    wrong = tmp_path / "test_wrong.py"
    wrong.write_text("def test_wrong():\n    assert __debug__\n")
    files = map(str, (*(HERE / name for name in CORE), wrong))
    done = subprocess.run(
        [sys.executable, "-O", "-m", "pytest", "-q", "-c", "pyproject.toml", "-p", "no:cacheprovider", *files],
        cwd=HERE.parents[1], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.findall(r"^FAILED .*::(\w+)", done.stdout, re.MULTILINE) == ["test_wrong"], done.stdout[-2000:]
    assert re.search(r"\b1 failed, \d+ passed", done.stdout)
