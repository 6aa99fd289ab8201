"""Shared prompt prefixes: cache entries kept after a prefill, with which rows of the same beginning begin.

Keys are token ids under a salt (an API key's hash, or the request's `cache_salt`); nothing crosses salts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from engine.interfaces import SavedPrefix

MINIMUM = 16
"""Tokens under which sharing a prefix is not worth the bookkeeping."""


class PrefixCache:
    """Least recently used first out, by bytes. One thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, tuple[int, ...]], SavedPrefix] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, salt: str, tokens: Sequence[int]) -> tuple[SavedPrefix, int] | None:
        """The entry that shares the longest prefix, and its length (at most len(tokens) - 1: one token must be fed)."""
        best: tuple[str, tuple[int, ...]] | None = None
        length = MINIMUM - 1
        for key in self._entries:
            if key[0] == salt:
                shared = min(_common(key[1], tokens), len(tokens) - 1)
                if shared > length:
                    best, length = key, shared
        if best is None:
            return None
        self._entries.move_to_end(best)
        return self._entries[best], length

    def wants(self, salt: str, tokens: Sequence[int]) -> bool:
        """Whether storing this prompt is worth it: it is long enough and not there yet."""
        return self._max_bytes > 0 and len(tokens) >= MINIMUM and (salt, tuple(tokens)) not in self._entries

    def store(self, salt: str, tokens: Sequence[int], handle: SavedPrefix) -> None:
        """Keep a handle, letting go of the least recently used ones."""
        self._entries[salt, tuple(tokens)] = handle
        self.nbytes += handle.nbytes
        while self.nbytes > self._max_bytes and self.forget():
            pass

    def forget(self) -> bool:
        """Let the least recently used entry go; False where there is none."""
        if not self._entries:
            return False
        _, handle = self._entries.popitem(last=False)
        self.nbytes -= handle.nbytes
        handle.drop()
        return True


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
