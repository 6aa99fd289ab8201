"""What codes of other tools' formats mean to the kernels: groups' scales, zeros and minima, applied to decoded units.

A kernel's `BITS` is a code's bits (4, 8, 16) for our own formats. Other formats have a form above its fifth bit, made
by `Form.kind`: how many scales a unit of 64 columns has, their type, what is subtracted. Where columns of a unit share
a scale, it multiplies the unit's sums in fp32; elsewhere decoded elements are fp16 and multiplied by fp16 scales, two
rows' in a register. So the same activations and products serve all formats; a factor for each row, fp32 behind the
table's 256 entries, undoes what brought scales into fp16's range.

Codes of 4 bits that are numbers, and of 5 and 6, need no table: with a code in its low bits 0x6400 is 1024 more than it
as fp16, and four places higher 16 times as much. A 32-bit word holds them with i = 0 in its low half and i = 1 in its
high half, four bits a plane, so that a mask selects two elements at once.

Records of groups lie in `scales` as bytes, one for DIV units of a tile: the scales of its 16 rows, in the order
(g, t high, u, half) as far as they differ (u: the unit's halves; lanes as in fragments.py), so that what a lane needs
of a unit is one load; then zeros or minima in the same order. With an outer level, four records are preceded by fp16
scales (and minima) of 256 columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

SCALE_TYPES = ("fp16", "bf16", "fp32", "e4m3", "e8m0", "uint8", "int8")
SCALE_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.uint8, torch.int8,
)  # fmt: skip
WIDTHS = (2, 2, 4, 1, 1, 1, 1)
"""Bytes of each."""
ZEROS, MINIMA = 1, 2


@dataclass(frozen=True, slots=True)
class Form:
    """What `Form.kind` packs into one number."""

    bits: int
    per_unit: int = 0
    """Scales of 64 columns of a row: 0 (a row's factor is all), 1, 2 or 4."""
    scale: int = 0
    """Index into `SCALE_TYPES`."""
    second: int = 0
    """0, ZEROS (int8, subtracted from codes) or MINIMA (of the scales' type, subtracted from values)."""
    outer: bool = False
    """Whether fp16 numbers of 256 columns multiply scales and minima."""
    e4m3: bool = False
    """Whether codes of 8 bits are e4m3 (else int8)."""
    signed: bool = False
    """Whether half their range is subtracted from codes of 4, 5 or 6 bits that are numbers."""
    units: int = 1
    """Units that share a record."""
    table: bool = False
    """Whether codes of 4 bits index a table."""

    @property
    def summed(self) -> bool:
        """Whether scales multiply sums over a unit, not elements."""
        return self.per_unit == 1 and WIDTHS[self.scale] > 1 and not self.outer and self.second != MINIMA

    @property
    def pairs(self) -> int:
        """Of numbers that a unit loads at once (`load_groups`); 0: none."""
        if not self.per_unit or (self.summed and self.second != ZEROS):
            return 0
        return 16 if self.per_unit == 4 else 8

    @property
    def kind(self) -> int:
        """A kernel's BITS."""
        flags = self.outer << 7 | self.e4m3 << 8 | self.signed << 9 | self.table << 10 | self.summed << 11
        places = {0: 0, 1: 1, 2: 2, 4: 3}[self.per_unit] | self.scale << 2 | self.second << 5 | flags
        return self.bits | (1 << 15 | places | self.units << 16) << 5

    @staticmethod
    def of(kind: int) -> Form:
        """The inverse of `kind`."""
        places = kind >> 5
        return Form(
            kind & 31, (0, 1, 2, 4)[places & 3], places >> 2 & 7, places >> 5 & 3, bool(places >> 7 & 1),
            bool(places >> 8 & 1), bool(places >> 9 & 1), places >> 16, bool(places >> 10 & 1),
        )  # fmt: skip

    @property
    def lead_bytes(self) -> int:
        """Of a superblock's outer numbers."""
        return 0 if not self.outer else 64 if self.second == MINIMA else 32

    @property
    def first_bytes(self) -> int:
        """Of a record's scales."""
        return 16 * self.per_unit * WIDTHS[self.scale]

    @property
    def record_bytes(self) -> int:
        """Of a record."""
        second = {0: 0, ZEROS: 16 * self.per_unit, MINIMA: self.first_bytes}[self.second]
        return self.first_bytes + second


def group_records(form: Form, first: Tensor, second: Tensor | None, outer: list[Tensor]) -> Tensor:
    """uint8 [N/16, bytes] of stored scales, zeros or minima [N, G], and fp16 [N, K/256] that multiply them."""
    parts = [_in_lanes(first, form)] + ([] if second is None else [_in_lanes(second, form)])
    records = torch.cat(parts, -1)
    if outer:
        lead = torch.cat([_in_lanes(part, Form(form.bits, 1)) for part in outer], -1)
        records = torch.cat((lead, records.reshape(*lead.shape[:2], -1)), -1)
    return records.reshape(len(records), -1).contiguous()


def _in_lanes(numbers: Tensor, form: Form) -> Tensor:
    """[N, G] to uint8 [N/16, records, bytes]."""
    halves = (2, 2) if form.per_unit == 4 else (form.per_unit, 1)
    view = numbers.view(len(numbers) // 16, 2, 8, -1, *halves).permute(
        0, 3, 2, 5, 4, 1
    )  # tile, record, g, t high, u, half
    return view.reshape(*view.shape[:2], -1).contiguous().view(torch.uint8)


def records_apart(form: Form, records: Tensor, tiles: int, blocks: int) -> tuple[Tensor, Tensor | None]:
    """fp16 scales (fp32 where they multiply sums) and zeros or minima [tiles 16, K], one for each element: the inverse
    of `group_records`, computed as the kernels do."""
    size, first = form.record_bytes, form.first_bytes
    outer: list[Tensor] = []
    flat = records.view(tiles, -1)
    if form.outer:
        superblocks = flat.view(tiles, blocks // 4, form.lead_bytes + 4 * size)
        lead = superblocks[..., : form.lead_bytes].contiguous().view(torch.float16).view(tiles, blocks // 4, -1, 16)
        outer = [_from_lanes(part, Form(4, 1, units=4), blocks).float() for part in lead.unbind(2)]
        flat = superblocks[..., form.lead_bytes :].contiguous()
    found = flat.view(tiles, -1, size)
    scales = _from_lanes(_numbers(found[..., :first].contiguous(), form.scale), form, blocks)
    scales = scales if form.summed else (scales * outer[0] if outer else scales).half()
    if not form.second:
        return scales, None
    kind = 6 if form.second == ZEROS else form.scale
    second = _from_lanes(_numbers(found[..., first:].contiguous(), kind), form, blocks)
    return scales, (second * outer[1] if len(outer) > 1 else second).half()


def _from_lanes(numbers: Tensor, form: Form, blocks: int) -> Tensor:
    """[tiles, records, n] to [tiles 16, K]."""
    tiles, halves = len(numbers), (2, 2) if form.per_unit == 4 else (form.per_unit, 1)
    view = numbers.view(tiles, -1, 8, halves[1], halves[0], 2).permute(0, 5, 2, 1, 4, 3)
    return view.reshape(tiles * 16, -1).repeat_interleave(64 * form.units // form.per_unit, -1)[:, : 64 * blocks]


def _numbers(octets: Tensor, kind: int) -> Tensor:
    return octets.view(SCALE_DTYPES[kind]).float()


@triton.jit
def _load_numbers(at, index, BYTES: tl.constexpr):
    """What lies at byte pointers [B] plus the index [1, n] times BYTES, as one integer each [B, n].

    Nothing here is an 8-bit tensor or a join: with one of these before a product, Triton lays out its operands for
    loads of 8 bits, and all units would be shuffled between lanes.
    """
    if BYTES == 8:
        found = tl.load(at.to(tl.pointer_type(tl.int64))[:, None] + index)
    elif BYTES == 4:
        found = tl.load(at.to(tl.pointer_type(tl.int32))[:, None] + index)
    else:
        found = tl.load(at.to(tl.pointer_type(tl.int16))[:, None] + index)
    return found


@triton.jit
def _load_lanes(at, index, PER: tl.constexpr, WIDTH: tl.constexpr):
    """A lane's numbers of a unit: pairs of rows g and g + 8, of both halves u where each has its own. Bytes in one
    integer; of wider ones, which in one are spilled, one for each half."""
    if PER == 1:
        first = _load_numbers(at, index, 2 * WIDTH)
        second = first
    elif WIDTH == 1:
        first = _load_numbers(at, index, 4)
        second = first
    else:
        first = _load_numbers(at, index * 2, 2 * WIDTH)
        second = _load_numbers(at, index * 2 + 1, 2 * WIDTH)
    return first, second


@triton.jit
def _record(scales, unit, SIZE: tl.constexpr, UNITS: tl.constexpr, STEP: tl.constexpr, WHOLE: tl.constexpr):
    """Where the record of SIZE bytes of the units `unit` + STEP lies, which UNITS of them share (powers of two)."""
    if STEP % UNITS < WHOLE:  # then the step passes no boundary between records that `unit` alone does not tell
        at = scales + unit // UNITS * SIZE + STEP // UNITS * SIZE
    else:
        at = scales + (unit + STEP) // UNITS * SIZE
    return at


@triton.jit
def load_groups(scales, unit, BITS: tl.constexpr, STEP: tl.constexpr = 0, WHOLE: tl.constexpr = 1, lane=None):
    """What `decode` needs of the units `unit` [B] + STEP, `unit` a multiple of WHOLE, a power of two: scales, zeros or
    minima, and outer numbers, as `_load_lanes`, [B, 8] in the order (g), or [B, 16] in the order (g, t high) where 16
    columns share one; with `lane` [1, 32] every lane's own [B, 32]. Scales of sums are `sum_scales`."""
    FORM: tl.constexpr = BITS >> 5
    PER: tl.constexpr = FORM & 3
    TYPE: tl.constexpr = (FORM >> 2) & 7
    SECOND: tl.constexpr = (FORM >> 5) & 3
    OUTER: tl.constexpr = (FORM >> 7) & 1
    SUMMED: tl.constexpr = (FORM >> 11) & 1
    UNITS: tl.constexpr = FORM >> 16
    HALF: tl.constexpr = 32 if PER == 3 else 16
    WIDTH: tl.constexpr = 2 if TYPE <= 1 else (4 if TYPE == 2 else 1)
    FIRST: tl.constexpr = (HALF if PER == 1 else 2 * HALF) * WIDTH
    SIZE: tl.constexpr = FIRST + (0 if SECOND == 0 else (FIRST // WIDTH if SECOND == 1 else FIRST))
    LEAD: tl.constexpr = 0 if OUTER == 0 else (64 if SECOND == 2 else 32)
    # loaded once, not once a lane: so small a load is made anew where another layout wants it, and moves nothing
    if lane is None:
        index = tl.arange(0, 16 if PER == 3 else 8)[None, :]
        outer = tl.arange(0, 8)[None, :]
    else:
        index = lane // (2 if PER == 3 else 4)
        outer = lane // 4
    if OUTER:
        if STEP % 4 < WHOLE:
            lead = scales + unit // 4 * (LEAD + 4 * SIZE) + STEP // 4 * (LEAD + 4 * SIZE)
            at = lead + unit % 4 * SIZE + (STEP % 4 * SIZE + LEAD)
        else:
            lead = scales + (unit + STEP) // 4 * (LEAD + 4 * SIZE)
            at = lead + (unit + STEP) % 4 * SIZE + LEAD
    else:
        lead = scales
        at = _record(scales, unit, SIZE, UNITS, STEP, WHOLE)
    m0 = 0
    m1 = 0
    if SECOND:
        m0, m1 = _load_lanes(at + FIRST, index, PER, 1 if SECOND == 1 else WIDTH)
    s0 = m0
    s1 = m1
    if SUMMED == 0:
        s0, s1 = _load_lanes(at, index, PER, WIDTH)
    o = s0
    q = s0
    if OUTER:
        o = _load_numbers(lead, outer, 4)
        if SECOND == 2:
            q = _load_numbers(lead, outer + 8, 4)
    return (s0, s1), (m0, m1, o, q)


@triton.jit
def sum_scales(scales, unit, row, BITS: tl.constexpr, STEP: tl.constexpr = 0, WHOLE: tl.constexpr = 1):
    """fp32 scales that multiply sums over the units `unit` + STEP, `unit` a multiple of WHOLE: of rows 0 to 15 of their
    tiles, one axis beside the other."""
    FORM: tl.constexpr = BITS >> 5
    TYPE: tl.constexpr = (FORM >> 2) & 7
    WIDTH: tl.constexpr = 2 if TYPE <= 1 else 4
    SIZE: tl.constexpr = 16 * WIDTH + (16 if (FORM >> 5) & 3 else 0)
    if BITS == 4:
        scale = tl.load(scales + unit * 16 + row + STEP * 16, eviction_policy="evict_first")
    else:
        at = _record(scales, unit, SIZE, FORM >> 16, STEP, WHOLE) + (row % 8 * 2 + row // 8) * WIDTH
        if TYPE == 0:
            scale = tl.load(at.to(tl.pointer_type(tl.float16))).to(tl.float32)
        elif TYPE == 1:
            scale = (tl.load(at.to(tl.pointer_type(tl.int16))).to(tl.int32) << 16).to(tl.float32, bitcast=True)
        else:
            scale = tl.load(at.to(tl.pointer_type(tl.float32)))
    return scale


_BF16_PAIR = tl.constexpr(
    "{\n.reg .b32 a, b;\nshl.b32 a, $1, 16;\nand.b32 b, $1, 0xffff0000;\ncvt.rn.f16x2.f32 $0, b, a;\n}"
)
_FP32_PAIR = tl.constexpr("{\n.reg .b32 a, b;\nmov.b64 {a, b}, $1;\ncvt.rn.f16x2.f32 $0, b, a;\n}")


def _octets_assembly(kind: int, place: int) -> str:
    """Bytes 2 place and one more of $1 as fp16, in the halves of $0."""
    first, second = 2 * place, 2 * place + 1
    if SCALE_TYPES[kind] == "e4m3":  # the same bits one place lower behind the sign are the 256th part
        lines = ["mov.u32 b, 0;", f"prmt.b32 a, $1, b, 0x{second}4{first}4;", "and.b32 b, a, 0x7f007f00;"]
        lines += ["shr.u32 b, b, 1;", "lop3.b32 a, a, 0x80008000, b, 0xea;", "mov.u32 b, 0x5c005c00;"]
        lines += ["mul.rn.f16x2 $0, a, b;"]
    elif SCALE_TYPES[kind] == "e8m0":
        lines = []
        for name, at in (("a", 8 * first), ("b", 8 * second)):
            shift = f"shl.b32 {name}, $1, {23 - at};" if at < 23 else f"shr.u32 {name}, $1, {at - 23};"
            lines += [shift, f"and.b32 {name}, {name}, 0x7f800000;"]
        lines += ["cvt.rn.f16x2.f32 $0, b, a;"]
    else:  # in the low bits of 1024; of whole numbers with a sign that is turned into 128 more
        less = 1152 if SCALE_TYPES[kind] == "int8" else 1024
        lines = [f"xor.b32 a, $1, {'0x80808080' if less > 1024 else 0};", "mov.u32 b, 0x64646464;"]
        lines += [
            f"prmt.b32 a, a, b, 0x4{second}4{first};",
            f"mov.u32 b, 0x{0x6400 + less - 1024:x}{0x6400 + less - 1024:x};",
        ]
        lines += ["sub.rn.f16x2 $0, a, b;"]
    return "\n".join(["{", ".reg .b32 a, b;", *lines, "}"])


_octets = triton.constexpr_function(_octets_assembly)
_E4M3_PAIR = tl.constexpr("cvt.rn.f16x2.e4m3x2 $0, $1;")
"""From sm_89 on."""
_TIMES_PAIR = tl.constexpr("mul.rn.f16x2 $0, $1, $2;")
_FIRST_TWICE = tl.constexpr("{\n.reg .b16 a, b;\nmov.b32 {a, b}, $1;\nmov.b32 $0, {a, a};\n}")
_SECOND_TWICE = tl.constexpr("{\n.reg .b16 a, b;\nmov.b32 {a, b}, $1;\nmov.b32 $0, {b, b};\n}")
_SCALE_LESS = tl.constexpr("{\n.reg .b32 m;\nneg.f16x2 m, $4;\nfma.rn.f16x2 $0, $1, $2, m;\n}")


@triton.jit
def _unary(CODE: tl.constexpr, raw, IN: tl.constexpr):
    return tl.inline_asm_elementwise(CODE, IN, [raw], dtype=tl.int32, is_pure=True, pack=1)


@triton.jit
def _halves(raw, PLACE: tl.constexpr, TYPE: tl.constexpr):
    """Two fp16 in one int32: the pair of a lane's numbers (`_load_lanes`) at that place."""
    if TYPE == 0:
        pair = raw
    elif TYPE == 1:
        pair = _unary(_BF16_PAIR, raw, "=r,r")
    elif TYPE == 2:
        pair = _unary(_FP32_PAIR, raw, "=r,l")
    elif TYPE == 3 and tl.target_info.cuda_capability_geq(8, 9):
        pair = _unary(_E4M3_PAIR, (raw >> (16 * PLACE)).to(tl.int16), "=r,h")
    else:
        pair = _unary(_octets(TYPE, PLACE), raw.to(tl.int32), "=r,r")
    return pair


@triton.jit
def by_rows(first, second, B: tl.constexpr, SHARED: tl.constexpr):
    """[B, n] in the order (g) or (g, t high), or of every lane (g, t), to [B, 256] in the order (g, t, h, half, i):
    SHARED columns t have one number. No data moves."""
    if first.shape[1] == 32:
        halves = tl.join(tl.join(first, first), tl.join(second, second))
        found = tl.join(halves, halves)
    else:
        first = tl.reshape(first, [B, 32 // SHARED, 1, 1, 1, 1])
        second = tl.reshape(second, [B, 32 // SHARED, 1, 1, 1, 1])
        half = tl.reshape(tl.arange(0, 2), [1, 1, 1, 1, 2, 1])
        half = tl.broadcast_to(half, [B, 32 // SHARED, SHARED, 2, 2, 2])
        found = tl.where(half == 0, first, second)
    return tl.reshape(found, [B, 256])


@triton.jit
def _beside_scales(outer, B: tl.constexpr, SHARED: tl.constexpr):
    """Outer numbers [B, 8], one for each scale of `load_groups`."""
    if SHARED == 2 and outer.shape[1] == 8:
        outer = tl.reshape(tl.broadcast_to(outer[:, :, None], [B, 8, 2]), [B, 16])
    return outer


@triton.jit
def _number(raw, PLACE: tl.constexpr, TYPE: tl.constexpr):
    """fp16 or fp32 of one of a lane's numbers."""
    if TYPE == 0:
        number = (raw >> (16 * (PLACE % 2))).to(tl.int16).to(tl.float16, bitcast=True)
    elif TYPE == 1:
        number = ((raw >> (16 * (PLACE % 2))) << 16).to(tl.float32, bitcast=True)
    elif TYPE == 2:
        number = (raw >> (32 * (PLACE % 2))).to(tl.int32).to(tl.float32, bitcast=True)
    else:
        octet = raw.to(tl.int32) >> (8 * PLACE)
        if TYPE == 3:
            number = (((octet & 128) << 8) | ((octet & 127) << 7)).to(tl.int16).to(tl.float16, bitcast=True)
            number = number * tl.full([1, 1], 256, tl.float16)
        elif TYPE == 4:
            number = ((octet & 255) << 23).to(tl.float32, bitcast=True)
        else:  # a whole number, or one with its sign turned into 128 more, in the low bits of 1024
            LESS: tl.constexpr = 1152 if TYPE == 6 else 1024
            whole = ((octet & 255) ^ (LESS - 1024)) | 0x6400
            number = whole.to(tl.int16).to(tl.float16, bitcast=True) - tl.full([1, 1], LESS, tl.float16)
    return number


@triton.jit
def spread_pairs(
    raw, outer, B: tl.constexpr, PLACE: tl.constexpr, TYPE: tl.constexpr, OUTER: tl.constexpr, SHARED: tl.constexpr,
    ASM: tl.constexpr,
):  # fmt: skip
    """[B, 256] in the order (g, t, h, half, i): a lane's numbers of the unit's half PLACE, times outer ones. With ASM
    int32 that hold a number twice, else fp16."""
    if OUTER:
        outer = _beside_scales(outer, B, SHARED)
    if ASM:
        pair = _halves(raw, PLACE, TYPE)
        if OUTER:
            pair = tl.inline_asm_elementwise(_TIMES_PAIR, "=r,r,r", [pair, outer], dtype=tl.int32, is_pure=True, pack=1)
        spread = by_rows(_unary(_FIRST_TWICE, pair, "=r,r"), _unary(_SECOND_TWICE, pair, "=r,r"), B, SHARED)
    else:
        first = _number(raw, 2 * PLACE, TYPE)
        second = _number(raw, 2 * PLACE + 1, TYPE)
        if OUTER:
            first = first.to(tl.float32) * _number(outer, 0, 0).to(tl.float32)
            second = second.to(tl.float32) * _number(outer, 1, 0).to(tl.float32)
        spread = by_rows(first.to(tl.float16), second.to(tl.float16), B, SHARED)
    return spread


@triton.jit
def _applied(a, scale, second, SECOND: tl.constexpr, ASM: tl.constexpr):
    if ASM and SECOND == 2:
        a = tl.inline_asm_elementwise(
            _SCALE_LESS, "=r,r,r,r,r,r", [a, scale, second], dtype=tl.float16, is_pure=True, pack=2
        )
    elif ASM:
        a = tl.inline_asm_elementwise(_TIMES_PAIR, "=r,r,r,r", [a, scale], dtype=tl.float16, is_pure=True, pack=2)
    elif SECOND == 2:
        a = a * scale - second
    else:
        a = a * scale
    return a


@triton.jit
def with_groups(a0, a1, a2, a3, first, others, B: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """Decoded planes fp16 [B, 256], zeros taken off, under the scales and minima that `load_groups` gave."""
    FORM: tl.constexpr = BITS >> 5
    TYPE: tl.constexpr = (FORM >> 2) & 7
    SECOND: tl.constexpr = (FORM >> 5) & 3
    OUTER: tl.constexpr = (FORM >> 7) & 1
    s0, s1 = first
    m0, m1, o, q = others
    MULTIPLIED: tl.constexpr = OUTER if SECOND == 2 else 0
    SHARED: tl.constexpr = 2 if (FORM & 3) == 3 else 4
    scale = spread_pairs(s0, o, B, 0, TYPE, OUTER, SHARED, ASM)
    second = scale
    if SECOND == 2:
        second = spread_pairs(m0, q, B, 0, TYPE, MULTIPLIED, SHARED, ASM)
    a0 = _applied(a0, scale, second, SECOND, ASM)
    a1 = _applied(a1, scale, second, SECOND, ASM)
    if FORM & 2:
        scale = spread_pairs(s1, o, B, 1, TYPE, OUTER, SHARED, ASM)
        if SECOND == 2:
            second = spread_pairs(m1, q, B, 1, TYPE, MULTIPLIED, SHARED, ASM)
    a2 = _applied(a2, scale, second, SECOND, ASM)
    a3 = _applied(a3, scale, second, SECOND, ASM)
    return a0, a1, a2, a3


@triton.jit
def less_zeros(a0, a1, a2, a3, others, B: tl.constexpr, BITS: tl.constexpr):
    """Decoded planes less their groups' zeros, without assembly (which subtracts them while it decodes)."""
    m0, m1, o, _ = others
    SHARED: tl.constexpr = 2 if ((BITS >> 5) & 3) == 3 else 4
    zero = spread_pairs(m0, o, B, 0, 6, 0, SHARED, False)
    a0 = a0 - zero
    a1 = a1 - zero
    if (BITS >> 5) & 2:
        zero = spread_pairs(m1, o, B, 1, 6, 0, SHARED, False)
    return a0, a1, a2 - zero, a3 - zero


@triton.jit
def e4m3_plane(word, PLANE: tl.constexpr, B: tl.constexpr):
    """Two bytes of each 32-bit word [B, 128] as fp16 [B, 256], divided by 256."""
    low = word >> (16 * PLANE)
    high = word >> (16 * PLANE + 8)
    low = (((low & 128) << 8) | ((low & 127) << 7)).to(tl.int16).to(tl.float16, bitcast=True)
    high = (((high & 128) << 8) | ((high & 127) << 7)).to(tl.int16).to(tl.float16, bitcast=True)
    return tl.reshape(tl.join(low, high), [B, 256])


@triton.jit
def number_plane(word, upper, PLANE: tl.constexpr, B: tl.constexpr, BITS: tl.constexpr):
    """Codes of 4, 5 or 6 bits of one plane as fp16 [B, 256]: 32-bit words of low nibbles, and their upper bits
    [B, 128]. What the assembly of units.py computes."""
    CODE: tl.constexpr = BITS & 31
    MORE: tl.constexpr = CODE - 4
    MASK: tl.constexpr = (1 << MORE) - 1
    LESS: tl.constexpr = 1024 + ((BITS >> 14) & 1) * (1 << (CODE - 1))
    AT: tl.constexpr = PLANE % 2 * 4 + PLANE // 2 * MORE
    OTHER: tl.constexpr = 2 if MORE == 1 else 8
    low = ((word >> (4 * PLANE)) & 15) | (((upper >> AT) & MASK) << 4) | 0x6400
    high = ((word >> (4 * PLANE + 16)) & 15) | (((upper >> (AT + OTHER)) & MASK) << 4) | 0x6400
    i = tl.broadcast_to(tl.reshape(tl.arange(0, 2), [1, 1, 2]), [B, 128, 2])
    both = tl.reshape(tl.where(i == 0, low[:, :, None], high[:, :, None]), [B, 256])
    return both.to(tl.int16).to(tl.float16, bitcast=True) - tl.full([1, 1], LESS, tl.float16)


@triton.jit
def upper_bits(raw, B: tl.constexpr, BITS: tl.constexpr):
    """int32 [B, 128] of the upper bits of each word's codes: a byte each, two in one int16 [B, 64], where one is 5."""
    upper = raw.to(tl.int32)
    if (BITS & 31) == 5:
        shift = tl.broadcast_to(tl.reshape(tl.arange(0, 2) * 8, [1, 1, 2]), [B, 64, 2])
        upper = tl.reshape(tl.broadcast_to(upper[:, :, None], [B, 64, 2]) >> shift, [B, 128])
    return upper
