"""Device functions shared by the few-token kernels: decode fragment units and multiply them with activations.

A 4-bit pair is decoded by one shared-memory read: every block copies the 256-entry table of fp16 pairs 32 times, so
that
lane l reads bank l and never waits for another lane. That takes 12 instructions for 8 weights where selecting bytes
takes 19 and a warp shuffle per weight 23, and most of them do not compete with the loads. Under the interpreter, which
has no inline assembly, the same table is read from global memory.

Shapes: B units of a block (consecutive 64-column blocks of one 16-row tile), BT tokens (a multiple of 8).
"""

from __future__ import annotations

import triton
import triton.language as tl

from engine.model.kernels.device.forms import (
    by_rows,
    e4m3_plane,
    less_zeros,
    load_groups,
    number_plane,
    sum_scales,
    upper_bits,
    with_groups,
)

HALF_SCALE: tl.constexpr = tl.constexpr(64.0)
"""The residual stream and the experts' inner activations are held in fp16 divided by this: finite up to 4 million."""

LUT_BYTES = 32768
"""Static shared memory of every block that decodes 4-bit units; not part of Triton's own count."""


def _fill_assembly(threads: int, again: bool = False) -> str:
    """Each thread reads its entries of the table ($1) and writes them 32 times; gives 4 * lane in $0."""
    entries, parts = max(1, 256 // threads), max(1, threads // 256)
    lines = ["{", "bar.sync 0;"] if again else [".shared .align 128 .b8 maskloop_pairs[32768];", "{"]
    lines += [".reg .u32 i, e, r, b, c, a, v, z, v1, v2, v3;", ".reg .u64 p;", "mov.u32 i, %tid.x;"]
    lines += ["mov.u32 b, maskloop_pairs;", "and.b32 r, i, 7;", "mov.u32 z, %ctaid.x;", "shr.u32 z, z, 30;"]
    for entry in range(entries):
        if parts > 1:  # several threads share an entry: each writes some of its eight 16-byte columns
            lines += [f"shr.u32 e, i, {parts.bit_length() - 1};", f"and.b32 r, i, {parts - 1};"]
        else:
            lines += [f"add.u32 e, i, {entry * threads};"]
        lines += [
            "mul.wide.u32 p, e, 4;",
            "add.u64 p, p, $1;",
            "ld.global.nc.u32 v, [p];",
            # zero, which the assembler does not know: else it would copy the four anew before every store
            "or.b32 v1, v, z;",
            "add.u32 v2, v, z;",
            "xor.b32 v3, v, z;",
            "shl.b32 e, e, 7;",
            "add.u32 e, e, b;",
        ]
        for column in range(8 // parts):
            # the order of columns differs between neighbouring lanes, or all would write the same banks
            if parts > 1:
                lines += [f"add.u32 c, r, {column * parts};"]
            else:
                lines += [f"xor.b32 c, r, {column};"]
            lines += ["shl.b32 c, c, 4;", "add.u32 a, e, c;", "st.shared.v4.u32 [a], {v, v1, v2, v3};"]
    lines += ["bar.sync 0;", "mov.u32 a, %laneid;", "shl.b32 $0, a, 2;", "}"]
    return "\n".join(lines)


_fill = triton.constexpr_function(_fill_assembly)

_DECODE_4 = tl.constexpr(
    "{\n.reg .u32 a0, a1, a2, a3, b;\nmov.u32 b, maskloop_pairs;\n"
    "shl.b32 a0, $4, 7;\nshr.u32 a1, $4, 1;\nshr.u32 a2, $4, 9;\nshr.u32 a3, $4, 17;\n"
    + "".join(f"lop3.b32 a{j}, a{j}, 0x7f80, $5, 0xea;\n" for j in range(4))
    + "".join(f"add.u32 a{j}, a{j}, b;\n" for j in range(4))
    + "".join(f"ld.shared.u32 ${j}, [a{j}];\n" for j in range(4))
    + "}"
)
_DECODE_8 = tl.constexpr(
    "{\n.reg .b32 v, m, o;\nxor.b32 v, $2, 0x80808080;\nmov.u32 m, 0x64646464;\nmov.u32 o, 0x64806480;\n"
    "prmt.b32 $0, v, m, 0x4140;\nprmt.b32 $1, v, m, 0x4342;\n"
    "sub.rn.f16x2 $0, $0, o;\nsub.rn.f16x2 $1, $1, o;\n}"
)
_DECODE_8_LESS = tl.constexpr(
    "{\n.reg .b32 v, m;\nxor.b32 v, $2, 0x80808080;\nmov.u32 m, 0x64646464;\n"
    "prmt.b32 $0, v, m, 0x4140;\nprmt.b32 $1, v, m, 0x4342;\n"
    "add.rn.f16x2 $0, $0, $3;\nadd.rn.f16x2 $1, $1, $3;\n}"
)
"""The same with a number added that `_zero_pairs` made."""


def _twice(half: int) -> str:
    return hex(half << 16 | half)


def _masked(bits: int, zero: int | None) -> str:
    """Four planes of a word $4 of numbers less `zero`, or of 4 bits plus what $5 holds twice (`_zero_pairs`). A plane
    is masked where it lies in the word or eight places lower: with 0x6400 a number is 1024 more than it, or 16 times as
    much. Of 5 and 6 bits $5 are the upper ones, brought to four places above the low nibbles."""
    lines = ["{", ".reg .b32 u, v, m, q, e, c, z;", "mov.b32 m, 0x64006400;", "mov.b32 q, 0x2c002c00;"]
    if zero is None:
        lines += ["mov.b32 c, $5;", "mov.b32 e, 0x63806380;", "add.rn.f16x2 e, c, e;"]  # 960 more: -64 less the zero
    else:
        lines += [f"mov.b32 c, {_twice(0xE400 + zero)};", f"mov.b32 e, {_twice(0xD400 + 16 * zero)};"]
    lines += ["shr.u32 v, $4, 8;"]
    for plane in range(4):
        lines += [f"lop3.b32 ${plane}, {'v' if plane > 1 else '$4'}, {_twice(0xF << plane % 2 * 4)}, m, 0xea;"]
    if bits == 5:
        lines += ["and.b32 u, $5, 255;", "mul.lo.u32 u, u, 0x40010;"]
    elif bits == 6:
        lines += ["mov.b32 z, 0;", "prmt.b32 u, $5, z, 0x4140;", "shl.b32 u, u, 4;"]
    for plane in range(4 if bits > 4 else 0):
        lines += [f"shr.u32 u, u, {bits - 4};"] if plane == 2 else []
        lines += [f"lop3.b32 ${plane}, u, {_twice((1 << bits - 4) - 1 << 4 + plane % 2 * 4)}, ${plane}, 0xea;"]
    for plane in range(4):
        lines += [f"fma.rn.f16x2 ${plane}, ${plane}, q, e;" if plane % 2 else f"add.rn.f16x2 ${plane}, ${plane}, c;"]
    return "\n".join([*lines, "}"])


_MASKED = tl.constexpr(_masked(4, 0))
_MASKED_SIGNED = tl.constexpr(_masked(4, 8))
_MASKED_LESS = tl.constexpr(_masked(4, None))
_MASKED_5 = tl.constexpr(_masked(5, 0))
_MASKED_5_SIGNED = tl.constexpr(_masked(5, 16))
_MASKED_6_SIGNED = tl.constexpr(_masked(6, 32))


def _zero_assembly(place: int) -> str:
    return f"{{\n.reg .b32 k;\nmov.b32 k, 0xe4e4e4e4;\nprmt.b32 $0, $1, k, 0x4{place}4{place};\n}}"


_zero = triton.constexpr_function(_zero_assembly)
_DECODE_E4M3 = tl.constexpr(
    "{\n.reg .b32 a, b, m, n, z;\nmov.u32 z, 0;\n"
    "prmt.b32 a, $2, z, 0x1404;\nprmt.b32 b, $2, z, 0x3424;\n"
    "and.b32 m, a, 0x7f007f00;\nand.b32 n, b, 0x7f007f00;\nshr.u32 m, m, 1;\nshr.u32 n, n, 1;\n"
    "lop3.b32 $0, a, 0x80008000, m, 0xea;\nlop3.b32 $1, b, 0x80008000, n, 0xea;\n}"
)
"""Bytes of e4m3 as fp16, divided by 256: the same bits one place lower behind the sign."""


@triton.jit
def _let_next_start():
    tl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def wait_for_previous(PDL: tl.constexpr):
    """Programmatic dependent launch: what the previous kernel wrote may be read after this, not before."""
    if PDL:
        tl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], dtype=tl.int32, is_pure=False, pack=1)
    if PDL == 2:
        _let_next_start()


@triton.jit
def release_next(PDL: tl.constexpr):
    """Let the next kernel start; it still waits for our writes where it says so. PDL 2: after our wait."""
    if PDL == 1:
        _let_next_start()


@triton.jit
def prepare_table(table, WARPS: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """Copy the pair table into shared memory; gives the lane's byte offset that `decode` takes."""
    lane = 0
    if ASM and (BITS == 4 or (BITS >> 15) & 1):
        address = table.to(tl.uint64, bitcast=True)
        lane = tl.inline_asm_elementwise(_fill(32 * WARPS), "=r,l", [address], dtype=tl.int32, is_pure=False, pack=1)
    return lane


@triton.jit
def refill_table(table, WARPS: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """Put another weight's table in the place of the one that `prepare_table` put there."""
    if ASM and (BITS == 4 or (BITS >> 15) & 1):
        address = table.to(tl.uint64, bitcast=True)
        tl.inline_asm_elementwise(_fill(32 * WARPS, True), "=r,l", [address], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def load_words(
    words, scales, unit, BITS: tl.constexpr, ONCE: tl.constexpr = True, STEP: tl.constexpr = 0, WHOLE: tl.constexpr = 1
):
    """16-bit elements of the units `unit` [B] + STEP: four tensors [B, 256], of which 4 bits use one and 8 bits two;
    other tools' formats have the upper bits of codes in the second, and groups (forms.py) in the others. With ONCE no
    other block reads them: they are the first to leave the caches. `unit` is a multiple of WHOLE, a power of two."""
    KEEP: tl.constexpr = "evict_first" if ONCE else ""
    CODE: tl.constexpr = BITS & 31
    SIZE: tl.constexpr = 64 * CODE
    base = words + unit[:, None] * SIZE + tl.arange(0, 256)[None, :]
    w0 = tl.load(base + STEP * SIZE, eviction_policy=KEEP)
    w1 = w0
    w2 = w0
    w3 = w0
    if CODE >= 8:
        w1 = tl.load(base + (STEP * SIZE + 256), eviction_policy=KEEP)
    elif CODE == 6:
        w1 = tl.load(words + unit[:, None] * SIZE + tl.arange(0, 128)[None, :] + (STEP * SIZE + 256))
    elif CODE == 5:
        w1 = tl.load(words + unit[:, None] * SIZE + tl.arange(0, 64)[None, :] + (STEP * SIZE + 256))
    if (BITS >> 5) & 3 and ((BITS >> 10) & 3 or ((BITS >> 16) & 1) == 0):
        w2, w3 = load_groups(scales, unit, BITS, STEP, WHOLE)
    if BITS == 16:
        w2 = tl.load(base + (STEP * SIZE + 512), eviction_policy=KEEP)
        w3 = tl.load(base + (STEP * SIZE + 768), eviction_policy=KEEP)
    return w0, w1, w2, w3


@triton.jit
def load_units(
    words, scales, unit, B: tl.constexpr, BITS: tl.constexpr, STEP: tl.constexpr = 0, WHOLE: tl.constexpr = 1
):
    """Words and block scales of the units `unit` [B] + STEP; as `load_words`."""
    w0, w1, w2, w3 = load_words(words, scales, unit, BITS, True, STEP, WHOLE)
    s = tl.zeros([B, 16], tl.float32)
    if BITS == 4 or (BITS >> 16) & 1:
        s = sum_scales(scales, unit[:, None], tl.arange(0, 16)[None, :], BITS, STEP, WHOLE)
    return w0, w1, w2, w3, s


@triton.jit
def _pair_words(w, B: tl.constexpr):
    """[B, 256] int16 to the 32-bit words [B, 128] that two neighbours form."""
    low, high = tl.split(tl.reshape(w, [B, 128, 2]))
    return (low.to(tl.int32) & 0xFFFF) | (high.to(tl.int32) << 16)


@triton.jit
def _table_plane(word, table, PLANE: tl.constexpr, B: tl.constexpr):
    pair = tl.load(table + ((word >> 8 * PLANE) & 255))
    low = (pair & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True)
    high = ((pair >> 16) & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True)
    return tl.reshape(tl.join(low, high), [B, 256])


@triton.jit
def _byte_plane(word, PLANE: tl.constexpr, B: tl.constexpr):
    low = (word << (24 - 16 * PLANE)) >> 24
    high = (word << (16 - 16 * PLANE)) >> 24
    return tl.reshape(tl.join(low.to(tl.float16), high.to(tl.float16)), [B, 256])


@triton.jit
def row_factors(scales, table, row, BITS: tl.constexpr):
    """fp32 factors of rows, for formats that have them (`BITS` 8, and those with a form)."""
    if BITS == 8:
        at = scales + row
    else:
        at = (table + 256).to(tl.pointer_type(tl.float32)) + row
    return tl.load(at)


@triton.jit
def _half_plane(w, ASM: tl.constexpr):
    """bf16 bits; as fp32 under the interpreter, which has no bf16."""
    if ASM:
        a = w.to(tl.bfloat16, bitcast=True)
    else:
        a = (w.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return a


@triton.jit
def _zero_pairs(others, PLACE: tl.constexpr, B: tl.constexpr, BITS: tl.constexpr):
    """int32 [B, 256]: -1024 less the zero of each element's group, as fp16 twice; of 8 bits 128 less than that."""
    raw = (others[PLACE]).to(tl.int32)
    if (BITS & 31) == 8:
        raw = raw ^ -0x7F7F7F80
    first = tl.inline_asm_elementwise(_zero(2 * PLACE), "=r,r", [raw], dtype=tl.int32, is_pure=True, pack=1)
    second = tl.inline_asm_elementwise(_zero(2 * PLACE + 1), "=r,r", [raw], dtype=tl.int32, is_pure=True, pack=1)
    return by_rows(first, second, B, 2 if ((BITS >> 5) & 3) == 3 else 4)


@triton.jit
def _bytes_assembly(w0, w1, others, B: tl.constexpr, BITS: tl.constexpr):
    """Planes of 8-bit codes, less their zeros."""
    if (BITS >> 13) & 1:
        a0, a1 = tl.inline_asm_elementwise(
            _DECODE_E4M3, "=&r,=&r,r", [w0], dtype=(tl.float16,) * 2, is_pure=True, pack=2
        )
        a2, a3 = tl.inline_asm_elementwise(
            _DECODE_E4M3, "=&r,=&r,r", [w1], dtype=(tl.float16,) * 2, is_pure=True, pack=2
        )
    elif ((BITS >> 10) & 3) == 1:
        zero = _zero_pairs(others, 0, B, BITS)
        a0, a1 = tl.inline_asm_elementwise(
            _DECODE_8_LESS, "=&r,=&r,r,r,r", [w0, zero], dtype=(tl.float16,) * 2, is_pure=True, pack=2
        )
        if (BITS >> 5) & 2:
            zero = _zero_pairs(others, 1, B, BITS)
        a2, a3 = tl.inline_asm_elementwise(
            _DECODE_8_LESS, "=&r,=&r,r,r,r", [w1, zero], dtype=(tl.float16,) * 2, is_pure=True, pack=2
        )
    else:
        a0, a1 = tl.inline_asm_elementwise(_DECODE_8, "=&r,=&r,r", [w0], dtype=(tl.float16,) * 2, is_pure=True, pack=2)
        a2, a3 = tl.inline_asm_elementwise(_DECODE_8, "=&r,=&r,r", [w1], dtype=(tl.float16,) * 2, is_pure=True, pack=2)
    return a0, a1, a2, a3


@triton.jit
def _numbers_assembly(w0, w1, others, B: tl.constexpr, BITS: tl.constexpr):
    """Planes of codes of 4, 5 or 6 bits that are numbers, less their zeros."""
    CODE: tl.constexpr = BITS & 31
    SIGNED: tl.constexpr = (BITS >> 14) & 1
    if CODE > 4:
        upper = w1
        if w1.shape[1] < 256:  # else they are every element's own already
            upper = upper_bits(w1, B, BITS)
            upper = tl.reshape(tl.broadcast_to(upper[:, :, None], [B, 128, 2]), [B, 256])
        a0, a1, a2, a3 = tl.inline_asm_elementwise(
            (_MASKED_5_SIGNED if SIGNED else _MASKED_5) if CODE == 5 else _MASKED_6_SIGNED, "=&r,=&r,=&r,=&r,r,r,r",
            [w0, upper], dtype=(tl.float16,) * 4, is_pure=True, pack=2,
        )  # fmt: skip
    elif ((BITS >> 10) & 3) == 1:
        zero = _zero_pairs(others, 0, B, BITS)
        a0, a1, a2, a3 = tl.inline_asm_elementwise(
            _MASKED_LESS, "=&r,=&r,=&r,=&r,r,r,r", [w0, zero], dtype=(tl.float16,) * 4, is_pure=True, pack=2
        )
        if (BITS >> 5) & 2:  # the other half has zeros of its own; what is not used of either is not computed
            zero = _zero_pairs(others, 1, B, BITS)
            _, _, a2, a3 = tl.inline_asm_elementwise(
                _MASKED_LESS, "=&r,=&r,=&r,=&r,r,r,r", [w0, zero], dtype=(tl.float16,) * 4, is_pure=True, pack=2
            )
    else:
        a0, a1, a2, a3 = tl.inline_asm_elementwise(
            _MASKED_SIGNED if SIGNED else _MASKED, "=&r,=&r,=&r,=&r,r", [w0], dtype=(tl.float16,) * 4, is_pure=True,
            pack=2,
        )  # fmt: skip
    return a0, a1, a2, a3


@triton.jit
def _decode_plainly(w0, w1, others, table, B: tl.constexpr, BITS: tl.constexpr):
    """What the assembly computes, for the interpreter."""
    word = _pair_words(w0, B)
    if (BITS >> 13) & 1:
        second = _pair_words(w1, B)
        a0 = e4m3_plane(word, 0, B)
        a1 = e4m3_plane(word, 1, B)
        a2 = e4m3_plane(second, 0, B)
        a3 = e4m3_plane(second, 1, B)
    elif (BITS & 31) == 8:
        second = _pair_words(w1, B)
        a0 = _byte_plane(word, 0, B)
        a1 = _byte_plane(word, 1, B)
        a2 = _byte_plane(second, 0, B)
        a3 = _byte_plane(second, 1, B)
    elif BITS == 4 or (BITS >> 15) & 1:
        a0 = _table_plane(word, table, 0, B)
        a1 = _table_plane(word, table, 1, B)
        a2 = _table_plane(word, table, 2, B)
        a3 = _table_plane(word, table, 3, B)
    else:
        upper = word
        if (BITS & 31) > 4:
            upper = upper_bits(w1, B, BITS)
        a0 = number_plane(word, upper, 0, B, BITS)
        a1 = number_plane(word, upper, 1, B, BITS)
        a2 = number_plane(word, upper, 2, B, BITS)
        a3 = number_plane(word, upper, 3, B, BITS)
    if ((BITS >> 10) & 3) == 1:
        a0, a1, a2, a3 = less_zeros(a0, a1, a2, a3, others, B, BITS)
    return a0, a1, a2, a3


@triton.jit
def decode(w0, w1, w2, w3, lane, table, B: tl.constexpr, BITS: tl.constexpr, ASM: tl.constexpr):
    """Words to the four planes, fp16 (bf16 for 16 bits) [B, 256] in the order (g, t, h, half, i)."""
    if BITS == 16:
        a0 = _half_plane(w0, ASM)
        a1 = _half_plane(w1, ASM)
        a2 = _half_plane(w2, ASM)
        a3 = _half_plane(w3, ASM)
    elif ASM == 0:
        a0, a1, a2, a3 = _decode_plainly(w0, w1, w3, table, B, BITS)
    elif (BITS & 31) == 8:
        a0, a1, a2, a3 = _bytes_assembly(w0, w1, w3, B, BITS)
    elif BITS == 4 or (BITS >> 15) & 1:
        a0, a1, a2, a3 = tl.inline_asm_elementwise(
            _DECODE_4, "=&r,=&r,=&r,=&r,r,r,r", [w0, lane], dtype=(tl.float16,) * 4, is_pure=True, pack=2
        )
    else:
        a0, a1, a2, a3 = _numbers_assembly(w0, w1, w3, B, BITS)
    if (BITS >> 5) & 3 and ((BITS >> 16) & 1) == 0:
        a0, a1, a2, a3 = with_groups(a0, a1, a2, a3, w2, w3, B, BITS, ASM)
    return a0, a1, a2, a3


@triton.jit
def weight_plane(a, B: tl.constexpr):
    """[B, 256] in the order (g, t, h, half, i) to [B, 16, 16]: row 8 half + g, column 8 h + 2 t + i. No data moves."""
    a = tl.reshape(a, [B, 8, 4, 2, 2, 2])
    return tl.reshape(tl.trans(a, 0, 4, 1, 3, 2, 5), [B, 16, 16])


@triton.jit
def activation_planes(x, B: tl.constexpr, BT: tl.constexpr):
    """[BT/8 * B * 8, 32] (rows: token high, unit, token low) to two planes [B, 16, BT]. No data moves."""
    x = tl.reshape(x, [BT // 8, B, 8, 4, 2, 2, 2])  # token high, unit, token low, t, p, h, i
    first, second = tl.split(tl.trans(x, 1, 5, 3, 6, 0, 2, 4))
    return tl.reshape(first, [B, 16, BT]), tl.reshape(second, [B, 16, BT])


@triton.jit
def row_token(B: tl.constexpr, BT: tl.constexpr):
    """Token of every row of an activation tile [BT/8 * B * 8, 32]."""
    row = tl.arange(0, B * BT)
    return row // (B * 8) * 8 + row % 8


@triton.jit
def row_unit(B: tl.constexpr, BT: tl.constexpr):
    """Unit of every row of an activation tile."""
    return tl.arange(0, B * BT) // 8 % B


@triton.jit
def unit_products(
    w0,
    w1,
    w2,
    w3,
    scales,
    xa,
    xb,
    lane,
    table,
    B: tl.constexpr,
    BT: tl.constexpr,
    BITS: tl.constexpr,
    ASM: tl.constexpr,
):
    """fp32 [B, 16, BT]: every unit times its 64 activations (xa the first 32 columns, xb the others); 4-bit units are
    scaled here, once per block of 64; 8-bit ones by the caller, once per row."""
    a0, a1, a2, a3 = decode(w0, w1, w2, w3, lane, table, B, BITS, ASM)
    return plane_products(a0, a1, a2, a3, scales, xa, xb, B, BT, BITS)


@triton.jit
def plane_products(a0, a1, a2, a3, scales, xa, xb, B: tl.constexpr, BT: tl.constexpr, BITS: tl.constexpr):
    """`unit_products` of decoded units."""
    if BITS == 16:
        xa = xa.to(a0.dtype)
        xb = xb.to(a0.dtype)
    x0, x1 = activation_planes(xa, B, BT)
    x2, x3 = activation_planes(xb, B, BT)
    part = tl.dot(weight_plane(a0, B), x0)
    part = tl.dot(weight_plane(a1, B), x1, part)
    part = tl.dot(weight_plane(a2, B), x2, part)
    part = tl.dot(weight_plane(a3, B), x3, part)
    if BITS == 4 or (BITS >> 16) & 1:
        part = part * scales[:, :, None]
    return part
