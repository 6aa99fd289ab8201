"""sha256 of files: several side by side, and not read again where the hub's cache stores a file under its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 4


def sha256_of(files: Iterable[Path]) -> dict[Path, str]:
    """By file. A core hashes 1 to 2 GB/s where it has the instructions for it."""
    files = list(files)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(files, pool.map(_sha256, files), strict=True))


def _sha256(file: Path) -> str:
    stored = file.resolve().name
    if file.is_symlink() and len(stored) == 64 and set(stored) <= set("0123456789abcdef"):
        return stored
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
