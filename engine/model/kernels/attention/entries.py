"""How kernels read and write entries of the KV cache: as fp16, or as codes of 8 bits (`cpu.kv_codes`).

A head's part of a block of the cache is fp16 [B, D], or B D codes and then B exponents. What a kernel computes with is
fp16 either way. A scale is 2^(exponent - kv_codes.BIAS), and so has exponent - 7 for its own exponent in fp32. Axis
letters as in `kernels.attention`.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor, float16, float32

from engine.model.kernels.device import launch

_NATIVE = tl.constexpr(
    "{\n.reg .b16 a, b;\nmov.b32 {a, b}, $2;\ncvt.rn.f16x2.e4m3x2 $0, a;\ncvt.rn.f16x2.e4m3x2 $1, b;\n"
    "mul.rn.f16x2 $0, $0, $3;\nmul.rn.f16x2 $1, $1, $4;\n}"
)
"""Four codes at once, from sm_89 on."""
_BY_BITS = tl.constexpr(
    "{\n.reg .b32 a, b, s, k;\nprmt.b32 a, $2, 0, 0x1404;\nprmt.b32 b, $2, 0, 0x3424;\nmov.b32 k, 0x5c005c00;\n"
    "and.b32 s, a, 0x80008000;\nshr.u32 a, a, 1;\nand.b32 a, a, 0x3f803f80;\nor.b32 a, a, s;\n"
    "and.b32 s, b, 0x80008000;\nshr.u32 b, b, 1;\nand.b32 b, b, 0x3f803f80;\nor.b32 b, b, s;\n"
    "mul.rn.f16x2 a, a, k;\nmul.rn.f16x2 b, b, k;\nmul.rn.f16x2 $0, a, $3;\nmul.rn.f16x2 $1, b, $4;\n}"
)
"""The same on earlier cards: a code's bits are those of an fp16 that is 256 times smaller."""


def coding(entries: Tensor) -> int:
    """How kernels read these entries: 0 as fp16; codes: 1 plainly, as the interpreter does, 80 and 89 by those cards'
    instructions."""
    if entries.dtype in (float16, float32):
        return 0
    return launch.code_instructions(entries) if entries.is_cuda else 1


@triton.jit
def part_of(block, kv, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, CODES: tl.constexpr):
    """Where a head's part of a block begins."""
    return (block.to(tl.int64) * KH + kv) * (B * (D + 1) if CODES else B * D)


@triton.jit
def load_exponents(
    keys, values, block, kv, at, end, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, BK: tl.constexpr,
    CODES: tl.constexpr,
):  # fmt: skip
    """uint8 [BK, 1] of the keys and of the values at positions from `at` on that are before `end`, in that block, for
    `widened`. A turn ahead of the codes: nothing hides this load, which is too narrow for an asynchronous copy."""
    of_keys = 0
    of_values = 0
    if CODES:
        inside = (at + tl.arange(0, BK) < end)[:, None]
        place = part_of(block, kv, KH, D, B, CODES) + B * D + at % B + tl.arange(0, BK)[:, None]
        of_keys = tl.load(keys + place, mask=inside, other=113)  # kv_codes.LEAST
        of_values = tl.load(values + place, mask=inside, other=113)
    return of_keys, of_values


@triton.jit
def widened(codes, exponents, CODES: tl.constexpr):
    """fp16 [M, C] of codes [M, C] with exponents [M, 1]; what is fp16 stays so."""
    found = codes
    if CODES:
        scale = ((exponents.to(tl.int32) - 7) << 23).to(tl.float32, bitcast=True).to(tl.float16)
        if CODES == 1:
            bits = codes.to(tl.int16)
            half = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
            found = half.to(tl.float16, bitcast=True) * 256.0 * scale
        else:
            found = tl.inline_asm_elementwise(
                _NATIVE if CODES == 89 else _BY_BITS, "=&r,=&r,r,r,r", [codes, tl.broadcast_to(scale, codes.shape)],
                dtype=tl.float16, is_pure=True, pack=4,
            )  # fmt: skip
    return found


@triton.jit
def largest(value):
    """fp32 [M, 1]: the largest magnitude of each row of fp16 [M, C]."""
    return tl.max(tl.abs(value.to(tl.float32)), axis=1)[:, None]


@triton.jit
def exponents_of(most):
    """uint8, of heads' largest magnitudes in fp32."""
    return (tl.maximum(most, 2.0**-14).to(tl.int32, bitcast=True) >> 23).to(tl.uint8)  # kv_codes.LEAST


@triton.jit
def narrowed(value, exponents):
    """Codes uint8 [M, C] of fp16 [M, C] with exponents [M, 1], rounded to the nearest even one."""
    value = value.to(tl.float32) * ((261 - exponents.to(tl.int32)) << 23).to(tl.float32, bitcast=True)
    bits = value.to(tl.int32, bitcast=True)
    most = bits & 0x7FFFFFFF
    normal = ((most + 0x7FFFF + ((most >> 20) & 1)) >> 20) - (120 << 3)
    small = (tl.abs(value) + 2.0**14).to(tl.int32, bitcast=True) & 0xF  # the last bit of the sum is worth 2^-9
    code = tl.where(tl.abs(value) < 2.0**-6, small, tl.minimum(normal, 0x7F))
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)
