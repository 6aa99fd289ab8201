"""Floats rounded to nl4: a table fitted to the weight and scales that may be negative.

A group's scale is searched among its own 256 codes, near what would map the group's largest element to the end of the
table, with either sign: an uneven table then serves groups whose extreme lies on either side. Errors are weighed by the
second moments of the inputs where those are known, and then, in rows where that pays, fed back into columns that are
still to be rounded (feedback.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.errors import ModelError
from engine.model.weights.codebook import SPACING, Grid, codebook, grid_of, rank
from engine.model.weights.coding import CODINGS
from engine.model.weights.decoding import row_slices
from engine.model.weights.feedback import round_with_feedback
from engine.model.weights.quantized_tensor import QuantizedTensor, from_parts

NL4 = CODINGS["nl4"]
_LARGEST = 256.0
"""The scale that maps the weight's largest element to the end of the table: e4m3 reaches 448, and error feedback may
make elements larger."""
_STEPS = (-3, -2, -1, 0, 1)
"""Codes of a scale that are tried, counted from the one that maps the group's largest element to the end."""
_SAMPLE = 1 << 16
"""Elements that the table is fitted to."""
_ROUNDS = 10


class Table:
    """An ascending table of 16 numbers whose largest magnitude is 1, and the search for scales under it."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._grid: Grid = grid_of(values)

    def ranks(self, blocks: Tensor, scales: Tensor) -> Tensor:
        """uint8 codes of [..., G, g] under scales [..., G]."""
        inverse = torch.where(scales == 0, 0.0, 1.0 / scales)[..., None]
        return rank((blocks * inverse).clamp_(-1, 1), self._grid)

    def decoded(self, ranks: Tensor, scales: Tensor) -> Tensor:
        """What codes stand for."""
        return self.values.index_select(0, ranks.reshape(-1).int()).view(ranks.shape) * scales[..., None]

    def best_scales(self, blocks: Tensor, importance: Tensor | None) -> Tensor:
        """fp32 scales [..., G], each an e4m3 number, of blocks [..., G, g]; `importance` weighs squared errors and
        broadcasts over blocks."""
        extremes = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True)).squeeze(-1)
        start = extremes.abs().clamp(max=448).to(torch.float8_e4m3fn).view(torch.uint8).int()
        best = torch.zeros_like(extremes)
        least = torch.full_like(extremes, torch.inf)
        for step in _STEPS:
            size = (start + step).clamp(0, 126).to(torch.uint8).view(torch.float8_e4m3fn).float()
            for scales in (size, -size):
                error = (self.decoded(self.ranks(blocks, scales), scales) - blocks).square_()
                total = (error if importance is None else error.mul_(importance)).sum(-1)
                better = total < least
                best, least = torch.where(better, scales, best), torch.where(better, total, least)
        return best


def quantize_fitted(weight: Tensor, moments: Tensor | None = None) -> QuantizedTensor:
    """Quantise [..., N, K] floats; `moments`, [..., K, K] on the same device, are the mean products of the inputs (of
    each expert). ModelError where an element is not finite. Memory beside the result: with moments a copy in fp32 and
    three of the moments, of one expert at a time."""
    *lead, columns = weight.shape
    largest = weight.abs().amax().float()
    if not bool(torch.isfinite(largest)):
        raise ModelError("the weight holds an infinity or NaN, which no quantisation can represent")
    unit = (largest / _LARGEST).clamp(min=1e-38)
    matrices = weight.reshape(-1, *weight.shape[-2:])
    known = None if moments is None else moments.reshape(-1, columns, columns)
    table = _fit(matrices, unit, known)
    codes, scales = [], []
    for index, matrix in enumerate(matrices):
        for ranks, found in _rounded(matrix, unit, table, None if known is None else known[index]):
            codes.append(ranks[..., 0::2] << 4 | ranks[..., 1::2])
            scales.append(found.to(torch.float8_e4m3fn))
    parts = {"packed": torch.cat(codes).view(*lead, -1), "absmax": torch.cat(scales).view(*lead, -1)}
    return from_parts(parts, tuple(weight.shape), NL4, table.values * unit)


def _rounded(matrix: Tensor, unit: Tensor, table: Table, moments: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 codes [R, Kp] and fp32 scales [R, G] of a matrix [N, K], some rows after others."""
    if moments is not None:
        yield _best_of_both(_padded(matrix.float() / unit), pad(moments, 2 * (0, -len(moments) % NL4.group)), table)
        return
    for part in row_slices(matrix):
        yield _alone(_padded(matrix[part].float() / unit), None, table)


def _alone(rows: Tensor, importance: Tensor | None, table: Table) -> tuple[Tensor, Tensor]:
    """Codes and scales of rows, each element rounded for itself."""
    blocks = rows.view(len(rows), -1, NL4.group)
    scales = table.best_scales(blocks, importance)
    return table.ranks(blocks, scales).view(rows.shape), scales


def _best_of_both(rows: Tensor, moments: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Of every row the codes and scales with errors fed back where that pays, else without."""
    alone = _alone(rows, moments.diagonal().view(-1, NL4.group), table)
    fed = round_with_feedback(rows.clone(), moments, NL4.group, table)
    errors = []
    for codes, scales in (alone, fed):
        blocks = codes.view(len(rows), -1, NL4.group)
        error = table.decoded(blocks, scales).view(rows.shape) - rows
        errors.append((error @ moments * error).sum(-1, keepdim=True))
    pays = errors[1] < errors[0]
    return torch.where(pays, fed[0], alone[0]), torch.where(pays, fed[1], alone[1])


def _fit(matrices: Tensor, unit: Tensor, moments: Tensor | None) -> Table:
    """Lloyd's iteration over a sample of rows: scales and codes for the table, then the table for them."""
    count, rows, columns = matrices.shape
    picked = torch.arange(0, count * rows, max(1, matrices.numel() // _SAMPLE), device=matrices.device)
    blocks = _blocks(matrices.reshape(-1, columns)[picked].float() / unit)
    importance = None
    if moments is not None:
        importance = _blocks(moments.diagonal(dim1=-2, dim2=-1)[picked // rows])
    table = Table(codebook("nf4", matrices.device))
    for _ in range(_ROUNDS):
        scales = table.best_scales(blocks, importance)
        ranks = table.ranks(blocks, scales).reshape(-1).long()
        weights = scales[..., None].square().expand_as(blocks)
        products = blocks * scales[..., None]
        if importance is not None:
            weights, products = weights * importance, products * importance
        sums, sizes = (
            torch.zeros(16, device=blocks.device).index_add_(0, ranks, x.reshape(-1)) for x in (products, weights)
        )
        table = Table(_spaced(torch.where(sizes > 0, sums / sizes, table.values)))
    return table


def _spaced(values: Tensor) -> Tensor:
    """Ascending, at least SPACING apart, the largest magnitude 1."""
    least = torch.arange(16, device=values.device) * (2 * SPACING)
    spaced = (values.sort().values - least).cummax(0).values + least
    return spaced / spaced.abs().max()


def _blocks(rows: Tensor) -> Tensor:
    return _padded(rows).view(len(rows), -1, NL4.group)


def _padded(rows: Tensor) -> Tensor:
    return pad(rows, (0, NL4.padded(rows.shape[1]) - rows.shape[1]))
