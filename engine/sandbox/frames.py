"""Messages over a socket: eight bytes of length, then that many bytes. Knows descriptors; nothing else."""

from __future__ import annotations

import os

LENGTH_BYTES = 8
CHUNK = 1 << 20


def framed(message: bytes) -> bytes:
    """The message as it travels."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def send(descriptor: int, message: bytes) -> None:
    """Write one whole message. OSError when nobody reads."""
    send_all(descriptor, message)


def send_all(descriptor: int, *messages: bytes) -> None:
    """Write whole messages, together where they are small."""
    view = memoryview(b"".join(map(framed, messages)))
    while view:
        view = view[os.write(descriptor, view[:CHUNK]) :]


def receive(descriptor: int) -> bytes | None:
    """One message; None when the other side has gone."""
    head = _read(descriptor, LENGTH_BYTES)
    return None if head is None else _read(descriptor, int.from_bytes(head, "big"))


def _read(descriptor: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(descriptor, min(size, CHUNK))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
