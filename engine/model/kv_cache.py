"""The key/value cache of the GPU runner: how many slots fit, and copies of prefixes in and out of a slot.

Layout fp16 [layers, 2, slots, K, S, D]: keys and values, K heads, S positions, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.decoder import Shape

RESERVE = 1 << 30
"""Bytes kept for activations, logits and graphs."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """Entries of a prompt prefix [layers, 2, K, length, D]."""

    entries: Tensor

    @property
    def nbytes(self) -> int:
        return self.entries.nbytes


def slot_bytes(shape: Shape, positions: int, itemsize: int = 2) -> int:
    """Bytes of one slot."""
    return shape.layers * 2 * shape.kv_heads * positions * shape.head_dim * itemsize


def slots_that_fit(shape: Shape, positions: int, wanted: int, free: int) -> int:
    """At most `wanted`; ModelError where not even one fits, naming the length that would."""
    usable = free - RESERVE
    fitting = min(wanted, usable // slot_bytes(shape, positions))
    if fitting >= 1:
        return fitting
    longest = max(0, usable // slot_bytes(shape, 1)) // 64 * 64
    advice = f"max_sequence={longest} would fit" if longest else "use a smaller quantization or a larger device"
    raise ModelError(
        f"one request of max_sequence={positions} needs {slot_bytes(shape, positions) / 2**30:.2f} GiB of KV cache, "
        f"{max(0, usable) / 2**30:.2f} GiB are free beside the weights: {advice}",
        param="max_sequence",
    )


def make_cache(
    shape: Shape, slots: int, positions: int, device: torch.device, dtype: torch.dtype = torch.float16
) -> Tensor:
    """Zeros, so that no stale NaN is ever read behind a mask."""
    return torch.zeros(shape.layers, 2, slots, shape.kv_heads, positions, shape.head_dim, dtype=dtype, device=device)


def save(cache: Tensor, slot: int, length: int) -> CachedPrefix:
    """A copy of the slot's first `length` entries, on the device."""
    return CachedPrefix(cache[:, :, slot, :, :length].clone())


def load(cache: Tensor, slot: int, prefix: CachedPrefix, length: int) -> None:
    """Overwrite the slot's first `length` entries."""
    cache[:, :, slot, :, :length].copy_(prefix.entries[:, :, :, :length])
