"""Weights as a format holds them, and as noise of the same size leaves them. Knows tensors and names; scores nothing.

A format's control adds Gaussian noise to every weight tensor that the format would quantise, with the RMS of the error
that the format makes in that tensor. What format and control share is the size of the error, not its shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.inventory import PLAIN, Inventory, Weight, inventory, wanted_format
from engine.model.quantized_tensor import QuantizedTensor, quantize_tensor

FORMATS = ("bf16", "int8", "nf4", "nf4-dq", "fp4", "int4")


@dataclass(frozen=True, slots=True)
class Variant:
    """`format` is one of FORMATS; `noise` makes it that format's control."""

    format: str
    noise: bool = False

    @property
    def name(self) -> str:
        return f"noise~{self.format}" if self.noise else self.format


@dataclass(slots=True)
class Made:
    """Weights of a variant and what they say of it."""

    weights: dict[str, Tensor]
    relative_rms: float
    """RMS of the change over RMS of the weights, over all changed tensors."""
    inventory: Inventory | None
    """None for a control."""


def is_changed(name: str, axes: int) -> bool:
    """Whether a format touches this weight at all."""
    return wanted_format(name, axes, "nf4") != PLAIN


def make(weights: Mapping[str, Tensor], variant: Variant, seed: int) -> Made:
    """The weights a variant computes with, fp32, changed tensors only. Memory: those tensors once more."""
    changed: dict[str, Tensor] = {}
    stored: dict[str, Weight] = {}
    error = size = 0.0
    for name, weight in weights.items():
        if not is_changed(name, weight.ndim):
            stored[name] = weight.to(torch.bfloat16)
            continue
        packed = weight.to(torch.bfloat16) if variant.format == PLAIN else quantize_tensor(weight, variant.format)
        value = packed.dequantize() if isinstance(packed, QuantizedTensor) else packed.float()
        if variant.noise:
            rms = float((value - weight).pow(2).mean().sqrt())
            value = weight + rms * torch.randn(weight.shape, generator=_generator(seed, name))
        else:
            stored[name] = packed
        error += float((value - weight).double().pow(2).sum())
        size += float(weight.double().pow(2).sum())
        changed[name] = value
    table = None if variant.noise else inventory(stored)
    return Made(changed, (error / size) ** 0.5 if size else 0.0, table)


def bytes_per_token(table: Inventory, *, tied: bool, expert_share: float) -> int:
    """Weight bytes that one token at batch 1 reads: everything once, of the experts the chosen ones, of an embedding
    that is not also the head one row (left out)."""
    total = 0.0
    for row in table.rows:
        if row.kind == "embedding" and not tied:
            continue
        total += row.nbytes * (expert_share if row.kind == "experts" else 1.0)
    return round(total)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
