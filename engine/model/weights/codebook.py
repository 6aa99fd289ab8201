"""The tables of the 8- and 4-bit formats, and the search for a value's nearest entry.

A codebook maps a 4-bit code to a number in [-1, 1] (int4 reaches -8/7, but code 0 is never written; e2m1, which is only
read, reaches 6). Ties between two entries go to the lower one, which is bitsandbytes' rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

_CELLS = 512
"""Grid cells per unit in `rank`; fine enough that no cell holds two boundaries of any codebook."""
SPACING = 2 / _CELLS
"""Between entries of a table that is fitted, so that its boundaries have cells of their own."""
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of the normal distribution (QLoRA, arXiv 2305.14314); the constants are part of the format."""
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, -0.0, -0.0625, -8.0, -12.0, -4.0, -6.0, -2.0, -3.0)
"""One sign, two exponent, one mantissa bit, in the order of the bit patterns, before division by 12."""
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The Open Compute Project's FP4 (MX specification 1.0), in the order of the bit patterns; not scaled."""


@cache
def codebook(quantization: str, device: torch.device) -> Tensor:
    """fp32 [16] in the order of the codes (fp4's is not ascending); for int8 fp32 [1] = 1/127."""
    if quantization == "int8":
        return torch.tensor([1 / 127], dtype=torch.float32, device=device)
    if quantization == "int4":
        return (torch.arange(16, dtype=torch.float32, device=device) - 8) / 7
    if quantization == "e2m1":
        return torch.tensor(_E2M1, dtype=torch.float32, device=device)
    values = torch.tensor(_FP4 if quantization == "fp4" else _NF4, dtype=torch.float32, device=device)
    return values / values.abs().max()


@cache
def dynamic_map(device: torch.device) -> Tensor:
    """fp32 [256], ascending: 8-bit codes with a moving split between exponent and fraction (arXiv 1511.04561)."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        magnitudes = ((edges[:-1] + edges[1:]) / 2.0 * 10 ** (exponent - 6)).tolist()
        values += magnitudes + [-magnitude for magnitude in magnitudes]
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


def pair_table(table: Tensor) -> Tensor:
    """fp32 [256, 2]: both values of a packed byte, the high nibble's first."""
    return torch.cartesian_prod(table, table)


@dataclass(frozen=True, slots=True)
class Grid:
    """What `rank` needs of a table, per cell of a uniform grid: the uint8 rank of its lowest value, and the fp32
    boundary inside it (2, out of reach, where there is none)."""

    base: Tensor
    edge: Tensor


def nearest(values: Tensor, quantization: str) -> Tensor:
    """uint8 rank of the nearest codebook value, for fp32 values in [-1, 1]."""
    return rank(values, _named_grid(quantization, values.device))


def rank(values: Tensor, grid: Grid) -> Tensor:
    """uint8 rank of the nearest entry of the grid's table, for fp32 values in [-1, 1].

    The same answer as a search, many times as fast: a cell knows the rank below it and the one boundary it may hold.
    Exact, since the grid index is a monotone function that values and boundaries share.
    """
    cells = _cell(values).reshape(-1)
    ranks = grid.base.index_select(0, cells) + (values.reshape(-1) > grid.edge.index_select(0, cells))
    return ranks.view(values.shape)


def grid_of(table: Tensor) -> Grid:
    """The grid of an ascending table whose entries are at least `SPACING` apart."""
    boundaries = (table[:-1] + table[1:]) / 2
    cells = _cell(boundaries).long().clamp(min=0)
    edge = torch.full((2 * _CELLS + 1,), 2.0, device=table.device)
    counts = torch.zeros(2 * _CELLS + 1, dtype=torch.int64, device=table.device)
    reachable = boundaries > -1
    edge[cells[reachable]] = boundaries[reachable]
    counts.index_add_(0, cells, torch.ones_like(cells))
    base = counts.cumsum(0) - counts
    base[0] += int((~reachable).sum())
    assert int(counts.max()) == 1, "two boundaries share a grid cell"
    return Grid(base.to(torch.uint8), edge)


@cache
def _named_grid(quantization: str, device: torch.device) -> Grid:
    return grid_of(codebook(quantization, device).sort().values)


def _cell(values: Tensor) -> Tensor:
    return ((values + 1) * _CELLS).to(torch.int32)


def nearest_dynamic(values: Tensor) -> Tensor:
    """uint8 code of the nearest entry of `dynamic_map`."""
    table = dynamic_map(values.device)
    return torch.bucketize(values, (table[:-1] + table[1:]) / 2, out_int32=True).to(torch.uint8)
