"""Compiled grammars in a folder that many processes may share. Knows files and sizes; does not compile.

One sealed file per key: written by rename, verified on reading, removed when damaged. The key holds every
version that matters, so a file is either right or never looked up. The oldest go when the folder grows over its cap.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.grammar.compile.codec import decode
from engine.grammar.compile.compiler import Compiled, Compiler
from engine.grammar.sealed_files import SEAL_BYTES, read_sealed, write_sealed

DISK_CACHE_BYTES = 1 << 30
_SUFFIX = ".grammar"
_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class DiskEntry:
    """One stored grammar, as `maskloop cache ls` shows it."""

    key: str
    kind: str
    schema_hash: str
    nbytes: int
    age_s: float
    compile_ms: float
    load_ms: float


class DiskCache:
    """`folder` is made on the first write, mode 0700. Failures of the disk are never failures of a request."""

    def __init__(self, folder: Path, *, limit_bytes: int = DISK_CACHE_BYTES) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def holds(self, key: str) -> bool:
        """Whether there is a file of this key, right or damaged. 20 microseconds."""
        with contextlib.suppress(OSError):
            return self._path(key).exists()
        return False

    def is_quick(self, key: str, most_s: float) -> bool:
        """Whether loading it takes no longer than that, by what making it has measured. 50 microseconds."""
        with contextlib.suppress(OSError, ValueError, KeyError), self._path(key).open("rb") as file:
            about = json.loads(file.read(_HEAD_BYTES)[SEAL_BYTES:].partition(b"\n")[0])
            return bool(about["load_ms"] / 1e3 <= most_s)
        return False

    def get(self, key: str, compiler: Compiler) -> Compiled | None:
        """The grammar, or None when it is absent or damaged (then the file is gone). 1-60 ms."""
        path = self._path(key)
        content = read_sealed(path)
        if content is None:
            return None
        try:
            compiled = decode(_body(content)[1], compiler)
        except (ValueError, RuntimeError, KeyError, TypeError, IndexError):
            _remove(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return compiled

    def put(self, key: str, content: bytes, **about: Any) -> bool:
        """Store an encoded grammar; False where that failed. `about` has the fields of `DiskEntry`."""
        stored = write_sealed(self._path(key), json.dumps(about).encode() + b"\n" + content)
        self._trim()
        return stored

    def entries(self) -> list[DiskEntry]:
        """What is stored, newest first; damaged files are left out (and removed)."""
        now, found = time.time(), []
        for path in sorted(self._files(), key=_modified, reverse=True):
            content = read_sealed(path)
            if content is not None:
                about = _body(content)[0]
                ms = (round(float(about["compile_ms"]), 1), round(float(about["load_ms"]), 1))
                age = now - _modified(path)
                size = len(content)
                found.append(DiskEntry(path.stem, str(about["kind"]), str(about["schema_hash"]), size, age, *ms))
        return found

    def clear(self) -> int:
        """Remove every file of the folder, vocabularies and locks included; how many there were."""
        files = [path for path in self.folder.glob("*") if path.is_file()] if self.folder.is_dir() else []
        for path in [*files, *self.folder.glob(".tmp-*")]:
            _remove(path)
        return len(files)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _files(self) -> list[Path]:
        return list(self.folder.glob(f"*{_SUFFIX}")) if self.folder.is_dir() else []

    def _trim(self) -> None:
        files = sorted(self._files(), key=_modified)
        total = sum(_size(path) for path in files)
        while files and total > self.limit_bytes:
            oldest = files.pop(0)
            total -= _size(oldest)
            _remove(oldest)


def _body(content: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = content.partition(b"\n")
    return json.loads(head), body


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
