"""What a step's tokens are, from the host's rows to integers on the device: one pinned buffer, one copy.

Layout int32: tokens, slots and positions [most] each, logits rows [rows], tile starts and counts [tiles] each, how many
tokens are live, where layers keep states the same by rows and chunks (`kernels.delta.spans`), and the slots' tables of
blocks, which travel where one has changed. Buffers take turns, so that a step can be written while the copy of the one
before is under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.interfaces import RowInput
from engine.model.cpu.kv_blocks import BlockTables
from engine.model.cuda.device_streams import DeviceStreams
from engine.model.kernels.attention.attention import Step
from engine.model.kernels.attention.tile_attention import QUERY_TILE, Tiles
from engine.model.kernels.delta.chunks import CHUNK, Chunks
from engine.model.kernels.delta.memory import Rows
from engine.model.kernels.delta.spans import Spans

Array = npt.NDArray[np.int32]
_TURNS = 4
_SPANS = ("span_first", "span_count", "span_slot", "span_position", "span_place")


class StepInput:
    """Device integers that captured graphs read. `most` tokens, `rows` logits rows, `batch` rows of a step, `spans` of
    which are told where layers keep states."""

    def __init__(
        self, machine: DeviceStreams, most: int, rows: int, batch: int, blocks: BlockTables, spans: int = 0
    ) -> None:
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
            **dict.fromkeys(_SPANS, spans and 2 * spans + 1),
            "chunk_row": spans and most // CHUNK + spans,
            "chunk_start": spans and 2 * spans + 2,
            "tables": blocks.slots * blocks.most,
        }
        self._blocks, self._spans = blocks, spans
        total = sum(self._sizes.values())
        self._device = torch.zeros(total, dtype=torch.int32, device=machine.device)
        self._hosts = [machine.host(total, dtype=torch.int32) for _ in range(_TURNS)]
        self._parts = [{name: part.numpy() for name, part in self._split(host).items()} for host in self._hosts]
        self._copied = [machine.event() for _ in range(_TURNS)]
        self._tables = np.zeros((blocks.slots, blocks.most), dtype=np.int32)
        self._turn = 0
        self._part = self._split(self._device)
        self._tiles_given: list[tuple[int, int]] = []
        self._short = self._device[: total - self._sizes["tables"]]
        """All but the tables."""
        self._saved = self._short.clone()
        self._given: tuple[Sequence[RowInput], Sequence[int]] = ((), ())

    def _split(self, whole: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._sizes, whole.split(list(self._sizes.values())), strict=True))

    @property
    def table(self) -> Tensor:
        """int32 [slots, M]: which blocks a slot has."""
        return self._part["tables"].view(self._blocks.slots, self._blocks.most)

    @property
    def wanted(self) -> Tensor:
        return self._part["wanted"]

    def view(self, tokens: int, *, tiled: bool = False, lone: bool = False, far: bool = False) -> tuple[Step, Tiles]:
        """The first `tokens` tokens, as the kernels take them; `lone` where each is a row. Elsewhere rows are as many
        as there can be or, unless they are `tiled`, more, so that no power of two is as many: that would say `lone`."""
        part = self._part
        rows = tokens if lone else self._spans if tiled else 2 * self._spans + 1
        spans = self._spans_of(part, rows, tokens // CHUNK + self._spans)
        ids, slots, positions = (part[name][:tokens] for name in ("tokens", "slots", "positions"))
        step = Step(ids, slots, positions, part["live"], spans, far)
        tiles = min(self._tiles, -(-tokens // QUERY_TILE) + self._tiles - self._most // QUERY_TILE)
        return step, Tiles(part["first"][:tiles], part["count"][:tiles])

    def _spans_of(self, part: dict[str, Tensor], rows: int, chunks: int) -> Spans | None:
        if not self._spans:
            return None
        made = Rows(*(part[name][:rows] for name in _SPANS[:4]))
        of_chunks = Chunks(part["chunk_row"][:chunks], part["chunk_start"][: rows + 1])
        return Spans(made, of_chunks, part["span_place"][:rows])

    def _fill_spans(self, part: dict[str, Any], rows: Sequence[RowInput], places: Sequence[int]) -> None:
        counts = [len(row.tokens) for row in rows]
        part["span_first"][: len(rows)] = [sum(counts[:index]) for index in range(len(rows))]
        part["span_count"][: len(rows)], part["span_slot"][: len(rows)] = counts, [row.slot for row in rows]
        part["span_position"][: len(rows)] = [row.position for row in rows]
        part["span_place"][:] = -1
        part["span_place"][: len(places)] = places
        chunks = [-(-count // CHUNK) for count in counts]
        starts = [sum(chunks[:index]) for index in range(len(rows) + 1)]
        part["chunk_start"][: len(starts)], part["chunk_start"][len(starts) :] = starts, starts[-1]
        part["chunk_row"][:] = len(rows) - 1  # behind its last chunk a row is idle
        which = [index for index, number in enumerate(chunks) for _ in range(number)]
        part["chunk_row"][: len(which)] = which[: len(part["chunk_row"])]

    def fill(self, rows: Sequence[RowInput], places: Sequence[int] = ()) -> tuple[int, int]:
        """Enqueue the copy of the step's integers on the side stream; gives its tokens and its logits rows. `places` of
        rows: see `Spans`."""
        count = sum(len(row.tokens) for row in rows)
        wanted, tiles = placed(rows)
        self._given = rows, places
        self._tiles_given = tiles
        self._turn = (self._turn + 1) % _TURNS
        self._machine.finish(self._copied[self._turn])
        host, part = self._hosts[self._turn], self._parts[self._turn]
        host[: len(self._short)] = 0
        if count <= self._most:
            part["tokens"][:count], part["slots"][:count], part["positions"][:count] = flatten(rows)
            part["first"][: len(tiles)] = [first for first, _ in tiles]
            part["count"][: len(tiles)] = [size for _, size in tiles]
        if self._spans and count <= self._most:
            self._fill_spans(part, rows, places)
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
        made = np.zeros((5, -(-count // 4) * 4), dtype=np.int32)  # rows begin at 16 bytes: kernels are told so
        made[:3, :count] = flatten(self._given[0])
        tiles = len(self._tiles_given)
        made[3:, :tiles] = np.array(self._tiles_given, dtype=np.int32).T
        tokens, slots, positions, firsts, counts = torch.from_numpy(made).to(self._machine.device)
        step = Step(tokens[:count], slots[:count], positions[:count], self._part["live"], self._exact_spans())
        return step, Tiles(firsts[:tiles], counts[:tiles])

    def _exact_spans(self) -> Spans | None:
        """Of the step that `fill` was given, in tensors of their own."""
        if not self._spans:
            return None
        rows, places = self._given
        sizes = {**dict.fromkeys(_SPANS, len(rows)), "chunk_start": len(rows) + 1}
        sizes["chunk_row"] = sum(-(-len(row.tokens) // CHUNK) for row in rows)
        host = {name: torch.zeros(size, dtype=torch.int32) for name, size in sizes.items()}
        self._fill_spans({name: value.numpy() for name, value in host.items()}, rows, places)
        part = {name: value.to(self._machine.device) for name, value in host.items()}
        return self._spans_of(part, len(rows), sizes["chunk_row"])

    def silence(self) -> None:
        """No token is live: what runs now, to be captured, writes nothing."""
        self._saved = self._short.clone()
        self._short.zero_()

    def restore(self) -> None:
        self._short.copy_(self._saved)


def flatten(rows: Sequence[RowInput]) -> tuple[Array, Array, Array]:
    """Tokens (FROM_DEVICE: the id the slot sampled last), slots and positions, int32."""
    fed = [len(row.tokens) for row in rows]
    count = sum(fed)
    tokens = np.fromiter(chain.from_iterable(row.tokens for row in rows), np.int32, count)
    slots, begins = np.repeat(np.array([[row.slot for row in rows], [row.position for row in rows]], np.int32), fed, 1)
    firsts = np.repeat(np.array([0, *accumulate(fed)][:-1], np.int32), fed)
    return tokens, slots, begins + np.arange(count, dtype=np.int32) - firsts


def placed(rows: Sequence[RowInput]) -> tuple[list[int], list[tuple[int, int]]]:
    """Flattened indices that want logits, and query tiles (first token, count)."""
    wanted: list[int] = []
    tiles: list[tuple[int, int]] = []
    end = 0
    for row in rows:
        first, end = end, end + len(row.tokens)
        wanted += range(end - row.logits, end)
        tiles += [(at, min(QUERY_TILE, end - at)) for at in range(first, end, QUERY_TILE)]
    return wanted, tiles
