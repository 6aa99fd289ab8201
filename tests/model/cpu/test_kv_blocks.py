"""Tables of blocks against rows that each have a list of their own."""

from __future__ import annotations

import random

import pytest
import torch

from engine.model.cpu.cpu_cache import CpuCache, Span
from engine.model.cpu.kv_blocks import BLOCK, BlockTables, Prefix

SLOTS, LENGTH, SIZE = 4, 40, 8


class Rows:
    """What rows and prefixes should hold, beside a cache of cells that only the tables tell apart."""

    def __init__(self, blocks: int, seed: int) -> None:
        self.tables = BlockTables(blocks, SLOTS, LENGTH // SIZE, size=SIZE)
        self.cells = [-1] * (blocks * SIZE)
        self.rows: list[list[int]] = [[] for _ in range(SLOTS)]
        self.prefixes: list[tuple[Prefix, list[int]]] = []
        self.rng = random.Random(seed)
        self.copies = 0

    def feed(self, slot: int) -> bool:
        """Go back by some positions, or none, and write."""
        row, rng = self.rows[slot], self.rng
        position = rng.randint(max(0, len(row) - 10), len(row))
        end = min(LENGTH, position + rng.randint(1, 12))
        before = [list(self.tables.table(slot)), self.tables.free]
        if position == end:
            return True
        if not self.tables.reserve(slot, position, end):
            assert before == [self.tables.table(slot), self.tables.free]
            return False
        for source, target in self.tables.take_copies():
            self.copies += 1
            self.cells[target * SIZE : (target + 1) * SIZE] = self.cells[source * SIZE : (source + 1) * SIZE]
        row[position:] = [rng.randrange(1000) for _ in range(position, end)]
        for place, value in zip(self.places(slot, end)[position:], row[position:], strict=True):
            self.cells[place] = value
        assert len(self.tables.table(slot)) == -(-end // SIZE), "what was taken back is free"
        return True

    def places(self, slot: int, end: int) -> list[int]:
        return [place for first, length in self.tables.runs(slot, end) for place in range(first, first + length)]

    def share(self, slot: int) -> None:
        length = self.rng.randint(0, len(self.rows[slot]))
        if length:
            self.prefixes.append((self.tables.share(slot, length), self.rows[slot][:length]))

    def adopt(self, slot: int) -> None:
        prefix, tokens = self.rng.choice(self.prefixes)
        length = self.rng.randint(1, len(tokens))
        self.tables.adopt(slot, prefix, length)
        self.rows[slot] = tokens[:length]

    def drop(self) -> None:
        self.prefixes.pop(self.rng.randrange(len(self.prefixes)))[0].drop()

    def check(self) -> None:
        for source, target in self.tables.take_copies():
            self.cells[target * SIZE : (target + 1) * SIZE] = self.cells[source * SIZE : (source + 1) * SIZE]
        for slot, row in enumerate(self.rows):
            assert [self.cells[place] for place in self.places(slot, len(row))] == row
        for prefix, tokens in self.prefixes:
            held = [self.cells[block * SIZE + i] for block in prefix.blocks for i in range(SIZE)]
            assert held[: len(tokens)] == tokens


@pytest.mark.parametrize("blocks", [5, 9, 20])
@pytest.mark.parametrize("seed", range(4))
def test_rows_and_prefixes_hold_what_they_were_given_whatever_others_do(blocks: int, seed: int) -> None:
    rows = Rows(blocks, seed)
    refused = 0
    for _ in range(600):
        slot, what = rows.rng.randrange(SLOTS), rows.rng.random()
        if what < 0.6:
            refused += not rows.feed(slot)
        elif what < 0.7:
            rows.share(slot)
        elif what < 0.8 and rows.prefixes:
            rows.adopt(slot)
        elif what < 0.9 and rows.prefixes:
            rows.drop()
        elif what > 0.95:
            rows.tables.clear(slot)
            rows.rows[slot] = []
        if rows.rng.random() < 0.3:  # otherwise copies wait for the next write, as for the next forward
            rows.check()
    assert refused > 0 or blocks == 20
    assert rows.copies > 0
    while rows.prefixes:
        rows.drop()
    for slot in range(SLOTS):
        rows.tables.clear(slot)
    assert rows.tables.free == blocks


def test_a_prefix_and_each_row_that_goes_on_from_it_copy_one_block() -> None:
    tables = BlockTables(20, SLOTS, 5, size=SIZE)
    assert tables.reserve(0, 0, 20)
    prefix = tables.share(0, 20)
    assert len(tables.take_copies()) == 1, "the prefix has its own last block, so that the row can go on in its own"
    assert tables.free == 20 - 4
    assert tables.reserve(0, 20, 21)
    for slot in (1, 2):
        tables.adopt(slot, prefix, 19)
        assert tables.reserve(slot, 19, 20)
    assert len(tables.take_copies()) == 2
    assert tables.free == 20 - 6
    tables.adopt(3, prefix, 16)
    assert tables.reserve(3, 16, 17)
    assert tables.take_copies() == [], "a prefix that ends with a block is shared whole"
    prefix.drop()
    prefix.drop()
    assert tables.free == 20 - 6, "two blocks are the rows', the last one was the prefix's alone"


def test_a_row_that_shares_nothing_lies_in_one_piece() -> None:
    tables = BlockTables.for_rows(SLOTS, LENGTH, size=SIZE)
    for end in range(1, LENGTH + 1):
        for slot in range(SLOTS):
            assert tables.reserve(slot, end - 1, end)
            assert tables.runs(slot, end) == ((slot * LENGTH, end),)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("tokens", [1, 5])
def test_attention_over_entries_that_lie_apart_is_that_over_one_piece(tokens: int, coded: bool) -> None:
    torch.manual_seed(0)
    layers, heads, kv, dim, end = 2, 6, 2, 16, 200
    sizes = {"slots": 2, "positions": 2 * BLOCK, "dtype": torch.float32, "coded": coded}
    whole, apart = CpuCache(layers, kv, dim, **sizes), CpuCache(layers, kv, dim, **sizes)  # type: ignore[arg-type]
    runs, fed = ((300, 90), (17, end - 90)), end - tokens
    for first, last in ((0, fed), (fed, end)):
        q, k, v = torch.randn(last - first, heads, dim), *torch.randn(2, last - first, kv, dim)
        stretches = runs if last == end else ((300, 90), (17, last - 90))
        expected = whole.attend(1, Span(1, 0, last - first, first), q, k, v)
        found = apart.attend(1, Span(1, 0, last - first, first, stretches), q, k, v)
        assert torch.allclose(found, expected, atol=1e-5)
