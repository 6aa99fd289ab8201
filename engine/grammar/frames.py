"""Messages over a pipe: eight bytes of length, then that many bytes. Knows file descriptors and time; nothing else."""

from __future__ import annotations

import os
import select
import time

_LENGTH_BYTES = 8
_CHUNK = 1 << 20


class PipeTimeout(Exception):
    """Nothing more came before the deadline."""


def send(descriptor: int, message: bytes) -> None:
    """Write one whole message. OSError when nobody reads."""
    view = memoryview(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def receive(descriptor: int, deadline: float | None = None) -> bytes | None:
    """One message; None when the other side has gone. PipeTimeout at `deadline` (time.monotonic)."""
    head = _read(descriptor, _LENGTH_BYTES, deadline)
    return None if head is None else _read(descriptor, int.from_bytes(head, "big"), deadline)


def _read(descriptor: int, size: int, deadline: float | None) -> bytes | None:
    parts: list[bytes] = []
    while size:
        _await(descriptor, deadline)
        part = os.read(descriptor, min(size, _CHUNK))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _await(descriptor: int, deadline: float | None) -> None:
    if deadline is not None:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise PipeTimeout
