"""Masks by place: where a document has been before, its mask is copied instead of computed. Knows rows and bytes.

Equal places (all stacks, down to the bottom) continue with the same texts, so they have the same mask: every step
inside one string, every object of one array, every request with the same schema. Knows a place by its number only, so
that a kept mask keeps no grammar's tables alive. Does not know grammars or matchers.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable

from engine.grammar.masks import bitmask

OVERHEAD_BYTES = 500
"""What a kept row takes beside its bits."""


class CachedMask:
    """One mask, int32 [W], how many bits it has set (counted when first asked), and the pieces of work that it took."""

    __slots__ = ("_count", "bits", "empty", "nbytes", "pieces")

    def __init__(self, bits: bitmask.Row, pieces: int, nbytes: int) -> None:
        self.bits = bits
        self.pieces = pieces
        self.nbytes = nbytes
        self.empty = bitmask.is_empty(bits)
        self._count: int | None = None

    @property
    def count(self) -> int:
        if self._count is None:
            self._count = bitmask.popcount(self.bits)
        return self._count


class MaskCache:
    """At most `limit_bytes` of rows and of what they are kept for, the least recently used ones dropped. Any thread may
    use it."""

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[Hashable, CachedMask] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, place: Hashable) -> CachedMask | None:
        """The mask of a place (its number, and what was counted there) seen before. 0.2 microseconds."""
        kept = self._kept.get(place)
        if kept is not None:
            try:  # noqa: SIM105 - suppress() costs as much as all the rest
                self._kept.move_to_end(place)
            except KeyError:  # another thread has just dropped it
                pass
        return kept

    def put(self, place: Hashable, row: bitmask.Row, pieces: int = 0) -> CachedMask:
        """Remember a copy of `row`. About 2 microseconds, and what it takes to look at all that is in `place`."""
        kept = CachedMask(row.copy(), pieces, row.nbytes + OVERHEAD_BYTES + _size(place))
        if place not in self._kept:
            self.nbytes += kept.nbytes
        self._kept[place] = kept
        while self.nbytes > self._limit and len(self._kept) > 1:
            try:
                _, old = self._kept.popitem(last=False)
            except KeyError:
                break
            self.nbytes -= old.nbytes
        return kept

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self.nbytes = 0


def _size(part: Hashable) -> int:
    """Bytes of what a mask is kept for: texts and sets of a document. What several hold counts for each of them."""
    if isinstance(part, tuple | frozenset):
        return sys.getsizeof(part) + sum(map(_size, part))
    return len(part) if isinstance(part, str | bytes) else 0
