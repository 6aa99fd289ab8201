"""Weights laid out as tensor-core fragments, so that a 16-byte load is an operand and no shuffle follows it.

A unit is 16 rows x 64 columns. Lane (g, t) of a warp (g = 0..7, t = 0..3) holds rows g and g + 8 of the columns
k = 32 u + 8 t + 4 p + 2 h + i (u, p, h, i = 0..1): the A operands of four 16x16x16 products, one per plane 2u + p,
whose
column c = 8 h + 2 t + i. The matching B operand is eight consecutive activations a lane. A unit is stored as
[g, t, h, half, i] elements of 16 bits; a 4-bit element holds the codes of all four planes, byte j of the 32-bit pair
(i = 0, 1) being plane j with i = 0 in the low nibble, so that a byte indexes a table of pairs; where codes are numbers
(forms.py) the nibbles of i = 0 are the pair's low half. 8-bit units store planes (0, 1) and (2, 3) one after the other,
16-bit units four planes.

Axis letters: N rows, K columns, E experts, `...` is empty or [E].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.model.kernels.device.forms import ZEROS, Form, records_apart

UNIT_ROWS = 16
UNIT_COLUMNS = 64
_TO_UNIT = (0, 1, 4, 3, 6, 8, 2, 5, 7, 9)
"""From [L, N/16, half, g, K/64, u, t, p, h, i] to [L, N/16, K/64, g, t, h, half, u, p, i]."""


@dataclass(frozen=True, slots=True)
class FragmentWeight:
    """A weight [..., N, K] ready for the kernels. `scales`: fp32 [..., N/16, K/64, 16], for 8 bits [..., N], for 16
    bits a dummy. `table`: int32 [256], two fp16 codebook values an entry (low nibble in the low half)."""

    words: Tensor
    """int16 [..., N/16, K/64, 64 * bits]."""
    scales: Tensor
    table: Tensor
    rows: int
    columns: int
    bits: int
    form: Form | None = None
    """Of other tools' formats and nl4; then `scales` are the groups' records, uint8 [..., N/16, bytes], and behind the
    table's entries is a factor fp32 for each row."""
    order: Tensor | None = None
    """int32 [K], of experts [E, K]: which input stands at each column's place; None: its own."""

    @property
    def kind(self) -> int:
        """What kernels call BITS."""
        return self.bits if self.form is None else self.form.kind

    @property
    def summed(self) -> bool:
        """Whether a scale multiplies the sum over a unit's columns."""
        return self.bits == 4 if self.form is None else self.form.summed

    @property
    def pairs(self) -> int:
        """Of scales, zeros or minima that a unit loads at once."""
        return 0 if self.form is None else self.form.pairs

    @property
    def numbers(self) -> bool:
        """Whether codes are numbers, not places in a table, and scales multiply them, not sums."""
        return self.form is not None and self.form.per_unit > 0 and not self.form.table and not self.form.summed

    def copies_in(self, tiles: int) -> bool:
        """Whether its words can be copied asynchronously, so many tiles of 16 rows at a time."""
        words = self.words
        return self.rows // UNIT_ROWS % tiles == 0 and words.is_contiguous() and words.data_ptr() % 16 == 0

    @property
    def nbytes(self) -> int:
        scales = 0 if self.bits == 16 else self.scales.nbytes
        rows = 0 if self.form is None else self.table.nbytes - 1024
        return self.words.numel() * 2 + scales + rows + (0 if self.order is None else self.order.nbytes)


@dataclass(frozen=True, slots=True)
class Beside:
    """Weights [N_i, K] in several formats that one input is multiplied with; their outputs lie side by side."""

    parts: tuple[FragmentWeight, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def columns(self) -> int:
        return self.parts[0].columns

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def slices(self) -> Iterator[tuple[FragmentWeight, slice]]:
        """Every part with the outputs that are its own."""
        at = 0
        for part in self.parts:
            yield part, slice(at, at + part.rows)
            at += part.rows


def pair_table(codebook: Tensor) -> Tensor:
    """int32 [256]: entry (high << 4 | low) holds fp16 codebook[low] in its low half, codebook[high] in its high
    half."""
    halves = codebook.to(torch.float16).view(torch.int16).to(torch.int32) & 0xFFFF
    return (halves.unsqueeze(1) << 16 | halves).reshape(-1).contiguous()


def _units(values: Tensor) -> Tensor:
    """[..., N, K] to [L, N/16, K/64, g, t, h, half, u, p, i]. ValueError where N or K is no multiple of a unit."""
    rows, columns = values.shape[-2:]
    if rows % UNIT_ROWS or columns % UNIT_COLUMNS:
        raise ValueError(f"a weight of {rows} rows and {columns} columns does not divide into units of 16 x 64")
    return values.reshape(-1, rows // 16, 2, 8, columns // 64, 2, 4, 2, 2, 2).permute(_TO_UNIT)


_PLACES = (0, 1, 2, 3, 4, 5, 6, 7)
_NUMBER_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""The nibble of a 32-bit word where a code lies, in the order (u, p, i): of a table's codes and of numbers."""
_UPPER_PLACES = {5: (0, 2, 4, 6, 1, 3, 5, 7), 6: (0, 8, 4, 12, 2, 10, 6, 14)}
"""Where the upper bits of numbers of 5 and 6 bits lie in a word's 8 or 16 of them."""


def fragment_codes(codes: Tensor, *, numbers: bool = False) -> Tensor:
    """uint8 codes 0..15 [..., N, K] to int16 [..., N/16, K/64, 256]."""
    units = _units(codes).to(torch.int32)  # L n b g t h half u p i
    words = torch.zeros(units.shape[:-3], dtype=torch.int32, device=codes.device)
    for nibble, place in enumerate(_NUMBER_PLACES if numbers else _PLACES):
        u, p, i = nibble >> 2, nibble >> 1 & 1, nibble & 1
        words |= units[..., u, p, i] << 4 * place
    return (
        words.reshape(words.shape[0], *words.shape[1:3], 128)
        .view(torch.int16)
        .view(*codes.shape[:-2], *words.shape[1:3], 256)
    )


def fragment_bytes(codes: Tensor) -> Tensor:
    """int8 [..., N, K] to int16 [..., N/16, K/64, 512]."""
    units = _units(codes).permute(0, 1, 2, 7, 3, 4, 5, 6, 8, 9).contiguous()  # L n b u | g t h half p i
    return units.view(*codes.shape[:-2], *units.shape[1:3], 1024).view(torch.int16)


def fragment_halves(values: Tensor) -> Tensor:
    """bf16 [..., N, K] to int16 [..., N/16, K/64, 1024]."""
    units = (
        _units(values.to(torch.bfloat16)).permute(0, 1, 2, 7, 8, 3, 4, 5, 6, 9).contiguous()
    )  # L n b u p | g t h half i
    return units.view(*values.shape[:-2], *units.shape[1:3], 1024).view(torch.int16)


def fragment_scales(absmax: Tensor) -> Tensor:
    """fp32 [..., N, K/64] to [..., N/16, K/64, 16]."""
    *lead, rows, blocks = absmax.shape
    swapped = absmax.float().view(*lead, rows // 16, 16, blocks).transpose(-1, -2)
    return swapped.clone(memory_format=torch.contiguous_format)


def unfragment(weight: FragmentWeight | Beside) -> Tensor:
    """The weight as fp32 [..., N, K] with the values that the kernels compute with (codebook in fp16), each column at
    its input's place."""
    if isinstance(weight, Beside):
        return torch.cat([unfragment(part) for part in weight.parts], -2)
    if weight.order is not None:
        values = unfragment(replace(weight, order=None))
        return torch.empty_like(values).scatter_(-1, weight.order.long().unsqueeze(-2).expand_as(values), values)
    lead = weight.words.shape[:-3]
    tiles, blocks = weight.rows // 16, weight.columns // 64
    if weight.form is not None:
        return _unfragment_formed(weight, weight.form)
    if weight.bits == 4:
        words = weight.words.reshape(-1, tiles, blocks, 256).view(torch.int32).view(-1, tiles, blocks, 8, 4, 2, 2)
        table = (weight.table & 0xFFFF)[:16].to(torch.int16).view(torch.float16).float()
        planes = [table[words >> 4 * nibble & 15] for nibble in range(8)]
        units = torch.stack(planes, -1).view(*words.shape, 2, 2, 2)  # L n b g t h half u p i
    elif weight.bits == 8:
        order = (0, 1, 2, 4, 5, 6, 7, 3, 8, 9)
        units = weight.words.view(torch.int8).reshape(-1, tiles, blocks, 2, 8, 4, 2, 2, 2, 2).permute(order).float()
    else:
        order = (0, 1, 2, 5, 6, 7, 8, 3, 4, 9)
        units = weight.words.view(torch.bfloat16).reshape(-1, tiles, blocks, 2, 2, 8, 4, 2, 2, 2).permute(order).float()
    back = tuple(_TO_UNIT.index(axis) for axis in range(10))
    values = units.permute(back).reshape(*lead, weight.rows, weight.columns)
    if weight.bits == 4:
        absmax = weight.scales.transpose(-1, -2).reshape(*lead, weight.rows, blocks)
        return (values.view(*lead, weight.rows, blocks, 64) * absmax.unsqueeze(-1)).view_as(values)
    return values * weight.scales.unsqueeze(-1) if weight.bits == 8 else values


def fragment_wide(codes: Tensor, bits: int) -> Tensor:
    """uint8 codes of 5 or 6 bits [..., N, K] to int16 [..., N/16, K/64, 64 bits]: low nibbles as of 4 bits, then for
    each 32-bit word of these its upper bits."""
    low = fragment_codes(codes & 15, numbers=True)
    units = _units(codes >> 4).to(torch.int32).flatten(-3)
    shifts = torch.tensor(_UPPER_PLACES[bits], dtype=torch.int32, device=codes.device)
    upper = (units << shifts).sum(-1).to(torch.uint8 if bits == 5 else torch.int16)  # L n b g t h half
    upper = upper.reshape(*low.shape[:-1], 128).view(torch.int16)
    return torch.cat((low, upper), -1)


def _unfragment_formed(weight: FragmentWeight, form: Form) -> Tensor:
    """As the kernels compute it: decoded, less zeros, times scales (in fp32 where they multiply sums), less minima, all
    in fp16; then the row's factor."""
    lead, rows, blocks = weight.words.shape[:-3], weight.rows, weight.columns // 64
    words = weight.words.reshape(-1, 64 * weight.bits)
    if weight.bits == 8:
        order = (
            torch.arange(1024, device=words.device).view(2, 8, 4, 2, 2, 2, 2).permute(1, 2, 3, 4, 0, 5, 6).reshape(-1)
        )
        octets = words.view(torch.uint8)[:, order]
        units = octets.view(torch.float8_e4m3fn).float() / 256 if form.e4m3 else octets.view(torch.int8).float()
    else:
        nibbles = torch.tensor(_PLACES if form.table else _NUMBER_PLACES, device=words.device)
        codes = words[:, :256].contiguous().view(torch.int32).unsqueeze(-1) >> 4 * nibbles & 15
        if form.table:
            units = (weight.table[:16] & 0xFFFF).to(torch.int16).view(torch.float16).float()[codes]
        else:
            more = weight.bits - 4
            if more:
                upper = words[:, 256:].contiguous().view(torch.uint8 if more == 1 else torch.int16).int() & 0xFFFF
                places = torch.tensor(_UPPER_PLACES[weight.bits], device=words.device)
                codes = codes | (upper.unsqueeze(-1) >> places & (1 << more) - 1) << 4
            units = codes.float() - (1 << weight.bits - 1 if form.signed else 0)
    back = tuple(_TO_UNIT.index(axis) for axis in range(10))
    shape = (-1, rows // 16, blocks, 8, 4, 2, 2, 2, 2, 2)
    values = units.reshape(shape).permute(back).reshape(-1, weight.columns).half()
    if form.per_unit:
        scales, second = records_apart(form, weight.scales, len(values) // 16, blocks)
        zeros = second if form.second == ZEROS else None
        values = (values if zeros is None else values - zeros) * scales
        values = values if second is None or zeros is not None else values - second
    factors = weight.table[256:].view(torch.float32)
    return (values.float() * factors.unsqueeze(-1)).view(*lead, rows, weight.columns)


def interleave_gate_up(weight: Tensor) -> Tensor:
    """[..., 2I, ...rest] (gate rows, then up rows; the row axis is second to last) to units of 8 gate and 8 up rows."""
    *lead, rows, columns = weight.shape
    return weight.view(*lead, 2, rows // 16, 8, columns).transpose(-4, -3).reshape(*lead, rows, columns)
