"""`make check`: the fast tests of what has changed. `python -m tests.changed [REV]`.

`engine/serve/wire/gate.py` is tested by the files of `tests/serve/wire`, and where a room has no tests of its own, by
those that lie directly in its part's folder. What differs from REV (default: HEAD) counts, and what is not tracked yet.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALWAYS = ("tests/test_layers.py", "tests/test_construction.py")
NOT_FAST = ("modal", "clients", "hostile")
"""Folders of tests that start containers, clients or attacks: minutes. They run in `make test`."""
DOCUMENTS = ("tests/docs/test_commands.py", "tests/docs/test_usage.py")


def changed(rev: str) -> list[str]:
    """Paths below the checkout, those that were deleted left out."""
    asked = (["diff", "--name-only", "--diff-filter=d", rev], ["ls-files", "--others", "--exclude-standard"])
    told = [subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True) for words in asked]
    return [line for run in told for line in run.stdout.splitlines()]


def tests_of(path: str) -> Iterator[str]:
    """The tests of a file: itself, those of the folder that mirrors its own, or of the nearest above that has any."""
    parts = Path(path).parts
    if parts[0] == "tests" and parts[1] in NOT_FAST:
        return
    if parts[0] == "tests" and Path(path).name.startswith("test_"):
        yield path
    elif parts[0] == "docs" or path in ("README.md", "CONTRIBUTING.md"):
        yield from DOCUMENTS
    elif parts[0] in ("engine", "bench", "tests"):
        inner = parts[1:-1] if parts[0] != "bench" else parts[:-1]
        inner = ("kernels", *inner[2:]) if inner[:2] == ("model", "kernels") else inner
        for depth in range(len(inner), 0, -1):
            if found := sorted(ROOT.joinpath("tests", *inner[:depth]).glob("test_*.py")):
                yield from (str(test.relative_to(ROOT)) for test in found)
                return


def chosen(paths: Iterable[str]) -> list[str]:
    """Each test file once."""
    return sorted({*ALWAYS, *(test for path in paths for test in tests_of(path))})


if __name__ == "__main__":
    tests = chosen(changed(sys.argv[1] if len(sys.argv) > 1 else "HEAD"))
    print(" ".join(tests), flush=True)
    run = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", *tests]
    raise SystemExit(subprocess.run(run, cwd=ROOT).returncode)
