"""Which blocks of the KV cache each slot reads and writes, and how many hold each block. Pure Python, one thread.

The cache is so many blocks of `size` positions. A slot has a table: its i-th block holds positions i * size and on.
Slots and prefixes share blocks by reference; a block that somebody else holds too is copied before it is written, and
that can only be the one in which writing begins. Knows numbers of blocks. Knows no tensor, row or request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BLOCK = 128
"""Positions of a block: the most keys that attention takes in one turn, so that a turn lies in one block."""
Copy = tuple[int, int]
"""The block to copy from, and the block to copy to."""


class Prefix:
    """The blocks that hold the first entries of some slot, kept until it is dropped."""

    def __init__(self, tables: BlockTables, blocks: Sequence[int], saved: Any = None) -> None:
        self._tables, self.blocks = tables, tuple(blocks)
        self.saved = saved
        """What a network that keeps its entries elsewhere has copied; it has `nbytes`."""
        tables.hold(self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks, whoever else holds them."""
        return len(self.blocks) * self._tables.block_bytes + (0 if self.saved is None else int(self.saved.nbytes))

    def again(self) -> Prefix:
        """The same entries for one more holder."""
        return Prefix(self._tables, self.blocks, self.saved)

    def drop(self) -> None:
        """Let the blocks go. Idempotent."""
        self._tables.let_go(self.blocks)
        self.blocks, self.saved = (), None


class BlockTables:
    """`blocks` of the cache, shared by `slots` whose tables have `most` entries at most."""

    def __init__(self, blocks: int, slots: int, most: int, *, size: int = BLOCK, position_bytes: int = 0) -> None:
        self.size, self.most, self.block_bytes = size, most, size * position_bytes
        self.changed: set[int] = set(range(slots))
        """Slots whose table the device has not seen; whoever tells it empties this."""
        self._free = dict.fromkeys(range(blocks))  # ordered: whoever does not care takes the last one
        self._holders = [0] * blocks
        self._tables: list[list[int]] = [[] for _ in range(slots)]
        self._copies: list[Copy] = []

    @classmethod
    def for_rows(cls, slots: int, positions: int, **more: int) -> BlockTables:
        """Blocks enough for all slots at their full length."""
        most = -(-positions // more.get("size", BLOCK))
        return cls(slots * most, slots, most, **more)

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    @property
    def slots(self) -> int:
        return len(self._tables)

    def table(self, slot: int) -> Sequence[int]:
        """The slot's blocks, in order."""
        return self._tables[slot]

    def runs(self, slot: int, end: int) -> tuple[tuple[int, int], ...]:
        """Where the slot's positions 0 to `end` lie in a cache of consecutive blocks: first place and length of each
        stretch."""
        made: list[tuple[int, int]] = []
        for index, block in enumerate(self._tables[slot][: -(-end // self.size)]):
            count = min(self.size, end - index * self.size)
            if made and sum(made[-1]) == block * self.size:
                made[-1] = (made[-1][0], made[-1][1] + count)
            else:
                made.append((block * self.size, count))
        return tuple(made)

    def reserve(self, slot: int, position: int, end: int) -> bool:
        """Make positions from `position` up to `end` the slot's own, and let blocks behind them go. False, and nothing
        is changed, where too few blocks are free. Positions before `position` must be there."""
        table, first, last = self._tables[slot], position // self.size, -(-end // self.size)
        shared = [index for index in range(first, min(last, len(table))) if self._holders[table[index]] > 1]
        fresh = max(0, last - len(table))
        if last > self.most or len(shared) + fresh > len(self._free):
            return False
        for index in shared:
            old, table[index] = table[index], self._take(slot * self.most + index)
            if index * self.size < position:
                self._copies.append((old, table[index]))
            self.let_go((old,))
        table += [self._take(slot * self.most + index) for index in range(len(table), last)]
        self.let_go(table[last:])
        if shared or fresh or len(table) > last:
            self.changed.add(slot)
        del table[last:]
        return True

    def clear(self, slot: int) -> None:
        """The slot is empty: its blocks are let go."""
        self.let_go(self._tables[slot])
        self._tables[slot] = []
        self.changed.add(slot)

    def share(self, slot: int, length: int, saved: Any = None) -> Prefix:
        """The slot's first `length` entries, by reference but for the last block: the slot goes on writing there, so it
        is copied, if a block is free."""
        blocks = self._tables[slot][: -(-length // self.size)]
        copied = length % self.size > 0 and bool(self._free)
        if copied:
            self._copies.append((blocks[-1], self._take()))
            blocks[-1] = self._copies[-1][1]
        prefix = Prefix(self, blocks, saved)
        self.let_go(blocks[-1:] if copied else ())
        return prefix

    def adopt(self, slot: int, prefix: Prefix, length: int) -> None:
        """The slot has the first `length` entries of the prefix, by reference, and nothing else."""
        blocks = prefix.blocks[: -(-length // self.size)]
        self.hold(blocks)
        self.clear(slot)
        self._tables[slot] = list(blocks)

    def take_copies(self) -> list[Copy]:
        """What must be copied, in this order, before anything is written."""
        made, self._copies = self._copies, []
        return made

    def hold(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._holders[block] += 1

    def let_go(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None

    def _take(self, wanted: int = -1) -> int:
        """A free block, now held: the one that is wanted, a slot's own, where it is free, so that blocks which nobody
        shares follow one another."""
        block = wanted if wanted in self._free else self._free.popitem()[0]
        self._free.pop(block, None)
        self._holders[block] = 1
        return block
