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

from engine.interfaces import RowInput, Sampled, SampleInputs
from engine.model.decoder import Span
from engine.model.sampling import sample_rows, unpack_bitmask


class Network(Protocol):
    """Tokens in, logits out; owns the KV cache."""

    vocab_size: int

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V] of the flattened indices `wanted` after feeding `tokens` [T]."""

    def save(self, slot: int, length: int) -> Any:
        """A copy of a slot's first entries."""

    def load(self, slot: int, prefix: Any, length: int) -> None:
        """The reverse of `save`."""


class CpuRunner:
    """See `engine.interfaces.Runner`."""

    def __init__(
        self, network: Network, *, max_batch: int, max_sequence: int, quantization: str, device: str = "cpu"
    ) -> None:
        self._network = network
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
        self._logits = self._worker.submit(self._forward, tuple(rows))

    def _forward(self, rows: Sequence[RowInput]) -> Tensor:
        started = time.perf_counter()
        tokens: list[int] = []
        spans: list[Span] = []
        wanted: list[int] = []
        for row in rows:
            fed = [self._last[row.slot]] if row.tokens is None else list(row.tokens)
            spans.append(Span(row.slot, len(tokens), len(tokens) + len(fed), row.position))
            tokens.extend(fed)
            wanted.extend(range(len(tokens) - row.logits, len(tokens)))
        with torch.inference_mode():
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

    def reset_slot(self, slot: int, seen: Sequence[int] = ()) -> None:
        self._worker.submit(self._seen.__setitem__, slot, set(seen)).result()

    def mark_seen(self, slot: int, tokens: Sequence[int]) -> None:
        self._worker.submit(self._seen[slot].update, tokens)

    def save_prefix(self, slot: int, length: int) -> Any:
        return self._worker.submit(self._network.save, slot, length).result()

    def load_prefix(self, slot: int, prefix: Any, length: int) -> None:
        self._worker.submit(self._network.load, slot, prefix, length).result()

    def timings(self) -> dict[str, float]:
        return dict(self._times)

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
