"""Weights as a format holds them, and as noise of the same size leaves them. Knows tensors and names; scores nothing.

A format's control adds Gaussian noise to every weight tensor that the format would quantise, with the RMS of the error
that the format makes in that tensor. What format and control share is the size of the error, not its shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.weights.inventory import PLAIN, Inventory, Weight, inventory, wanted_format
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor

FORMATS = ("bf16", "int8", "nf4", "nf4-dq", "fp4", "int4", "nl4")
CALIBRATED = "nl4+calibrated"


@dataclass(frozen=True, slots=True)
class Variant:
    """`format` is one of FORMATS, or a name for what `stored` holds; `noise` makes it that format's control."""

    format: str
    noise: bool = False
    stored: Mapping[str, Weight] | None = None
    """Weights that a checkpoint has; without it they are rounded here."""

    @property
    def name(self) -> str:
        return f"noise~{self.format}" if self.noise else self.format

    def packed(self, name: str, weight: Tensor) -> Weight:
        """The weight as the format holds it."""
        if self.stored is not None:
            return self.stored[name].to(weight.device)
        return weight.to(torch.bfloat16) if self.format == PLAIN else quantize_tensor(weight, self.format)


@dataclass(frozen=True, slots=True)
class Made:
    """What can be said of a variant's weights."""

    relative_rms: float
    """RMS of the change over RMS of the weights, over all changed tensors."""
    inventory: Inventory | None
    """None for a control."""


Put = Callable[[str, Tensor], None]
"""Takes a changed weight, fp32, on the device of the original."""


def is_changed(name: str, axes: int) -> bool:
    """Whether a format touches this weight at all."""
    return wanted_format(name, axes, "nf4") != PLAIN


def make(weights: Iterable[tuple[str, Tensor]], variant: Variant, seed: int, put: Put) -> Made:
    """Hand every weight that the format changes to `put`. Memory: one weight at a time."""
    stored: dict[str, Weight] = {}
    error = size = 0.0
    for name, own in weights:
        if not is_changed(name, own.ndim):
            stored[name] = own.to("meta", torch.bfloat16)
            continue
        weight = own.float()
        packed = variant.packed(name, weight)
        value = packed.dequantize() if isinstance(packed, QuantizedTensor) else packed.float()
        if variant.noise:
            rms = (value - weight).pow(2).mean().sqrt()
            value = torch.randn(weight.shape, generator=_generator(seed, name, weight.device), device=weight.device)
            value.mul_(rms).add_(weight)
        stored[name] = packed.to("meta")
        error += _square(value - weight)
        size += _square(weight)
        put(name, value)
    table = None if variant.noise else inventory(stored)
    return Made((error / size) ** 0.5 if size else 0.0, table)


def bytes_per_token(table: Inventory, *, tied: bool, expert_share: float) -> int:
    """Weight bytes that one token at batch 1 reads: everything once, of the experts the chosen ones, of an embedding
    that is not also the head one row (left out)."""
    total = 0.0
    for row in table.rows:
        if row.kind == "embedding" and not tied:
            continue
        total += row.nbytes * (expert_share if row.kind == "experts" else 1.0)
    return round(total)


def _square(tensor: Tensor) -> float:
    """The sum of squares, row sums in fp32 added in fp64."""
    return float(tensor.pow(2).sum(-1).double().sum())


def _generator(seed: int, name: str, device: torch.device) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "little"))
