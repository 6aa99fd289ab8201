"""Commands that the documents print: each runs as printed where it needs no GPU, hub or data, and its options exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from runpy import run_module
from unittest.mock import patch

import pytest

from engine.cli import main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^ *((?:\.venv/bin/)?maskloop \w+|python -m (?:bench|tests|engine)\.[\w.]+)(.*)$", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
PYTHON = Path(sys.executable).parent


def printed(document: Path) -> list[tuple[str, str]]:
    """(command, its arguments) of the code blocks, continued lines joined, remarks cut off."""
    text = document.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```.*?^```|(?:^    .*\n)+", text, re.DOTALL | re.MULTILINE)
    return [
        (name, arguments.partition(" # ")[0].strip()) for block in blocks for name, arguments in COMMAND.findall(block)
    ]


@cache
def help_of(command: str) -> str:
    """What `--help` prints, in this process: most commands import torch, and there are dozens."""
    kind, *words = command.removeprefix(".venv/bin/").removeprefix("python ").split()
    with redirect_stdout(StringIO()) as out, suppress(SystemExit):
        if kind == "maskloop":
            sys.exit(main([*words, "--help"]))
        with patch("sys.argv", [command, "--help"]):
            run_module(words[0], run_name="__main__", alter_sys=True)
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_option_of_a_printed_command_exists(document: Path) -> None:
    for command, arguments in printed(document):
        known = set(OPTION.findall(help_of(command)))
        assert set(OPTION.findall(arguments)) <= known, f"{command} {arguments}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trace.md", "reproduce.md"])
def test_commands_without_a_gpu_run_as_printed(name: str, tmp_path: Path) -> None:
    commands = printed(ROOT / "docs" / name)
    assert commands
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(PYTHON)
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    env = {**os.environ, "PATH": f"{PYTHON}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    for command, arguments in commands:
        ran = subprocess.run(
            ["bash", "-c", f"{command} {arguments}"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
        )
        assert ran.returncode == 0, (command, arguments, ran.stderr)
