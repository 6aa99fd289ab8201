"""Weights of other tools' formats, and nl4's, as fragment units with records of groups (kernels/device/forms.py).

Codes, scales, zeros and minima are moved, not rounded: scales are multiplied by a power of two where that brings the
products of codes and scales into fp16's range, and a row's factor takes it back. Knows tensors; no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import frexp

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.formats.bits import octets_of
from engine.model.kernels.device.forms import MINIMA, SCALE_TYPES, ZEROS, Form, group_records
from engine.model.kernels.device.fragments import (
    FragmentWeight,
    fragment_bytes,
    fragment_codes,
    fragment_wide,
    interleave_gate_up,
    pair_table,
)
from engine.model.weights.coding import CODINGS
from engine.model.weights.decoding import dtype_name, two_levels
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight

_REACH = 13
"""Exponent that the largest product of a code and a scale is brought to; fp16 ends at 16."""
_E4M3 = torch.float8_e4m3fn


def is_formed(weight: object) -> bool:
    """Whether the weight is laid out here, not as floats and our older formats are."""
    if isinstance(weight, QuantizedTensor):
        return weight.coding.fitted or weight.coding != CODINGS.get(weight.coding.name)
    return isinstance(weight, StackedWeight)


def alike(pieces: Sequence[Tensor | QuantizedTensor]) -> bool:
    """Whether pieces can be one weight: quantised, in one format with one table."""
    held = [piece for piece in pieces if isinstance(piece, QuantizedTensor)]
    first = held[0] if held else None
    return (
        first is not None
        and len(held) == len(pieces)
        and len({_signature(piece) for piece in held}) == 1
        and all(p.codebook is first.codebook or torch.equal(p.codebook, first.codebook) for p in held)
    )


def _signature(piece: QuantizedTensor) -> tuple[object, ...]:
    levels = (piece.zeros, piece.minima, piece.outer)
    held = tuple(level is not None and (level.numel() > 1 or level is piece.zeros) for level in levels)
    return piece.coding, piece.packed.dtype, piece.scale.dtype, piece.scale.numel() > 1, held


def formed_stack(weight: QuantizedTensor | StackedWeight, name: str, *, interleave: bool) -> FragmentWeight:
    """A weight [E, N, K], or [N, K] as one expert. ModelError where its pieces differ, or some are floats."""
    pieces = weight.pieces if isinstance(weight, StackedWeight) else (weight,)
    if isinstance(weight, QuantizedTensor) and len(weight.shape) == 3:
        pieces = tuple(weight[expert] for expert in range(weight.shape[0]))
    if not alike(pieces):
        found = sorted({p.format if isinstance(p, QuantizedTensor) else dtype_name(p.dtype) for p in pieces})
        raise ModelError(
            f"{name} has pieces in {' and '.join(found)}, or with scales of several kinds, which no GPU kernel "
            "multiplies together; run it on the CPU (--device cpu)", param="device",
        )  # fmt: skip
    held = [piece for piece in pieces if isinstance(piece, QuantizedTensor)]
    experts = weight.shape[0] if len(weight.shape) == 3 else 1
    each = max(1, len(held) // experts)
    order = _orders(held, each, name)
    if len(held) < experts:  # one piece holds them all, row by row
        rows = held[0].shape[0] // experts
        held = [held[0].rows(slice(at * rows, (at + 1) * rows)) for at in range(experts)]
    made = formed([held[at : at + each] for at in range(0, len(held), each)], interleave)
    rows, tiles = weight.shape[-2], weight.shape[-2] // 16
    words = made.words.view(experts, tiles, *made.words.shape[-2:])
    records = made.scales.view(experts, -1) if made.form is not None and made.form.per_unit else made.scales
    return replace(made, words=words, scales=records, rows=rows, order=order)


def same_order(pieces: Sequence[Tensor | QuantizedTensor]) -> bool:
    """Whether one input in one order serves all of them."""
    first, *others = (None if isinstance(piece, Tensor) else piece.order for piece in pieces)
    if first is None:
        return all(order is None for order in others)
    return all(order is not None and torch.equal(order, first) for order in others)


def _orders(held: Sequence[QuantizedTensor], each: int, name: str) -> Tensor | None:
    """int32 [E, K] of experts of `each` pieces; None where no column is out of place."""
    if all(piece.order is None for piece in held):
        return None
    if not all(same_order(held[at : at + each]) for at in range(0, len(held), each)):
        raise ModelError(
            f"{name} of one expert have their columns in different orders (act-order), which no GPU kernel multiplies "
            "together; run it on the CPU (--device cpu)", param="device",
        )  # fmt: skip
    own = torch.arange(held[0].shape[1], dtype=torch.int32, device=held[0].device)
    return torch.stack([own if piece.order is None else piece.order for piece in held[::each]])


def with_inputs_in_place(
    gate_up: Sequence[Tensor | QuantizedTensor], down: Sequence[Tensor | QuantizedTensor]
) -> tuple[list[Tensor | QuantizedTensor], list[Tensor | QuantizedTensor]]:
    """The same experts, rows of gate and up in the order in which their down has its columns."""
    each = len(gate_up) // len(down)
    rows: list[Tensor | QuantizedTensor] = []
    for expert, piece in enumerate(down):
        order = piece.order if isinstance(piece, QuantizedTensor) else None
        for part in gate_up[expert * each : (expert + 1) * each]:
            if order is not None:
                index = (torch.arange(0, part.shape[0], len(order), device=order.device)[:, None] + order).flatten()
                part = part[index] if isinstance(part, Tensor) else part.rows(index)
            rows.append(part)
    return rows, [replace(piece, order=None) if isinstance(piece, QuantizedTensor) else piece for piece in down]


_EXPERTS_AT_ONCE = 16
"""Unpacked codes take eight times the packed bytes."""


def formed(experts: Sequence[Sequence[QuantizedTensor]], interleave: bool) -> FragmentWeight:
    """One weight [E, N, K] of experts that are pieces [N_i, K] each, all `alike`, gate above up where rows are to
    `interleave`. ValueError where sizes do not divide into units."""
    table, scale = _table(experts[0][0])
    words, records, factors, forms = [], [], [], set()
    for at in range(0, len(experts), _EXPERTS_AT_ONCE):
        some = experts[at : at + _EXPERTS_AT_ONCE]
        taken = [_taken(pieces, scale) for pieces in zip(*some, strict=True)]
        forms |= {part.form for part in taken}
        whole = _joined(taken, len(some), interleave)
        words.append(_words(whole))
        records.append(_records(whole))
        factors.append(whole.factors)
    form, columns = forms.pop(), experts[0][0].shape[1]
    flat = torch.cat(factors).float().contiguous().view(torch.int32)
    rows = len(flat) // len(experts)
    return FragmentWeight(
        torch.cat(words), torch.cat(records), torch.cat((table, flat)), rows, columns, form.bits, form
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Taken:
    """A piece's parts, row by row: codes [N, K], scales and zeros or minima [N, G], outer numbers, factors [N]."""

    form: Form
    codes: Tensor
    scales: Tensor | None
    second: Tensor | None
    outer: tuple[Tensor, ...]
    factors: Tensor


def _table(weight: QuantizedTensor) -> tuple[Tensor, float]:
    """int32 [256] for codes that index a table (zeros for others), and what was multiplied into it."""
    if weight.coding.table is None and not weight.coding.fitted:
        return torch.zeros(256, dtype=torch.int32, device=weight.device), 1.0
    scale = 256.0 if weight.coding.table else 2.0 ** (_REACH - _exponent(weight.codebook))
    scale /= 256.0 if weight.scale.dtype == _E4M3 else 1.0  # such scales stay as they are, up to 448
    return pair_table(weight.codebook * scale), scale


def _exponent(values: Tensor) -> int:
    """The least power of two that no magnitude passes."""
    return frexp(float(values.float().abs().amax()))[1]


def _merged(pieces: Sequence[QuantizedTensor]) -> tuple[QuantizedTensor, Tensor | None]:
    """Pieces of one shape as one matrix of all their rows, each with scales of its own, and what divides or multiplies
    all scales of a row, where a piece has such a number."""
    first, count, rows = pieces[0], len(pieces), pieces[0].shape[0]

    def every(name: str) -> Tensor | None:
        held = [part for piece in pieces if (part := getattr(piece, name)) is not None]
        if not held:
            return None
        if count == 1 or held[0].dtype.itemsize > 1:
            return torch.cat(held)
        return torch.cat([part.view(torch.uint8) for part in held]).view(held[0].dtype)  # it knows no 8-bit floats

    scale, packed = every("scale"), every("packed")
    assert scale is not None
    assert packed is not None
    if first.coding.rows > 1:
        shared = octets_of(scale).view(count, *first.scale.shape[:-1], -1)
        scale = shared.repeat_interleave(first.coding.rows, 1)[:, :rows].contiguous().view(scale.dtype)
    level = every("outer")
    whole = level if first.outer is not None and first.outer.numel() == 1 else None
    merged = replace(
        first, packed=packed, scale=scale.reshape(count * rows, -1), shape=(count * rows, first.shape[1]),
        coding=replace(first.coding, rows=1), high=every("high"), zeros=every("zeros"), minima=every("minima"),
        outer=level if whole is None else None, outer_minima=every("outer_minima"),
    )  # fmt: skip
    return merged, None if whole is None else whole.float().repeat_interleave(rows)


def _taken(pieces: Sequence[QuantizedTensor], table_scale: float) -> _Taken:
    """Experts' pieces of one place."""
    weight, whole = _merged(pieces)
    coding, (rows, columns) = weight.coding, weight.shape
    if columns % 64 or rows // len(pieces) % 8:
        raise ValueError(f"a weight of {rows} rows and {columns} columns does not divide into units of 16 x 64")
    codes, shift = _codes(weight)
    e4m3 = weight.packed.dtype == _E4M3
    table = coding.table is not None or coding.fitted
    form = Form(coding.bits, e4m3=e4m3, signed=coding.bits < 8 and coding.zero > 0, table=table)
    if coding.bits < 8 and coding.zero not in (0, 1 << coding.bits - 1):
        raise ModelError(f"{weight.format} of {coding.bits} bits subtracts {coding.zero}", param="model")
    scales = weight.scale
    zeros = None if weight.zeros is None else (weight.zeros.to(torch.int16) - shift).to(torch.int8)
    factors = torch.full((rows,), (256.0 if e4m3 else 1.0) / table_scale, device=weight.device)
    if whole is not None:
        factors = factors / whole if coding.divides else factors * whole
    elif scales.shape[1] == 1 and zeros is None and weight.minima is None and weight.outer is None:
        return _Taken(form, codes, None, None, (), factors * scales[:, 0].float())
    group = coding.group or columns
    if group not in (16, 32) and group % 64 and scales.shape[1] > 1:
        raise ModelError(f"{weight.format} has a scale for {group} columns, which no GPU kernel reads", param="model")
    form = _grouped(form, weight, scales, group)
    second = zeros if zeros is not None else weight.minima
    return _normalised(_Taken(form, codes, scales, second, (), factors), weight, len(pieces))


def _grouped(form: Form, weight: QuantizedTensor, scales: Tensor, group: int) -> Form:
    """The form with what groups decide."""
    blocks = weight.shape[1] // 64
    units = blocks if scales.shape[1] == 1 else max(1, group // 64)
    return replace(
        form,
        per_unit={16: 4, 32: 2}.get(group, 1) if scales.shape[1] > 1 else 1,
        scale=SCALE_TYPES.index(dtype_name(weight.scale.dtype)),
        second=ZEROS if weight.zeros is not None else MINIMA if weight.minima is not None else 0,
        outer=weight.outer is not None,
        units=units if blocks % units == 0 else 1,
    )


def _codes(weight: QuantizedTensor) -> tuple[Tensor, int]:
    """uint8 (8 bits: as the bytes are decoded) [N, K], and what int8 codes are less than those of the file."""
    columns = weight.shape[1]
    if weight.coding.bits == 8:
        if weight.packed.dtype != torch.uint8:
            return weight.packed[:, :columns].view(torch.uint8), 0
        if weight.zeros is None and weight.coding.zero != 128:
            raise ModelError(f"{weight.format} of 8 bits subtracts {weight.coding.zero}", param="model")
        return weight.packed[:, :columns] ^ 128, 128
    codes = torch.stack((weight.packed >> 4, weight.packed & 15), -1).flatten(-2)
    if weight.high is not None:
        more = weight.coding.bits - 4
        shifts = torch.arange(8 - more, -1, -more, dtype=torch.uint8, device=codes.device)
        codes = codes | (weight.high.unsqueeze(-1) >> shifts & (1 << more) - 1).flatten(-2) << 4
    return codes[:, :columns], 0


def _normalised(part: _Taken, weight: QuantizedTensor, count: int) -> _Taken:
    """Scales times the power of two that fits each of `count` experts, which the rows' factors take back."""
    form, scales, second, factors = part.form, part.scales, part.second, part.factors
    assert scales is not None
    outer = tuple(level for level in (weight.outer, weight.outer_minima) if level is not None)
    power = _powers(part, outer, count, weight.coding.table is not None)

    def scaled(numbers: Tensor) -> Tensor:
        by_expert = numbers.float().view(count, -1) * torch.exp2(power.float())[:, None]
        return by_expert.to(numbers.dtype).view(numbers.shape)

    if SCALE_TYPES[form.scale] != "e4m3":  # those are read as they are, whatever they multiply
        factors = factors * torch.exp2(-power.float()).repeat_interleave(len(factors) // count)
        if SCALE_TYPES[form.scale] == "e8m0":
            exponents = scales.view(torch.uint8).int().view(count, -1) + power[:, None]
            scales = exponents.clamp(0, 254).to(torch.uint8).view(scales.shape).view(scales.dtype)
        elif outer:
            outer = tuple(scaled(level) for level in outer)
        else:
            scales = scaled(scales)
            second = scaled(second) if form.second == MINIMA and second is not None else second
    scales, second = (_of_units(level, form, weight) for level in (scales, second))
    return replace(part, scales=scales, second=second, outer=outer, factors=factors)


def _powers(part: _Taken, outer: tuple[Tensor, ...], count: int, tabled: bool) -> Tensor:
    """Of two, int32 [count]: which each expert's scales are multiplied by; `tabled`: codes are those of FP4, times
    256."""
    form = part.form

    def reach(stored: Tensor, level: Tensor | None) -> Tensor:
        return torch.frexp(two_levels(stored, level, False).abs().view(count, -1).amax(1))[1]

    assert part.scales is not None
    found = reach(part.scales, outer[0] if outer else None) + (1 if form.e4m3 else 11 if tabled else form.bits)
    if form.second == MINIMA and part.second is not None:
        found = torch.maximum(found, reach(part.second, outer[1] if len(outer) > 1 else None))
    return _REACH - found


def _of_units(numbers: Tensor | None, form: Form, weight: QuantizedTensor) -> Tensor | None:
    """[N, G] of as many groups as records tell: where a row's last group is cut, one for each unit."""
    blocks, group = weight.shape[1] // 64, weight.coding.group
    if numbers is not None and numbers.shape[1] > 1 and form.per_unit == 1 and group // 64 > form.units:
        numbers = numbers.repeat_interleave(group // 64, 1)[:, :blocks]
    return numbers


def _joined(parts: Sequence[_Taken], count: int, interleave: bool) -> _Taken:
    """Pieces' rows as those of `count` experts, gate and up by eights where asked."""

    def join(tensors: Sequence[Tensor | None]) -> Tensor | None:
        held = [tensor for tensor in tensors if tensor is not None]
        if not held:
            return None
        if len(held) == 1 and not interleave:
            return held[0]
        whole = torch.cat([octets_of(tensor).view(count, len(tensor) // count, -1) for tensor in held], 1)
        whole = interleave_gate_up(whole) if interleave else whole
        return whole.flatten(0, 1).view(held[0].dtype)

    codes, scales, second = (join([getattr(p, name) for p in parts]) for name in ("codes", "scales", "second"))
    factors = join([part.factors.unsqueeze(-1) for part in parts])
    outer = tuple(join(level) for level in zip(*(part.outer for part in parts), strict=True))
    assert codes is not None
    assert factors is not None
    return _Taken(parts[0].form, codes, scales, second, tuple(o for o in outer if o is not None), factors[:, 0])


def _words(part: _Taken) -> Tensor:
    if part.form.bits == 8:
        return fragment_bytes(part.codes)
    if part.form.bits > 4:
        return fragment_wide(part.codes, part.form.bits)
    return fragment_codes(part.codes, numbers=not part.form.table)


def _records(part: _Taken) -> Tensor:
    if part.scales is None:
        return torch.zeros(1, 16, dtype=torch.uint8, device=part.codes.device)
    return group_records(part.form, part.scales, part.second, list(part.outer))
