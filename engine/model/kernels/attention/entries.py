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
    "{\n.reg .b16 a, b;\nmov.b32 {a, b}, $2;\ncvt.rn.f16x2.e4m3x2 $0, a;\ncvt.rn.f16x2.e4m3x2 $1, b;\n}"
)
"""Four codes at once, from sm_89 on."""
_BY_BITS = tl.constexpr(
    "{\n.reg .b32 a, b, s;\nprmt.b32 a, $2, 0, 0x1404;\nprmt.b32 b, $2, 0, 0x3424;\n"
    "and.b32 s, a, 0x80008000;\nshr.u32 a, a, 1;\nlop3.b32 $0, a, 0x3f803f80, s, 0xea;\n"
    "and.b32 s, b, 0x80008000;\nshr.u32 b, b, 1;\nlop3.b32 $1, b, 0x3f803f80, s, 0xea;\n}"
)
"""The same on earlier cards, divided by 256: those fp16 numbers have a code's bits."""
_INFINITE = tl.constexpr(143)
"""The exponent of what is not finite in fp16, and more: such a scale is infinite, whatever the codes say."""


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
def widened(codes, CODES: tl.constexpr):
    """fp16 of codes, to be multiplied by their `scale_of`; what is fp16 stays so."""
    found = codes
    if CODES == 1:
        bits = codes.to(tl.int16)
        found = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
    elif CODES:
        found = tl.inline_asm_elementwise(
            _NATIVE if CODES == 89 else _BY_BITS, "=&r,=&r,r", [codes], dtype=tl.float16, is_pure=True, pack=4
        )
    return found


@triton.jit
def power_of(exponents, CODES: tl.constexpr):
    """fp32: the binary logarithm of the scale of `widened` codes."""
    found = (exponents.to(tl.int32) - (134 if CODES == 89 else 126)).to(tl.float32)  # kv_codes.BIAS
    return tl.where(exponents < _INFINITE, found, float("inf"))


@triton.jit
def load_powers(
    keys, values, part, at, end, scale, D: tl.constexpr, B: tl.constexpr, BK: tl.constexpr, CODES: tl.constexpr
):  # fmt: skip
    """fp32 [1, BK] of positions from `at` on that are before `end`, in a block's part: what scores of `widened` keys
    are multiplied by, what is then added for the values', and what sums of weights take them times."""
    i = tl.arange(0, BK)[None, :]
    beside = part + B * D + at % B + i
    power = power_of(tl.load(values + beside, mask=at + i < end, other=113), CODES)  # kv_codes.LEAST
    of_keys = power_of(tl.load(keys + beside, mask=at + i < end, other=113), CODES)
    return tl.exp2(of_keys), power / scale, tl.exp2(-power)


@triton.jit
def largest(value):
    """int32 [..., 1]: the bits in fp32 of the largest magnitude in rows of fp16 [..., C]; of NaN more than of any."""
    bits = value.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.max(bits, axis=len(value.shape) - 1, keep_dims=True)


@triton.jit
def exponents_of(most):
    """uint8, of heads' `largest`."""
    return tl.maximum(most >> 23, 113).to(tl.uint8)  # kv_codes.LEAST


@triton.jit
def narrowed(value, exponents):
    """Codes uint8 [..., C] of fp16 [..., C] with exponents [..., 1], rounded to the nearest even one."""
    value = value.to(tl.float32) * ((261 - exponents.to(tl.int32)) << 23).to(tl.float32, bitcast=True)
    bits = value.to(tl.int32, bitcast=True)
    most = bits & 0x7FFFFFFF
    normal = ((most + 0x7FFFF + ((most >> 20) & 1)) >> 20) - (120 << 3)
    small = (tl.abs(value) + 2.0**14).to(tl.int32, bitcast=True) & 0xF  # the last bit of the sum is worth 2^-9
    code = tl.where(tl.abs(value) < 2.0**-6, small, tl.minimum(normal, 0x7F))
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)
