"""One end of a socket that never blocks: what is sent is kept until the other side reads. Knows frames."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from engine.sandbox.frames import CHUNK, LENGTH_BYTES, framed


class Channel:
    """Used by one thread, which calls `flush` and `read` when the socket is ready."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._out = bytearray()
        self._in = bytearray()

    @property
    def pending(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._out)

    def send(self, message: bytes) -> None:
        self._out += framed(message)
        self.flush()

    def flush(self) -> None:
        """Send what goes; a side that has gone shows when it is read."""
        with contextlib.suppress(BlockingIOError, OSError):
            while self._out:
                del self._out[: self.socket.send(memoryview(self._out)[:CHUNK].tobytes())]

    def read(self) -> Iterator[bytes | None]:
        """Whole messages that have come; None at last when the other side has gone."""
        gone = False
        with contextlib.suppress(BlockingIOError):
            try:
                while part := self.socket.recv(CHUNK):
                    self._in += part
                gone = True
            except ConnectionError:
                gone = True
        while len(self._in) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._in[:LENGTH_BYTES], "big")
            if len(self._in) < end:
                break
            message = bytes(memoryview(self._in)[LENGTH_BYTES:end])
            del self._in[:end]
            yield message
        if gone:
            yield None

    def close(self) -> None:
        self.socket.close()
