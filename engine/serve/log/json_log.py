"""One JSON object a line, for machines; never a prompt, a schema or a document."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
import traceback
from typing import Any, TextIO


class _Process:
    """Tells the lines of one process from those of another, and how old it is."""

    instance = secrets.token_hex(6)
    started = time.monotonic()


class JsonLog:
    """Writes to `stream` (default: stderr as it is at the time). Thread-safe; a full disk is not an error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """One line: time, event, instance, seconds since the process began, then `fields` without the Nones."""
        head = {"ts": round(time.time(), 3), "event": event, "instance": _Process.instance, "uptime_s": uptime_s()}
        told = {name: value for name, value in fields.items() if value is not None}
        line = json.dumps({**head, **told}, ensure_ascii=False, default=str)
        with self._lock:
            try:
                print(line, file=self._stream or sys.stderr, flush=True)
            except (OSError, ValueError):
                return


def places(error: Exception) -> list[str]:
    """Where it happened, without the message: a message may quote a prompt."""
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]


def instance() -> str:
    """The name of this process in its log lines."""
    return _Process.instance


def uptime_s() -> float:
    """Seconds since this module was first imported, or since `renew_instance`."""
    return round(time.monotonic() - _Process.started, 3)


def renew_instance() -> None:
    """A process restored from a snapshot is a new one: another name, age zero."""
    _Process.instance, _Process.started = secrets.token_hex(6), time.monotonic()
