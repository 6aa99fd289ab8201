"""Sealed files: a content hash in front, written whole by rename, unreadable when damaged. Knows bytes and paths only.

What is read steers every document, so that files and their folder must be this user's own, and writable by nobody else.

A reader sees the old file, the new file or nothing, whatever dies in between; a truncated or altered file reads as
None and is removed, so that the next writer heals it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

_MAGIC = b"maskloop1"
SEAL_BYTES = len(_MAGIC) + 32
"""What stands before the content."""


def seal(content: bytes) -> bytes:
    """Magic, sha256 of the content, content."""
    return _MAGIC + hashlib.sha256(content).digest() + content


def unseal(stored: bytes) -> bytes | None:
    """The content, or None when it is not exactly what was sealed."""
    found = hashlib.sha256(memoryview(stored)[SEAL_BYTES:]).digest()
    return stored[SEAL_BYTES:] if stored[:SEAL_BYTES] == _MAGIC + found else None


def read_sealed(path: Path) -> bytes | None:
    """The content of a sealed file; None when absent, not this user's own, or damaged (then it is removed)."""
    try:
        _refuse_foreign(path.parent)
        _refuse_foreign(path)
        content = unseal(path.read_bytes())
    except OSError:
        return None
    if content is None:
        with contextlib.suppress(OSError):
            path.unlink()
    return content


def write_sealed(path: Path, content: bytes) -> bool:
    """Write by rename into a folder of one's own, mode 0700. False when that failed (full disk, no rights)."""
    try:
        private_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(seal(content))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        return False
    return True


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can read. PermissionError where it is somebody else's."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    _refuse_foreign(folder)


def _refuse_foreign(path: Path) -> None:
    """PermissionError unless only this user can have written it; a link counts as what it is and what it leads to."""
    for found in (path.lstat(), path.stat()):
        if found.st_uid != os.geteuid() or (found.st_mode & 0o022 and not stat.S_ISLNK(found.st_mode)):
            raise PermissionError(f"{path} is not this user's own")
