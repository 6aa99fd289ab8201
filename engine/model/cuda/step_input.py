"""What a step's tokens are, from the host's rows to integers on the device: one pinned buffer, one copy.

Layout int32: tokens, slots and positions [most] each, logits rows [rows], tile starts and counts [tiles] each, how many
tokens are live, and the slots' tables of blocks, which travel where one has changed. Buffers take turns, so that a step
can be written while the copy of the one before is under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.interfaces import RowInput
from engine.model.cpu.kv_blocks import BlockTables
from engine.model.cuda.device_streams import DeviceStreams
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.attention.tile_attention import QUERY_TILE, Tiles

_TURNS = 4


class StepInput:
    """Device integers that captured graphs read. `most` tokens, `rows` logits rows, `batch` rows of a step."""

    def __init__(self, machine: DeviceStreams, most: int, rows: int, batch: int, blocks: BlockTables) -> None:
        self._machine = machine
        self._most = most
        self._tiles = -(-most // QUERY_TILE) + batch
        self._sizes = {
            "tokens": most,
            "slots": most,
            "positions": most,
            "wanted": rows,
            "first": self._tiles,
            "count": self._tiles,
            "live": 1,
            "tables": blocks.slots * blocks.most,
        }
        self._blocks = blocks
        total = sum(self._sizes.values())
        self._device = torch.zeros(total, dtype=torch.int32, device=machine.device)
        self._hosts = [machine.host(total, dtype=torch.int32) for _ in range(_TURNS)]
        self._copied = [machine.event() for _ in range(_TURNS)]
        self._tables = np.zeros((blocks.slots, blocks.most), dtype=np.int32)
        self._turn = 0
        self._part = self._split(self._device)
        self._rows: list[tuple[int, int, int]] = []
        self._short = self._device[: total - self._sizes["tables"]]
        """All but the tables."""
        self._saved = self._short.clone()
        self._long: tuple[list[int], list[int], list[int]] = ([], [], [])

    def _split(self, whole: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._sizes, whole.split(list(self._sizes.values())), strict=True))

    @property
    def table(self) -> Tensor:
        """int32 [slots, M]: which blocks a slot has."""
        return self._part["tables"].view(self._blocks.slots, self._blocks.most)

    @property
    def wanted(self) -> Tensor:
        return self._part["wanted"]

    def view(self, tokens: int) -> tuple[Step, Tiles]:
        """The first `tokens` tokens, as the kernels take them."""
        part = self._part
        step = Step(part["tokens"][:tokens], part["slots"][:tokens], part["positions"][:tokens], part["live"])
        tiles = min(self._tiles, -(-tokens // QUERY_TILE) + self._tiles - self._most // QUERY_TILE)
        return step, Tiles(part["first"][:tiles], part["count"][:tiles])

    def fill(self, rows: Sequence[RowInput]) -> tuple[int, int]:
        """Enqueue the copy of the step's integers on the side stream; gives its tokens and its logits rows."""
        tokens, slots, positions, wanted, tiles = flatten(rows)
        count = len(tokens)
        self._long = (tokens, slots, positions)
        self._rows = tiles
        self._turn = (self._turn + 1) % _TURNS
        self._machine.finish(self._copied[self._turn])
        host = self._hosts[self._turn]
        part = {name: value.numpy() for name, value in self._split(host).items()}
        host[: len(self._short)] = 0
        if count <= self._most:
            part["tokens"][:count], part["slots"][:count], part["positions"][:count] = tokens, slots, positions
            part["first"][: len(tiles)] = [first for first, _, _ in tiles]
            part["count"][: len(tiles)] = [size for _, size, _ in tiles]
        part["wanted"][: min(len(wanted), len(part["wanted"]))] = wanted[: len(part["wanted"])]
        part["live"][0] = count
        if self._blocks.changed:
            self._write_tables(part["tables"])
            self._device.copy_(host, non_blocking=True)
            self._blocks.changed.clear()  # not before: what the device has not been told is told with the next step
        else:
            self._short.copy_(host[: len(self._short)], non_blocking=True)
        self._machine.record(self._copied[self._turn], side=True)
        return count, len(wanted)

    def _write_tables(self, flat: Any) -> None:
        """All slots' tables into a host buffer."""
        for slot in self._blocks.changed:
            table = self._blocks.table(slot)
            self._tables[slot, : len(table)] = table
        flat[:] = self._tables.ravel()

    def exact(self, count: int) -> tuple[Step, Tiles]:
        """Fresh tensors of a step that is longer than the buffers."""
        tokens, slots, positions = self._long
        made = [
            torch.tensor(values, dtype=torch.int32).to(self._machine.device) for values in (tokens, slots, positions)
        ]
        tiles = torch.tensor([[first, size] for first, size, _ in self._rows], dtype=torch.int32).to(
            self._machine.device
        )
        assert len(tokens) == count
        step = Step(made[0], made[1], made[2], self._part["live"])
        return step, Tiles(tiles[:, 0].contiguous(), tiles[:, 1].contiguous())

    def silence(self) -> None:
        """No token is live: what runs now, to be captured, writes nothing."""
        self._saved = self._short.clone()
        self._short.zero_()

    def restore(self) -> None:
        self._short.copy_(self._saved)


Flat = tuple[list[int], list[int], list[int], list[int], list[tuple[int, int, int]]]


def flatten(rows: Sequence[RowInput]) -> Flat:
    """tokens (-1: the id the slot sampled last), slots, positions, flattened indices that want logits, and query tiles
    (first token, count, slot)."""
    tokens: list[int] = []
    slots: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    tiles: list[tuple[int, int, int]] = []
    for row in rows:
        fed = [-1] if row.tokens is None else list(row.tokens)
        first = len(tokens)
        tokens += fed
        slots += [row.slot] * len(fed)
        positions += range(row.position, row.position + len(fed))
        wanted += range(len(tokens) - row.logits, len(tokens))
        tiles += [(at, min(QUERY_TILE, len(tokens) - at), row.slot) for at in range(first, len(tokens), QUERY_TILE)]
    return tokens, slots, positions, wanted, tiles
