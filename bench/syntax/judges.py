"""Other parsers of the languages, which tell whether a text is valid: Python's own, and commands of a caller."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.syntax.corpus import SUFFIXES

JUDGE_S = 60
Accepts = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Judge:
    """Another parser: a command that ends with 0 for a valid file, whose path stands last."""

    command: tuple[str, ...]
    suffix: str

    def accepts(self, text: str) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"text{self.suffix}")
            path.write_text(text, encoding="utf-8", newline="")
            ran = subprocess.run([*self.command, str(path)], capture_output=True, timeout=JUDGE_S, check=False)
        return ran.returncode == 0


def judge_of(language: str, commands: Mapping[str, str]) -> Accepts | None:
    """Of whole files, by the commands of a caller."""
    if language in commands:
        return Judge(tuple(shlex.split(commands[language])), SUFFIXES[language][0]).accepts
    return is_python if language == "python" else None


def is_python(text: str) -> bool:
    return _raises_nothing(lambda: ast.parse(text))


def is_python_pattern(text: str) -> bool:
    return _raises_nothing(lambda: re.compile(text))


def _raises_nothing(parse: Callable[[], object]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parse()
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError, re.error):
            return False
    return True
