"""The command as a process: signals, pipes, and machines where an extra is not installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

MAIN = "import sys; from engine.cli import main; sys.exit(main(sys.argv[1:]))"
HIDE = (
    "import sys, importlib.util as u; sys.modules[{package!r}] = None; find = u.find_spec; "
    "u.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest); "
)


def run(*args: str, hide: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    prefix = HIDE.format(package=hide) if hide else ""
    return subprocess.run(
        [sys.executable, "-c", prefix + MAIN, *args], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


@pytest.mark.parametrize(("hide", "args", "extra"), [
    ("torch", ("generate", "--prompt", "p"), "local"),
    ("xgrammar", ("accepts", "lift_ir", "{}"), "local"),
    ("fastapi", ("serve",), "serve"),
])  # fmt: skip
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    hide: str, args: tuple[str, ...], extra: str
) -> None:
    ran = run(*args, hide=hide)
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert f"'{hide}' is not installed" in last
    assert f"pip install 'maskloop[{extra}]'" in last


def test_ctrl_c_while_loading_exits_130_and_leaves_nothing(
    tmp_path: Path, heed_interrupts: Callable[[], None]
) -> None:
    trace = tmp_path / "t.jsonl"
    args = [sys.executable, "-c", MAIN, "generate", "--prompt", "p", "--trace", str(trace)]
    child = subprocess.Popen(
        args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    while child.poll() is None and not list(tmp_path.iterdir()):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert (out, list(tmp_path.iterdir())) == ("", [])
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "maskloop: interrupted"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    child = subprocess.run(
        [sys.executable, "-c", MAIN, "models"], stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(write)
    assert child.returncode == 1
    assert child.stderr == ""
