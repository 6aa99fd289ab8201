"""The runner for a CPU: one worker thread computes, so that the caller can fill masks meanwhile.

Implements `engine.interfaces.Runner` over anything that turns flattened tokens into logits (our decoder, or Hugging
Face's forward for architectures it does not know). Results are fp32 unless another dtype was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.errors import EngineFailure
from engine.interfaces import FROM_DEVICE, RowInput, Sampled, SampleInputs
from engine.model.cpu.cpu_cache import Runs, Span
from engine.model.cpu.kv_blocks import BlockTables, Copy, Prefix
from engine.model.cpu.sampling import sample_rows, unpack_bitmask


class Network(Protocol):
    """Tokens in, logits out; owns the KV cache, in places that spans name, or by slots."""

    vocab_size: int
    position_bytes: int
    """Bytes of one position's keys and values; 0 where they lie by slots."""

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V] of the flattened indices `wanted` after feeding `tokens` [T]."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the entries of `count` places, from `source` on, to those from `target` on. By slots: nothing."""

    def save(self, slot: int, length: int) -> Any:
        """A copy of a slot's first entries, which has `nbytes`, where they lie by slots; else None."""

    def load(self, slot: int, saved: Any, length: int) -> None:
        """The reverse of `save`, for what is not None."""


class CpuRunner:
    """See `engine.interfaces.Runner`."""

    def __init__(
        self, network: Network, *, max_batch: int, max_sequence: int, quantization: str, device: str = "cpu",
        blocks: BlockTables | None = None,
    ) -> None:  # fmt: skip
        """`blocks`: fewer or smaller ones than for all rows at full length; the network has as many places."""
        self._network = network
        self.blocks = blocks or BlockTables.for_rows(max_batch, max_sequence, position_bytes=network.position_bytes)
        self.vocab_size = network.vocab_size
        self.max_batch = max_batch
        self.max_sequence = max_sequence
        self.quantization = quantization
        self.device = device
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._logits: Future[Tensor] | None = None
        self._sampled: Future[Sampled] | None = None
        self._last = [0] * max_batch
        self._seen: list[set[int]] = [set() for _ in range(max_batch)]
        self._times: dict[str, float] = {}

    def forward(self, rows: Sequence[RowInput]) -> None:
        blocks, runs = self.blocks, []
        for row in rows:
            end = row.position + len(row.tokens)
            if not blocks.reserve(row.slot, row.position, end):
                raise EngineFailure(f"no free block of the KV cache for slot {row.slot} up to position {end}")
            runs.append(blocks.runs(row.slot, end))
        self._logits = self._worker.submit(self._forward, tuple(rows), runs, blocks.take_copies())

    def _forward(self, rows: Sequence[RowInput], runs: Sequence[Runs], copies: Sequence[Copy]) -> Tensor:
        started = time.perf_counter()
        tokens: list[int] = []
        spans: list[Span] = []
        wanted: list[int] = []
        for row, places in zip(rows, runs, strict=True):
            fed = [self._last[row.slot] if token == FROM_DEVICE else token for token in row.tokens]
            spans.append(Span(row.slot, len(tokens), len(tokens) + len(fed), row.position, places))
            tokens.extend(fed)
            wanted.extend(range(len(tokens) - row.logits, len(tokens)))
        with torch.inference_mode():
            size = self.blocks.size
            for source, target in copies:
                self._network.copy(source * size, target * size, size)
            logits = self._network.forward(torch.tensor(tokens), spans, torch.tensor(wanted, dtype=torch.long))
        self._ended = time.perf_counter()
        self._times = {"forward": (self._ended - started) * 1e6}
        return logits

    def sample(self, inputs: SampleInputs) -> None:
        assert self._logits is not None, "sample needs a forward before it"
        logits, asked = self._logits, time.perf_counter()
        self._sampled = self._worker.submit(self._sample, logits, inputs, asked)

    def _sample(self, logits: Future[Tensor], inputs: SampleInputs, asked: float) -> Sampled:
        values, started = logits.result(), time.perf_counter()
        legal = None if inputs.bitmask is None else unpack_bitmask(inputs.bitmask, values.shape[1])
        applied = time.perf_counter()
        with torch.inference_mode():
            sampled = sample_rows(values, inputs, [self._seen_ids(slot) for slot in inputs.slots], legal)
        for slot, token in zip(inputs.slots, sampled.token_ids, strict=True):
            self._last[slot] = token
        self._times |= {
            "sample": (time.perf_counter() - applied) * 1e6,
            "mask_wait": max(0.0, asked - self._ended) * 1e6,
            "copy": 0.0,
            "apply": 0.0 if legal is None else (applied - started) * 1e6,
        }
        return sampled

    def _seen_ids(self, slot: int) -> Tensor | None:
        seen = self._seen[slot]
        return torch.tensor(sorted(seen)) if seen else None

    def wait(self) -> Sampled:
        assert self._sampled is not None, "wait needs a sample before it"
        return self._sampled.result()

    def finished(self) -> bool:
        return self._sampled is None or self._sampled.done()

    def reset_slot(self, slot: int, seen: Sequence[int] = ()) -> None:
        self._worker.submit(self._seen.__setitem__, slot, set(seen)).result()

    def mark_seen(self, slot: int, tokens: Sequence[int]) -> None:
        self._worker.submit(self._seen[slot].update, tokens)

    def save_prefix(self, slot: int, length: int) -> Prefix:
        saved = self._worker.submit(self._network.save, slot, length).result()
        return self.blocks.share(slot, length, saved)

    def load_prefix(self, slot: int, prefix: Prefix, length: int) -> None:
        self.blocks.adopt(slot, prefix, length)
        if prefix.saved is not None:
            self._worker.submit(self._network.load, slot, prefix.saved, length).result()

    def timings(self) -> dict[str, float]:
        return dict(self._times)

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
