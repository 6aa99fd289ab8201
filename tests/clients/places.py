"""Where clients run: a server with the embedded model, and an environment of exact versions for each client."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".clients"


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The URL of a server with the embedded model that this starts, ready; the one given instead, if there is one."""
    if url is not None:
        yield url
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [Path(sys.executable).parent / "maskloop", "serve", "--port", port]
    log = ENVIRONMENTS / f"server-{port}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/ready", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(url: str, server: subprocess.Popen[bytes], log: Path, seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the server did not become ready; see {log}")


def python_of(name: str) -> str:
    """The interpreter of the client's environment, made on first use and again when its lock changes."""
    folder, lock = ENVIRONMENTS / name, HERE / "locks" / f"{name}.txt"
    python = folder / "bin" / "python"
    made = folder / ".installed"
    if not made.exists() or made.stat().st_mtime < lock.stat().st_mtime:
        print(f"{name:<12} installing into {folder.relative_to(ROOT)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        quiet = ("-qq", "--no-compile", "--disable-pip-version-check", "--no-input")  # errors alone
        subprocess.run([python, "-m", "pip", "install", *quiet, "--no-deps", "-r", lock], check=True)
        made.touch()
    return str(python)
