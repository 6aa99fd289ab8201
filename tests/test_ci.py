"""`.ci/run` is the README's test command in an environment as empty as a reader's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAKE = """#!/bin/sh
echo "$@"
env
echo "{last}"
"""


def run(folder: Path, last: str) -> subprocess.CompletedProcess[str]:
    """With a `make` that only says what it was given."""
    make = folder / "make"
    make.write_text(MAKE.format(last=last))
    make.chmod(0o755)
    mine = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/home/reader", "PIP_INDEX_URL": "http://index"}
    theirs = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": "/somewhere", "MASKLOOP_MODEL": "x", "HF_TOKEN": "secret"}
    return subprocess.run(
        ["bash", ROOT / ".ci/run"], env={**mine, **theirs}, capture_output=True, text=True, check=False
    )


def test_what_the_caller_has_set_does_not_reach_the_tests(tmp_path: Path) -> None:
    done = run(tmp_path, "7 passed")
    said = done.stdout.splitlines()
    assert (done.returncode, said[0]) == (0, "test")
    names = {line.partition("=")[0] for line in said if "=" in line}
    assert {"PATH", "HOME", "PIP_INDEX_URL", "CI"} <= names
    assert not {"PYTHONUNBUFFERED", "PYTHONPATH", "MASKLOOP_MODEL", "HF_TOKEN"} & names


def test_where_no_test_passed_it_fails(tmp_path: Path) -> None:
    done = run(tmp_path, "0 passed")
    assert done.returncode == 1
    assert "no test passed" in done.stderr
