"""The fewest tokens that write given bytes. Knows a vocabulary as a map from bytes to id."""

from __future__ import annotations

from collections.abc import Mapping

MAX_TOKEN_BYTES = 64


def segment(text: bytes, ids: Mapping[bytes, int]) -> tuple[int, ...] | None:
    """Exact, by dynamic programming from the end: O(bytes x 64). None when some byte cannot be written."""
    size = len(text)
    best: list[tuple[int, int, int]] = [(0, 0, size)] * (size + 1)  # tokens to the end, id, next position
    unreachable = size + 1
    for start in range(size - 1, -1, -1):
        choice = (unreachable, -1, size)
        for stop in range(start + 1, min(size, start + MAX_TOKEN_BYTES) + 1):
            if best[stop][0] + 1 < choice[0]:
                token_id = ids.get(text[start:stop])
                if token_id is not None:
                    choice = (best[stop][0] + 1, token_id, stop)
        best[start] = choice
    return _walk(best, size) if best[0][0] <= size else None


def _walk(best: list[tuple[int, int, int]], size: int) -> tuple[int, ...]:
    tokens = []
    position = 0
    while position < size:
        tokens.append(best[position][1])
        position = best[position][2]
    return tuple(tokens)
