"""Token bitmasks: int32 words, one bit a token, bit set = legal. Knows shapes and counting; does not know grammars.

Legend: R rows, V padded vocabulary, W = ceil(V / 32) words.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Row = NDArray[np.int32]
Rows = NDArray[np.int32]
"""[R, W]."""


def words(vocab_size: int) -> int:
    """W, the width of a row in int32 words."""
    return (vocab_size + 31) // 32


def cleared(rows: int, vocab_size: int) -> Rows:
    """Rows that allow nothing."""
    return np.zeros((rows, words(vocab_size)), dtype=np.int32)


class BitmaskBuffer:
    """`array` int32 [R, W] and `tensor`, a torch view of the same memory, pinned when asked so that copies overlap.

    Made once per engine; rows are overwritten at every step. 18,992 bytes a row at V = 151,936.
    """

    def __init__(self, rows: int, vocab_size: int, *, pinned: bool = False) -> None:
        import torch

        self.rows = rows
        self.vocab_size = vocab_size
        self.tensor: torch.Tensor = torch.full((rows, words(vocab_size)), -1, dtype=torch.int32, pin_memory=pinned)
        self.array: NDArray[np.int32] = self.tensor.numpy()

    def set_row(self, row: int, bits: Row) -> None:
        """Copy one row of words in (for example `Vocabulary.free_row`). About 1 microsecond."""
        self.array[row] = bits

    def legal(self, row: int, token_id: int) -> bool:
        """Whether one bit of a row is set."""
        return legal(self.array[row], token_id)


def from_ids(ids: Any, vocab_size: int) -> Row:
    """A row with exactly these ids set."""
    wanted = np.zeros(vocab_size, dtype=np.bool_)
    wanted[np.asarray(ids, dtype=np.int64)] = True
    return from_bools(wanted)


def from_bools(wanted: NDArray[np.bool_]) -> Row:
    """A row of bool [V]."""
    packed = np.packbits(wanted, bitorder="little")
    row = np.zeros(words(len(wanted)), dtype=np.int32)
    row.view(np.uint8)[: len(packed)] = packed
    return row


def to_bools(row: Row, vocab_size: int) -> NDArray[np.bool_]:
    """bool [V] of one row."""
    return np.unpackbits(row.view(np.uint8), bitorder="little")[:vocab_size].astype(np.bool_)


def ids(row: Row) -> NDArray[np.int64]:
    """The tokens of a row, ascending. 5 microseconds for a few, 60 for most of W = 4,748."""
    filled = np.flatnonzero(row)
    bits = np.unpackbits(row[filled].view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    at, bit = np.nonzero(bits)
    return filled[at] * 32 + bit


def legal(row: Row, token_id: int) -> bool:
    """Whether one bit is set."""
    return bool((int(row[token_id >> 5]) >> (token_id & 31)) & 1)


def among(row: Row, tokens: Iterable[int]) -> list[int]:
    """Those of the tokens whose bits are set, each once."""
    found = np.array(list(dict.fromkeys(tokens)), dtype=np.int64)
    there: list[int] = found[(row[found >> 5] >> (found & 31)) & 1 == 1].tolist()
    return there


def draw(row: Row, random: Random) -> int:
    """Some set bit of a row that is not empty; not every one is equally likely. 10 microseconds at W = 4,748."""
    filled = np.flatnonzero(row)
    word = int(filled[random.randrange(len(filled))])
    bits = int(row[word]) & 0xFFFFFFFF
    for _ in range(random.randrange(bits.bit_count())):
        bits &= bits - 1
    return word * 32 + (bits & -bits).bit_length() - 1


def clear(row: Row, token_id: int) -> None:
    """Make one token illegal."""
    row[token_id >> 5] &= ~(np.int32(1) << np.int32(token_id & 31))


def set_bit(row: Row, token_id: int) -> None:
    """Make one token legal."""
    row[token_id >> 5] |= np.int32(1) << np.int32(token_id & 31)


def popcount(row: Row) -> int:
    """Number of legal tokens of a contiguous row. About 3 microseconds at W = 4,748."""
    view = row.view(np.uint64) if row.shape[0] % 2 == 0 else row.view(np.uint32)
    return int(np.bitwise_count(view).sum(dtype=np.uint32))  # a 64-bit sum takes twice as long


def is_empty(row: Row) -> bool:
    """Whether no bit of a contiguous row is set. About 0.3 microseconds: it stops at the first byte that differs."""
    return row.data.cast("B") == _zeros(row.nbytes)


@cache
def _zeros(count: int) -> bytes:
    return bytes(count)


def clear_tail(row: Row, vocab_size: int) -> None:
    """Zero the bits at and above V in the last word: xgrammar leaves them as they were."""
    if vocab_size % 32:
        row[-1] &= np.int32((1 << (vocab_size % 32)) - 1)
