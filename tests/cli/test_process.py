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

from engine.cli import main
from tests.cli.conftest import ScriptedEngine

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


@pytest.mark.parametrize("args", [("check", "lift_ir"), ("accepts", "lift_ir", "{}")])
def test_commands_on_grammars_start_without_torch(args: tuple[str, ...]) -> None:
    tell = "import sys; from engine.cli import main; main(sys.argv[1:]); print(*map(sys.modules.__contains__, {}))"
    command = [sys.executable, "-c", tell.format(("xgrammar", "torch")), *args]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.splitlines()[-1] == "True False", ran.stderr


def test_ctrl_c_while_loading_exits_130_and_leaves_nothing(tmp_path: Path, heed_interrupts: Callable[[], None]) -> None:
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


INTERRUPTED_AT = """
import signal, sys
class Interrupts:
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from engine.cli import main
sys.exit(main(["models"]))
"""


@pytest.mark.parametrize(
    "module", ["engine.cli.dispatch", "argparse", "engine.cli.terminal", "engine.errors", "engine.cli.commands.models"]
)
def test_ctrl_c_while_a_command_starts_is_one_line_too(module: str, heed_interrupts: Callable[[], None]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module],
        capture_output=True, text=True, timeout=120, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "maskloop: interrupted\n")


def broken_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


EMPTY = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}


@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_a_reader_that_leaves_early_is_exit_code_1_and_silence(buffering: dict[str, str]) -> None:
    write, env = broken_pipe(), {**EMPTY, **buffering}
    commands = (["models"], ["--version"], ["usage", "--help"], ["usage", os.devnull])
    running = [
        subprocess.Popen([sys.executable, "-c", MAIN, *args], stdout=write, stderr=subprocess.PIPE, env=env)
        for args in commands
    ]
    os.close(write)
    assert [(child.communicate(timeout=60)[1], child.returncode) for child in running] == [(b"", 1)] * len(commands)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("args", [["generate", "--prompt", "p"], ["batch", "IN"]], ids=lambda args: args[0])
def test_a_command_that_ran_says_that_nobody_reads_by_its_exit_code(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: str, args: list[str]
) -> None:
    requests = tmp_path / "in.jsonl"
    requests.write_text('{"prompt": "p"}\n' * 3)
    monkeypatch.setattr(sys, stream, os.fdopen(broken_pipe(), "w"))
    assert main([str(requests) if word == "IN" else word for word in args]) == 1
    getattr(sys, stream).close()


def test_a_full_disk_under_stdout_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([sys.executable, "-c", MAIN, "models"], stdout=full, stderr=subprocess.PIPE, env=EMPTY)
    assert (ran.returncode, ran.stderr) == (
        1, b"maskloop: the output could not be written: No space left on device\n"
    )  # fmt: skip


def test_a_command_without_any_stdout_runs() -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", MAIN, "models"],
        stderr=subprocess.PIPE,
        env=EMPTY,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
