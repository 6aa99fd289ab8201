"""How much memory there is to work with: the machine's, or its container's where that is less. Linux and macOS."""

from __future__ import annotations

import os
from pathlib import Path

_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Control groups, version 2 and version 1; `max` or a number beyond any machine where there is no limit."""


def memory_bytes(container: tuple[Path, ...] = _CONTAINER) -> int:
    """Bytes of memory, used or not."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in container:
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        found += [int(text)] if text.isdigit() else []
    return min(found)
