"""The fewest tokens that write given bytes. Knows a vocabulary as a table of texts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping

from engine.grammar.pieces import Pieces, at_once
from engine.grammar.vocabulary.token_texts import TextTable

NEVER = 1 << 30
"""Token count of what cannot be written or never ends."""
_SINGLE = (1,)
_LAST_BYTE = 0xFF
_MOST_PREFIXES = 100_000
_KEPT_OF_RUN = 2_048
"""Bytes of a long run whose tokens are looked for; what is longer is written by the longest of them."""
_PIECE = 500
"""Bytes of a text that are cut at one go."""
_RUN = re.compile(rb"(.{1,4}?)\1{%d,}" % _KEPT_OF_RUN, re.DOTALL)


class Segmenter:
    """One per vocabulary. Exact by dynamic programming from the end; only lengths that occur are tried."""

    def __init__(self, table: TextTable) -> None:
        self.ids = table.ids
        self.sorted_texts = table.sorted_texts
        self._lengths = table.lengths_by_start()
        self._continuations: dict[bytes, int] = {}

    @classmethod
    def of(cls, ids: Mapping[bytes, int]) -> Segmenter:
        """For a map from text to id."""
        texts: list[bytes | None] = [None] * (max(ids.values()) + 1)
        for text, token_id in ids.items():
            texts[token_id] = text
        return cls(TextTable.of(texts))

    def continuations(self, prefix: bytes) -> int:
        """Bit b is set when some token begins with `prefix` and byte b. 0.1 ms for a common prefix, then remembered."""
        found = self._continuations.get(prefix)
        if found is None:
            if len(self._continuations) > _MOST_PREFIXES:
                self._continuations.clear()
            found = self._continuations[prefix] = sum(1 << byte for byte in self._next_bytes(prefix))
        return found

    def _next_bytes(self, prefix: bytes) -> Iterator[int]:
        """By leaping through the sorted texts."""
        size = len(prefix)
        at = bisect_left(self.sorted_texts, prefix + b"\0")
        while at < len(self.sorted_texts) and self.sorted_texts[at].startswith(prefix):
            byte = self.sorted_texts[at][size]
            yield byte
            if byte == _LAST_BYTE:
                return
            at = bisect_left(self.sorted_texts, prefix + bytes((byte + 1,)), at)

    def counts(self, text: bytes) -> list[int]:
        """For `text[i:]` at index i, how many tokens write it (0 for the empty one last); NEVER when none can."""
        return at_once(self._solve(text))[0]

    def cut(self, text: bytes) -> tuple[int, ...] | None:
        """The ids of a shortest way to write `text`; None when there is none. About 2 microseconds a byte, less where a
        character is repeated thousands of times."""
        return at_once(self.cutting(text))

    def cutting(self, text: bytes) -> Pieces[tuple[int, ...] | None]:
        """The same in pieces."""
        run = _RUN.search(text) if len(text) > 2 * _KEPT_OF_RUN else None
        if run is not None:
            return (yield from self._cut_around(text, run.start(), run.end(), len(run[1])))
        counts, ids, nexts = yield from self._solve(text)
        return None if counts[0] >= NEVER else tuple(_walk(ids, nexts))

    def _cut_around(self, text: bytes, start: int, end: int, size: int) -> Pieces[tuple[int, ...] | None]:
        """With the middle of a run written by its longest token, again and again."""
        unit = text[start : start + size]
        times = max(n for n in range(1, _KEPT_OF_RUN // (2 * size)) if n == 1 or unit * n in self.ids)
        token = self.ids.get(unit * times)
        again = (end - start - _KEPT_OF_RUN) // (times * size) if token is not None else 0
        middle = start + _KEPT_OF_RUN // (2 * size) * size
        before = yield from self.cutting(text[:middle])
        after = yield from self.cutting(text[middle + again * times * size :])
        if again <= 0 or token is None or before is None or after is None:
            counts, ids, nexts = yield from self._solve(text)
            return None if counts[0] >= NEVER else tuple(_walk(ids, nexts))
        return (*before, *(token,) * again, *after)

    def _solve(self, text: bytes) -> Pieces[tuple[list[int], list[int], list[int]]]:
        size = len(text)
        counts, ids, nexts = [NEVER] * size + [0], [0] * size, [size] * size
        lengths_from, id_of = self._lengths.get, self.ids.get
        for start in range(size - 1, -1, -1):
            if start % _PIECE == _PIECE - 1:
                yield
            fewest = NEVER
            for length in lengths_from(text[start : start + 2], _SINGLE):
                stop = start + length
                if stop <= size and counts[stop] + 1 < fewest:
                    token_id = id_of(text[start:stop])
                    if token_id is not None:
                        fewest, ids[start], nexts[start] = counts[stop] + 1, token_id, stop
            counts[start] = fewest
        return counts, ids, nexts


def _walk(ids: list[int], nexts: list[int]) -> Iterator[int]:
    position = 0
    while position < len(ids):
        yield ids[position]
        position = nexts[position]
