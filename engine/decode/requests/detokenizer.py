"""Text as it grows: incremental UTF-8, and stop strings in free text. Knows bytes and characters, no tokens."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """Bytes in, settled text out. A text that could be the start of a stop string is held back until it is not."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """Text that is now certain. After a stop string was met, nothing more comes out and `stopped` is True."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        found = min((at for at in map(self._held.find, self.stop) if at >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            return self._release(found)
        return self._release(len(self._held) - self._possible_stop())

    @property
    def unsettled(self) -> bytes:
        """What was fed and has not come out."""
        pending: bytes = self._decoder.getstate()[0]
        return self._held.encode("utf-8", "surrogatepass") + pending

    def finish(self) -> str:
        """What was still held back; incomplete UTF-8 becomes U+FFFD."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(b"", final=True)
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], "" if self.stopped else self._held[length:]
        return text

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(map(len, self.stop), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self.stop):
                return size
        return 0
