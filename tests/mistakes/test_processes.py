"""A sample of mistakes as a shell meets them, and Ctrl-C while a command reads: `processes.tsv`.

PIPE is a file that a command waits to read; it is interrupted once it does. $TAKEN is a port where somebody listens.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import heed_interrupts  # noqa: F401 - the fixture
from tests.mistakes.table import Mistake, mistakes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KEPT = {name: os.environ[name] for name in ("HOME", "LANG", "XDG_CACHE_HOME") if name in os.environ}


@pytest.mark.parametrize("mistake", mistakes("processes"), ids=lambda mistake: mistake.made)
def test_a_mistake_ends_with_one_line(
    folder: Path,
    tmp_path: Path,
    mistake: Mistake,
    heed_interrupts: Callable[[], None],  # noqa: F811 - the fixture
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**KEPT, "PATH": path, "PYTHONPATH": str(ROOT), "TAKEN": str(taken.getsockname()[1])}
        child = subprocess.Popen(
            ["bash", "-c", f"exec env {mistake.made}".replace("PIPE", str(pipe))],
            cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_interrupts,
        )  # fmt: skip
        if mistake.code == "130":
            with pipe.open("wb"):  # opens once the command has opened it too
                child.send_signal(signal.SIGINT)
                out, err = child.communicate(timeout=120)
        else:
            out, err = child.communicate(timeout=120)
    assert child.returncode == int(mistake.code), err.decode()
    *before, line = err.decode().splitlines()
    assert out == b""
    assert "Traceback" not in "".join(before)
    for named in mistake.names:
        assert named in line
