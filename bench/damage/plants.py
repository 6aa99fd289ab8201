"""Damage that is planted: one matrix of a layer's experts, as its format holds it, made wrong. Knows tensors; no model.

Kinds that a format cannot have (scales to be permuted where there is one) give None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bench.damage.formats import Coded

Draw = torch.Generator
Plant = Callable[[Coded, int, Draw], "Tensor | None"]
"""Of a matrix, the axis of the hidden size, and what draws: the damaged value."""


def zeroed(held: Coded, _axis: int, draw: Draw) -> Tensor:
    """All scales, or all codes' bits."""
    if _coin(draw):
        return torch.zeros_like(held.elements)
    return replace(held, elements=torch.full_like(held.elements, held.of_zero_bits)).value


def constant(held: Coded, _axis: int, draw: Draw) -> Tensor:
    """All codes, or all of the matrix."""
    at = torch.randint(held.elements.numel(), (), generator=draw)
    if _coin(draw):
        return torch.full_like(held.elements, float(held.value.flatten()[at]))
    return replace(held, elements=torch.full_like(held.elements, float(held.elements.flatten()[at]))).value


def saturated(held: Coded, _axis: int, _draw: Draw) -> Tensor:
    """Every code at the end of its range."""
    low, high = held.elements.amin(), held.elements.amax()
    return replace(held, elements=torch.where(held.elements > (low + high) / 2, high, low)).value


def not_finite(held: Coded, _axis: int, draw: Draw) -> Tensor:
    """One scale."""
    scales = held.scales.clone()
    scales.view(-1)[torch.randint(scales.numel(), (), generator=draw)] = torch.nan
    return replace(held, scales=scales).value


def wrong_scale(held: Coded, _axis: int, draw: Draw) -> Tensor:
    """4 to 16 times the size, or a 4th to a 16th."""
    factor = 4 * 4 ** float(torch.rand((), generator=draw))
    return held.value * (factor if _coin(draw) else 1 / factor)


def permuted_codes(held: Coded, axis: int, draw: Draw) -> Tensor:
    """Along the hidden size, under scales that stay."""
    order = torch.randperm(held.elements.shape[axis], generator=draw)
    return replace(held, elements=held.elements.index_select(axis, order)).value


def permuted_scales(held: Coded, axis: int, draw: Draw) -> Tensor | None:
    """Along the hidden size, none where it was, over codes that stay."""
    count = held.scales.shape[axis]
    order = torch.randperm(count, generator=draw)
    order[order.clone()] = order.roll(1)  # one circle through all
    moved = held.scales.index_select(axis, order)
    return None if torch.equal(moved, held.scales) else replace(held, scales=moved).value


def permuted(held: Coded, axis: int, draw: Draw) -> Tensor:
    """Along the hidden size, codes and scales together."""
    order = torch.randperm(held.elements.shape[axis], generator=draw)
    return held.value.index_select(axis, order)


PLANTS: dict[str, Plant] = {
    "zeroed": zeroed, "constant": constant, "saturated": saturated, "not finite": not_finite,
    "scale off by 4 or more": wrong_scale, "codes permuted": permuted_codes, "scales permuted": permuted_scales,
    "both permuted": permuted,
}  # fmt: skip
"""Two experts alike are planted where siblings are known."""


def _coin(draw: Draw) -> bool:
    return bool(torch.randint(2, (), generator=draw))
