"""LIFT's own client against a real server: `make lift LIFT=FOLDER`, or `python -m tests.clients.lift FOLDER`.

FOLDER is a checkout of LIFT that the caller has; it is copied aside, so that nothing in it changes. Its provider and
translator are asked, then its provider tests run, those too that it skips, with answers made now instead of recorded
ones. The last line counts; exit code 1 when a test fails. Three of them ask a tiny model for long texts: minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.clients.places import HERE, python_of, server

TESTS = "tests/integration/test_modal_provider_real.py"
PYTEST = (
    "-m",
    "pytest",
    "-o",
    "addopts=",
    "-o",
    "filterwarnings=",
    "-W",
    "ignore",
    "-p",
    "run_skipped",
    "-rA",
    "--tb=line",
    "-q",
)
"""Without the coverage and the warnings that LIFT's own settings ask for."""


def main() -> int:
    """Run both against one server."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients.lift", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a checkout of LIFT")
    parser.add_argument("--url", help="a running server instead of one started here")
    args = parser.parse_args()
    if not (args.folder / TESTS).is_file():
        parser.error(f"there is no LIFT in {args.folder}: {TESTS} is missing")
    python = python_of("lift")
    with server(args.url) as url, tempfile.TemporaryDirectory() as aside:
        for part in ("lift_sys", "tests"):
            shutil.copytree(args.folder / part, Path(aside) / part)
        shutil.copy(args.folder / "pyproject.toml", aside)
        told = {
            "MODAL_ENDPOINT_URL": url,
            "RECORD_FIXTURES": "true",
            "PYTHONPATH": f"{aside}:{HERE / 'lift'}:{HERE / 'usages'}",
            "NO_PROXY": "127.0.0.1",
        }
        env = {**os.environ, **told}
        usages = subprocess.run([python, HERE / "lift" / "lift_client.py"], env=env, stdout=subprocess.PIPE, text=True)
        print(usages.stdout, end="", flush=True)
        failed = usages.returncode != 0 or '"ok": false' in usages.stdout
        tests = subprocess.run([python, *PYTEST, TESTS], cwd=aside, env=env)
    return 1 if failed or tests.returncode else 0


if __name__ == "__main__":
    raise SystemExit(main())
