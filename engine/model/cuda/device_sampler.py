"""The sampling half of a step on the device: host parameters in, one captured graph, ids and facts out.

Knows buffers, row counts and which passes a step needs. Knows nothing of seeds, matchers or models.
Axis letters: R logits rows, V logits width, W = ceil(V / 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.interfaces import Sampled, SampleInputs
from engine.model.cpu.sampling import unpack_bitmask
from engine.model.cuda.device_streams import DeviceStreams
from engine.model.kernels.sampling.sampling import SampleBuffers, make_buffers

Alternatives = tuple[Tensor, Tensor, Tensor]
Variant = tuple[int, tuple[int, ...], bool, bool]
"""Rows, search stages, filtered, facts."""


class DeviceSampler:
    """Buffers for up to `rows` rows over `logits` [rows, V]; `last` int32 [slots] receives sampled ids."""

    def __init__(self, machine: DeviceStreams, logits: Tensor, last: Tensor, sample: Callable[..., None]) -> None:
        rows, vocab = logits.shape
        self._machine = machine
        self._logits = logits
        self._last = last
        self._sample = sample
        self._ids = machine.host(rows, dtype=torch.int32)
        self.buffers: SampleBuffers = make_buffers(rows, vocab, logits.device, self._ids)
        words = self.buffers.bitmask.shape[1]
        self._seen = torch.zeros(len(last), words, dtype=torch.int32, device=logits.device)
        self._marks = np.zeros((len(last), words), dtype=np.uint32)
        self._stale = np.zeros(len(last), dtype=bool)
        self._floats = machine.host(5, rows, dtype=torch.float32)
        self._integers = machine.host(4, rows, dtype=torch.int32)
        self._facts = machine.host(rows, 8, dtype=torch.float32)
        self._masses = machine.host(rows, 2, dtype=torch.float32)
        self._copies = machine.host(2, rows, dtype=torch.int64)
        self._sources = torch.zeros(2, rows, dtype=torch.int64, device=logits.device)
        self._staged = machine.host(rows, words, dtype=torch.int32)
        self._graphs: dict[Variant, Callable[[], None]] = {}
        self._rows = 0
        self._inputs: SampleInputs | None = None
        self._top: list[Alternatives | None] = []

    @property
    def capacity(self) -> int:
        return int(self._logits.shape[0])

    def mark(self, slot: int, tokens: Sequence[int], *, fresh: bool = False) -> None:
        """Add ids to what the repetition penalty of a slot has seen; `fresh` forgets the rest first."""
        if fresh:
            self._marks[slot] = 0
        ids = np.asarray(list(tokens), dtype=np.int64)
        np.bitwise_or.at(self._marks[slot], ids >> 5, (np.uint32(1) << (ids & 31).astype(np.uint32)))
        self._stale[slot] = True

    def stage(self, inputs: SampleInputs) -> int:
        """Parameters to the device, on the current stream; gives the number of rows that the graph runs over."""
        rows = len(inputs.slots)
        assert rows <= self.capacity, f"{rows} logits rows, the sampler was made for {self.capacity}"
        self._rows, self._inputs = rows, inputs
        bucket = bucket_of(rows, self.capacity)
        floats, integers = self._floats.numpy(), self._integers.numpy()
        floats[:, :bucket] = np.array([[0.0], [1.0], [0.0], [1.0], [0.0]], dtype=np.float32)
        floats[:, :rows] = (inputs.temperature, inputs.top_p, inputs.min_p, inputs.repetition_penalty, inputs.uniform)
        np.minimum(floats[4], np.float32(1.0 - 2.0**-24), out=floats[4])
        integers[:, :bucket] = 0
        integers[0, :rows] = inputs.top_k
        integers[1, :rows] = inputs.slots
        integers[2, :rows] = inputs.bitmask is not None
        integers[3, :rows] = [slot not in inputs.slots[row + 1 :] for row, slot in enumerate(inputs.slots)]
        self.buffers.floats.copy_(self._floats, non_blocking=True)
        self.buffers.integers.copy_(self._integers, non_blocking=True)
        if inputs.sources:
            self._copies[:, : len(inputs.sources)] = torch.tensor([list(inputs.sources), list(inputs.sources.values())])
            self._sources.copy_(self._copies, non_blocking=True)
        self._refresh_seen(inputs)
        return bucket

    def _refresh_seen(self, inputs: SampleInputs) -> None:
        for slot, penalty in zip(inputs.slots, inputs.repetition_penalty, strict=True):
            if penalty != 1.0 and self._stale[slot]:
                self._seen[slot].copy_(torch.from_numpy(self._marks[slot].view(np.int32)))
                self._stale[slot] = False

    def copy_mask(self, bitmask: Any) -> None:
        """Enqueue the copy of int32 [R, W] on the current stream; straight from pinned memory, else through ours."""
        mask = torch.as_tensor(bitmask)
        if self._machine.cuda and not mask.is_pinned():
            self._staged[: len(mask)].copy_(mask)
            mask = self._staged[: len(mask)]
        self.buffers.bitmask[: len(mask)].copy_(mask, non_blocking=True)

    def run(self, bucket: int) -> None:
        """Replay the graph of the step's variant on the main stream; its ids arrive on the host, facts are copied."""
        assert self._inputs is not None
        if self._inputs.sources:
            copies, sources = self._sources[:, : len(self._inputs.sources)]
            self._logits[copies] = self._logits[sources]
        scaled = self._tempered() if self._inputs.want_mass else None
        self._add_bias(self._inputs)
        self.graph(self.variant(bucket, self._inputs))()
        if scaled is not None:
            self._masses[: self._rows].copy_(self._measured(scaled), non_blocking=True)  # in one piece: no wait
        self._top = [self._alternatives(row, self._inputs) for row in range(self._rows)]
        if self._inputs.want_logprobs or self._inputs.want_stats:
            self._facts.copy_(self.buffers.facts, non_blocking=True)

    def _tempered(self) -> Tensor:
        """Free logits [R, V] at each row's temperature, 1 where greedy."""
        temperature = self.buffers.floats[0, : self._rows]
        divisor = torch.where(temperature > 0, temperature, 1.0)
        return self._logits[: self._rows].float() / divisor[:, None]

    def _add_bias(self, inputs: SampleInputs) -> None:
        for row, bias in (inputs.bias or {}).items():
            added = torch.tensor(list(bias.values()), device=self._logits.device) * inputs.temperature[row]
            self._logits[row, list(bias)] += added.to(self._logits.dtype)

    def _measured(self, scaled: Tensor) -> Tensor:
        """log Z, and the log-probability of the id that the slot has sampled last: [R, 2]."""
        assert self._inputs is not None
        legal = scaled
        if self._inputs.bitmask is not None:
            mask = unpack_bitmask(self.buffers.bitmask[: self._rows], scaled.shape[1])
            legal = torch.where(mask, scaled, -torch.inf)
        slots = self.buffers.integers[1, : self._rows].long()
        drawn = scaled.gather(1, self._last[slots].long()[:, None])[:, 0]
        return torch.stack([torch.logsumexp(legal, -1), drawn], -1) - torch.logsumexp(scaled, -1)[:, None]

    def mask_cost(self, bucket: int) -> float:
        """Microseconds that a bitmask adds to the fused pass over `bucket` rows, measured; 0 on a CPU."""
        replay, machine = self.graph((bucket, (), False, False)), self._machine
        if not machine.cuda:
            return 0.0
        times: dict[int, list[float]] = {0: [], 1: []}
        for masked in (0, 1) * 8:
            self.buffers.integers.zero_()
            self.buffers.integers[2, :bucket] = masked
            first, second = machine.event(), machine.event()
            machine.record(first)
            for _ in range(8):
                replay()
            machine.record(second)
            machine.finish(second)
            times[masked].append(machine.microseconds(first, second) / 8)
        return max(0.0, float(np.median(times[1]) - np.median(times[0])))

    def variant(self, bucket: int, inputs: SampleInputs) -> Variant:
        """Which passes the step's parameters need."""
        drawn = [row for row, temperature in enumerate(inputs.temperature) if temperature > 0]
        top_k = any(0 < inputs.top_k[row] < self._logits.shape[1] for row in drawn)
        top_p = any(inputs.top_p[row] < 1.0 for row in drawn)
        filtered = top_k or top_p or any(inputs.min_p[row] > 0.0 for row in drawn)
        stages = tuple(stage for stage, wanted in ((0, top_k), (1, top_p)) if wanted)
        return bucket, stages, filtered, bool(inputs.want_logprobs or inputs.want_stats)

    def graph(self, variant: Variant) -> Callable[[], None]:
        """Captured at first use."""
        if variant not in self._graphs:
            self._graphs[variant] = self._machine.capture(self.work(variant))
        return self._graphs[variant]

    def work(self, variant: Variant) -> Callable[[], None]:
        """The launches of a variant."""
        rows, stages, filtered, facts = variant
        flags = {"stages": stages, "filtered": filtered, "facts": facts}
        return lambda: self._sample(self._logits[:rows], self.buffers, self._seen, self._last, **flags)

    def result(self) -> Sampled:
        """What `run` sampled, once its copies have arrived."""
        assert self._inputs is not None
        rows, inputs = self._rows, self._inputs
        sampled = Sampled(token_ids=self._ids[:rows].tolist())
        if inputs.want_mass:
            sampled.log_mass, sampled.log_drawn = self._masses[:rows].t().tolist()
        if not (inputs.want_logprobs or inputs.want_stats):
            return sampled
        raw, constrained, mass, free, entropy, favourite, legal = self._facts[:rows, :7].t().tolist()
        if inputs.want_logprobs:
            sampled.logprob_raw, sampled.logprob = raw, constrained
            sampled.top = [_listed(found) for found in self._top]
        if inputs.want_stats:
            sampled.mass, sampled.entropy_free, sampled.entropy = mass, free, entropy
            sampled.argmax_free = [int(value) for value in favourite]
            sampled.argmax_legal = [value > 0 for value in legal]
        return sampled

    def _alternatives(self, row: int, inputs: SampleInputs) -> Alternatives | None:
        """The most likely legal ids of a row with raw and constrained logprobs; computed before the logits go."""
        count = min(inputs.want_logprobs - 1, self._logits.shape[1])
        if count < 1:
            return None
        raw = torch.log_softmax(self._logits[row].double(), -1)
        allowed = raw
        if inputs.bitmask is not None:
            allowed = torch.where(unpack_bitmask(self.buffers.bitmask[row : row + 1], len(raw))[0], raw, -torch.inf)
        best = torch.topk(allowed, count)
        return best.indices, raw[best.indices], best.values - torch.logsumexp(allowed, -1)


def _listed(found: Alternatives | None) -> list[tuple[int, float, float]]:
    if found is None:
        return []
    entries = zip(*(part.tolist() for part in found), strict=True)
    return [(int(token), raw, constrained) for token, raw, constrained in entries if constrained > -torch.inf]


def bucket_of(count: int, most: int) -> int:
    """The power of two that `count` is padded to."""
    return min(most, 1 << max(0, count - 1).bit_length())
