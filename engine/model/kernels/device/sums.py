"""What the warps of a block have of few tokens' products, summed in one pass through shared memory.

Each warp leaves its tile of 16 rows and eight tokens, or of one token, which all eight columns then hold; after one
barrier whoever needs a number adds the warps' parts in their order. Under the interpreter, which has no inline
assembly, sums are taken as they are.
"""

from __future__ import annotations

import triton
import triton.language as tl


def _leave_assembly(warps: int, columns: int) -> str:
    """$4 to $7 are a lane's rows g and g + 8 of columns 2t and 2t + 1; of one column, lanes of t = 0 write rows."""
    lines = [f".shared .align 16 .b8 maskloop_sums[{64 * warps * columns}];", "{", ".reg .u32 a, b, w;"]
    lines += [".reg .pred p;", "mov.u32 w, %tid.x;", "mov.u32 b, maskloop_sums;"]
    if columns == 8:
        lines += ["shr.u32 a, w, 5;", "mul.lo.u32 a, a, 256;", "shl.b32 w, w, 3;", "add.u32 a, a, w;"]
        lines += ["add.u32 a, a, b;"]
        lines += ["st.shared.v2.f32 [a], {$4, $5};", "st.shared.v2.f32 [a+256], {$6, $7};"]
    else:
        lines += ["and.b32 a, w, 3;", "setp.eq.u32 p, a, 0;", "shl.b32 a, w, 1;", "and.b32 a, a, 0xffffffc0;"]
        lines += ["and.b32 w, w, 28;", "add.u32 a, a, w;", "add.u32 a, a, b;"]
        lines += ["@p st.shared.f32 [a], $4;", "@p st.shared.f32 [a+32], $6;"]
    return "\n".join([*lines, "bar.sync 0;", *(f"mov.u32 ${i}, 0;" for i in range(4)), "}"])


def _take_assembly(sharing: int, size: int) -> str:
    """Number $1 of tiles of `size`, one after the other, summed over the warps that share its tile, in order."""
    lines = ["{", ".reg .u32 a, b;", ".reg .f32 v;"]
    lines += [f"shr.u32 a, $1, {size.bit_length() - 1};", f"mul.lo.u32 a, a, {4 * size * sharing};"]
    lines += [f"and.b32 b, $1, {size - 1};", "shl.b32 b, b, 2;", "add.u32 a, a, b;", "mov.u32 b, maskloop_sums;"]
    lines += ["add.u32 a, a, b;", "ld.shared.f32 $0, [a];"]
    for warp in range(1, sharing):
        lines += [f"ld.shared.f32 v, [a+{4 * size * warp}];", "add.f32 $0, $0, v;"]
    return "\n".join([*lines, "}"])


def _leave_squares_assembly(warps: int, held: int, place: int) -> str:
    """The squares of a thread's `held` numbers, summed over its warp, whose first lane writes them."""
    lines = [f".shared .align 16 .b8 maskloop_squares{place}[{4 * warps}];", "{", ".reg .f32 s, v;"]
    lines += [".reg .u32 a, b, w;", ".reg .pred p;", f"mul.f32 s, ${held}, ${held};"]
    lines += [f"fma.rn.f32 s, ${held + i}, ${held + i}, s;" for i in range(1, held)]
    for lane in (16, 8, 4, 2, 1):
        lines += [f"shfl.sync.bfly.b32 v, s, {lane}, 0x1f, 0xffffffff;", "add.f32 s, s, v;"]
    lines += ["mov.u32 w, %tid.x;", "and.b32 a, w, 31;", "setp.eq.u32 p, a, 0;", "shr.u32 a, w, 3;"]
    lines += ["and.b32 a, a, 0xfffffffc;", f"mov.u32 b, maskloop_squares{place};", "add.u32 a, a, b;"]
    return "\n".join([*lines, "@p st.shared.f32 [a], s;", *(f"mov.u32 ${i}, 0;" for i in range(held)), "}"])


def _take_squares_assembly(warps: int, place: int) -> str:
    lines = ["{", ".reg .u32 a;", ".reg .f32 v;", f"mov.u32 a, maskloop_squares{place};", "ld.shared.f32 $0, [a];"]
    for warp in range(1, warps):
        lines += [f"ld.shared.f32 v, [a+{4 * warp}];", "add.f32 $0, $0, v;"]
    return "\n".join([*lines, "}"])


def _registers(kind: str, count: int, results: int) -> str:
    return ",".join(["=r"] * results + [kind] * count)


_leave = triton.constexpr_function(_leave_assembly)
_take = triton.constexpr_function(_take_assembly)
_leave_all_squares = triton.constexpr_function(_leave_squares_assembly)
_take_all_squares = triton.constexpr_function(_take_squares_assembly)
_registers_of = triton.constexpr_function(_registers)


@triton.jit
def leave_squares(value, PLACE: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr):
    """For `squares`: fp32 [n], n a multiple of the block's threads. Before `leave_sums`, whose barrier serves both."""
    if ASM:
        HELD: tl.constexpr = value.shape[0] // (32 * WARPS)
        tl.inline_asm_elementwise(
            _leave_all_squares(WARPS, HELD, PLACE), _registers_of("f", HELD, HELD), [value], dtype=tl.int32,
            is_pure=False, pack=HELD,
        )  # fmt: skip


@triton.jit
def squares(value, like, PLACE: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr):
    """The sum of the squares of what `leave_squares` was given for that place, in the shape of the integers `like`."""
    if ASM:
        found = tl.inline_asm_elementwise(
            _take_all_squares(WARPS, PLACE), "=&f,r", [like], dtype=tl.float32, is_pure=False, pack=1
        )
    else:
        found = tl.sum(value * value) + like * 0.0
    return found


@triton.jit
def leave_sums(acc, WARPS: tl.constexpr, COLUMNS: tl.constexpr, ASM: tl.constexpr):
    """For `sums_of`: fp32 [WARPS, 16, 8], a tile for each warp; COLUMNS is 8, or 1 where all are alike. All threads
    of a block come here, once in a kernel."""
    if ASM:
        tl.inline_asm_elementwise(
            _leave(WARPS, COLUMNS), _registers_of("f", 4, 4), [acc], dtype=tl.int32, is_pure=False, pack=4
        )


@triton.jit
def sums_of(acc, place, WARPS: tl.constexpr, SHARING: tl.constexpr, COLUMNS: tl.constexpr, ASM: tl.constexpr):
    """fp32 in the shape of `place`: numbers of the tiles [16, COLUMNS] that SHARING warps each have parts of, one tile
    after the other."""
    if ASM:
        found = tl.inline_asm_elementwise(
            _take(SHARING, 16 * COLUMNS), "=&f,r", [place], dtype=tl.float32, is_pure=False, pack=1
        )
    else:
        SIZE: tl.constexpr = WARPS // SHARING * 16 * COLUMNS
        if COLUMNS == 1:
            acc = tl.sum(tl.where(tl.arange(0, 8)[None, None, :] == 0, acc, 0.0), axis=2)
        whole = tl.reshape(tl.sum(tl.reshape(acc, [WARPS // SHARING, SHARING, 16 * COLUMNS]), axis=1), [1, SIZE])
        hit = tl.reshape(place, [place.numel, 1]) == tl.arange(0, SIZE)[None, :]
        found = tl.reshape(tl.sum(tl.where(hit, whole, 0.0), axis=1), place.shape)
    return found
