"""Where a batch writes: a file that can be gone on with, or stdout. Whole lines only, whatever interrupts.

A result of an id that the file holds already is appended; when the batch ends it takes the old line's place. Of two
lines with one id the later counts, so that an interruption loses neither.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from engine.cli.arguments.inputs import compact
from engine.errors import RequestError

BEGIN = b'{"id":'
"""Of every line of ours."""


class ResultFile:
    """A context manager; `statuses` are those already there and those written since, by id."""

    def __init__(self, name: str | None) -> None:
        """None is stdout. Opens the file and mends its end before anything is computed; RequestError when it cannot."""
        self.statuses: dict[str, str] = {}
        self._file: BinaryIO | None = None
        self._repeated = False
        if name is None:
            return
        path = Path(name)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RequestError(f"--out {name}: not a file; results go to stdout without --out", param="out")
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise RequestError(f"--out {name}: {error.strerror}", param="out") from None
        self._read(self._file, name)

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            if self._repeated:
                self._replace(self._file)
            self._file.close()

    def write(self, result: dict[str, Any]) -> None:
        """One line, handed to the system whole before the next begins."""
        data = (compact(result) + "\n").encode("utf-8", "replace")
        target = self._file or sys.stdout.buffer
        target.write(data)
        target.flush()
        self._note(result)

    def _note(self, result: dict[str, Any]) -> None:
        self._repeated |= result["id"] in self.statuses
        self.statuses[result["id"]] = result["status"]

    def _replace(self, file: BinaryIO) -> None:
        """One line an id, in the order in which the ids came: written beside the file, then renamed."""
        file.seek(0)
        lines = {json.loads(line)["id"]: line for line in file if line.strip()}
        beside = Path(f"{file.name}.new")
        beside.write_bytes(b"".join(lines.values()))
        beside.replace(file.name)

    def _read(self, file: BinaryIO, name: str) -> None:
        file.seek(0)
        whole = 0
        for number, line in enumerate(file.read().splitlines(keepends=True), 1):
            if _is_torn(line):
                break  # its request runs again
            whole += len(line)
            if line.strip():
                self._take(line, f"--out {name}, line {number}")
        file.truncate(whole)

    def _take(self, line: bytes, where: str) -> None:
        try:
            if not line.endswith(b"\n"):
                raise ValueError("the next result would be written behind it")
            self._note(json.loads(line))
        except (ValueError, KeyError, TypeError):
            raise RequestError(f"{where}: not a result of an earlier run; name another file", param="out") from None


def _is_torn(line: bytes) -> bool:
    """Whether a crash cut it off: it begins as a result does, has no end, and is no JSON that somebody else wrote."""
    if line.endswith(b"\n") or not BEGIN.startswith(line[: len(BEGIN)]):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
