"""How the warps of a block walk a stretch of the KV cache: each takes 16 positions a turn and waits for no other.

Entries go from memory into the registers that the products read, 16 bytes a lane, and are asked for a turn ahead; no
shared memory is between. So the products see columns of a head in an order of their own: that of `key_order` in each
half of keys and queries, that of `value_order` in values and averages. Scores are [W, P, HP], a softmax of its own for
each of W warps; `gathered` makes one of them. Of codes of 8 bits the exponents of keys multiply scores, those of values
are added to them: what comes before a product's rounding to fp16 is a position's weight times its scale. Axis letters
as in `kernels.attention`; P positions that a warp takes, HP heads of a group, at least 8.
"""

from __future__ import annotations

import triton
import triton.language as tl

from engine.model.kernels.attention.entries import part_of, power_of, widened

NEVER = tl.constexpr(-1e30)
"""A maximum of no scores: finite, so that a warp without positions shrinks by 1."""
_SPLIT_WORD = tl.constexpr("mov.b32 {$0, $1}, $2;")
_SPLIT_NATIVE = tl.constexpr(
    "{\n.reg .b16 a, b;\n.reg .b32 c, d;\nmov.b32 {a, b}, $4;\ncvt.rn.f16x2.e4m3x2 c, a;\n"
    "cvt.rn.f16x2.e4m3x2 d, b;\nmov.b32 {$0, $1}, c;\nmov.b32 {$2, $3}, d;\n}"
)
_SPLIT_BY_BITS = tl.constexpr(
    "{\n.reg .b32 a, b, s;\nprmt.b32 a, $4, 0, 0x1404;\nprmt.b32 b, $4, 0, 0x3424;\n"
    "and.b32 s, a, 0x80008000;\nshr.u32 a, a, 1;\nlop3.b32 a, a, 0x3f803f80, s, 0xea;\n"
    "and.b32 s, b, 0x80008000;\nshr.u32 b, b, 1;\nlop3.b32 b, b, 0x3f803f80, s, 0xea;\n"
    "mov.b32 {$0, $1}, a;\nmov.b32 {$2, $3}, b;\n}"
)
"""The entries of a word, as `entries.widened` gives them."""
_PAIR_CODES = tl.constexpr("{\nprmt.b32 $0, $2, $3, 0x5140;\nprmt.b32 $1, $2, $3, 0x7362;\n}")
_PAIR_HALVES = tl.constexpr("{\nprmt.b32 $0, $2, $3, 0x5410;\nprmt.b32 $1, $2, $3, 0x7632;\n}")


@triton.constexpr_function
def _lane(columns: int, lanes: int, codes: int) -> int:
    """Neighbouring columns that a lane takes at once, of so many that so many lanes share."""
    return min(16 if codes else 8, columns // lanes)


@triton.jit
def key_order(D: tl.constexpr, CODES: tl.constexpr):
    """int32 [D/2]: the columns of a half of a head, as products take them."""
    E: tl.constexpr = _lane(D // 2, 4, CODES)
    k = tl.arange(0, D // 2)
    return k // (4 * E) * (4 * E) + k // 4 % 4 * E + k // 16 % (E // 4) * 4 + k % 4


@triton.jit
def value_order(D: tl.constexpr, CODES: tl.constexpr):
    """int32 [D]: the columns of a head, as sums have them."""
    E: tl.constexpr = _lane(D, 8, CODES)
    m = tl.arange(0, D)
    return m // (8 * E) * (8 * E) + m % 8 * E + m // 8 % E


@triton.jit
def _load_words(part, position, column, at, end, E: tl.constexpr, D: tl.constexpr, CODES: tl.constexpr):
    """int32 [R, E / PER]: E columns from `column` on of positions [R]. Lanes, then warps, follow the rows."""
    PER: tl.constexpr = 4 if CODES else 2
    words = part.to(tl.pointer_type(tl.int32), bitcast=True) + ((position * D + column) // PER)[:, None]
    return tl.load(words + tl.arange(0, E // PER)[None, :], mask=(at + position < end)[:, None], other=0)


@triton.jit
def _load_keys(part, at, end, D: tl.constexpr, W: tl.constexpr, CODES: tl.constexpr):
    """A half of the keys at positions from `at` on, from `part` on; rows are in the order of `key_plane`."""
    E: tl.constexpr = _lane(D // 2, 4, CODES)
    row = tl.arange(0, D // 2 // (4 * E) * 2 * W * 32)
    position = row // 32 % W * 16 + row // (32 * W) % 2 * 8 + row // 4 % 8
    return _load_words(part, position, row // (64 * W) * (4 * E) + row % 4 * E, at, end, E, D, CODES)


@triton.jit
def _load_values(part, at, end, D: tl.constexpr, W: tl.constexpr, CODES: tl.constexpr):
    """The values at even and at odd positions; rows are in the order of `value_plane`."""
    E: tl.constexpr = _lane(D, 8, CODES)
    row = tl.arange(0, D // (8 * E) * 2 * W * 32)
    position = row // 32 % W * 16 + row // (32 * W) % 2 * 2 + row % 4 * 4
    column = row // (64 * W) * (8 * E) + row // 4 % 8 * E
    even = _load_words(part, position, column, at, end, E, D, CODES)
    return even, _load_words(part, position + 1, column, at, end, E, D, CODES)


@triton.jit
def load_entries(
    keys, values, block, kv, at, end, KH: tl.constexpr, D: tl.constexpr, B: tl.constexpr, W: tl.constexpr,
    CODES: tl.constexpr,
):  # fmt: skip
    """What planes are made of, and `turn` takes, of positions from `at` on that are before `end`, in that block."""
    part = part_of(block, kv, KH, D, B, CODES)
    place = part + at % B * D
    of_keys = 0
    of_values = 0
    if CODES:
        i = tl.arange(0, W)[:, None] * 16 + tl.arange(0, 16)[None, :]
        beside = part + (B * D + at % B)
        of_keys = tl.load(keys + beside + i, mask=at + i < end, other=113)  # kv_codes.LEAST
        of_values = tl.load(values + beside + i, mask=at + i < end, other=113)
    first = _load_keys(keys + place, at, end, D, W, CODES)
    second = _load_keys(keys + (place + D // 2), at, end, D, W, CODES)
    return first, second, _load_values(values + place, at, end, D, W, CODES), of_keys, of_values


@triton.jit
def _entry(word, PLACE: tl.constexpr, CODES: tl.constexpr):
    """The entry at that place of words, for the interpreter."""
    if CODES:
        entry = widened((word >> 8 * PLACE) & 0xFF, 1)
    else:
        entry = (word >> 16 * PLACE).to(tl.int16).to(tl.float16, bitcast=True)
    return entry


@triton.jit
def _split_words(words, CODES: tl.constexpr, ASM: tl.constexpr):
    """fp16 [R, C, 2] of words [R, C], or of codes [R, C, 2, 2]: of each neighbour, which pair."""
    if CODES:
        if ASM:
            a, b, c, d = tl.inline_asm_elementwise(
                _SPLIT_NATIVE if CODES == 89 else _SPLIT_BY_BITS, "=h,=h,=h,=h,r", [words], dtype=(tl.float16,) * 4,
                is_pure=True, pack=1,
            )  # fmt: skip
        else:
            a = _entry(words, 0, CODES)
            b = _entry(words, 1, CODES)
            c = _entry(words, 2, CODES)
            d = _entry(words, 3, CODES)
        found = tl.join(tl.join(a, b), tl.join(c, d))
    else:
        if ASM:
            a, b = tl.inline_asm_elementwise(
                _SPLIT_WORD, "=h,=h,r", [words], dtype=(tl.float16,) * 2, is_pure=True, pack=1
            )  # fmt: skip
        else:
            a = _entry(words, 0, CODES)
            b = _entry(words, 1, CODES)
        found = tl.join(a, b)
    return found


@triton.jit
def _paired(even, odd, CODES: tl.constexpr, ASM: tl.constexpr):
    """Words with the entries of two words in turns: the first halves' and the second halves'."""
    if ASM:
        low, high = tl.inline_asm_elementwise(
            _PAIR_CODES if CODES else _PAIR_HALVES, "=&r,=&r,r,r", [even, odd], dtype=(tl.int32,) * 2, is_pure=True,
            pack=1,
        )  # fmt: skip
    elif CODES:
        low = (even & 0xFF) | (odd & 0xFF) << 8 | (even & 0xFF00) << 8 | (odd & 0xFF00) << 16
        high = (even >> 16 & 0xFF) | (odd >> 8 & 0xFF00) | (even >> 8 & 0xFF0000) | (odd >> 24 << 24)
    else:
        low = (even & 0xFFFF) | odd << 16
        high = (even >> 16 & 0xFFFF) | (odd >> 16 << 16)
    return low, high


@triton.jit
def key_plane(words, D: tl.constexpr, W: tl.constexpr, CODES: tl.constexpr, ASM: tl.constexpr):
    """fp16 [W, P, D/2] of what `_load_keys` gives. No data moves."""
    E: tl.constexpr = _lane(D // 2, 4, CODES)
    half = _split_words(words, CODES, ASM)
    if CODES:
        half = tl.trans(half, 0, 1, 3, 2)
    half = tl.reshape(half, [D // 2 // (4 * E), 2, W, 8, 4, E // 4, 2, 2])
    return tl.reshape(tl.trans(half, 2, 1, 3, 0, 5, 4, 6, 7), [W, 16, D // 2])


@triton.jit
def value_plane(words, D: tl.constexpr, W: tl.constexpr, CODES: tl.constexpr, ASM: tl.constexpr):
    """fp16 [W, D, P] of what `_load_values` gives. No data moves."""
    E: tl.constexpr = _lane(D, 8, CODES)
    even, odd = words
    low, high = _paired(even, odd, CODES, ASM)
    pairs = tl.join(_split_words(low, CODES, ASM), _split_words(high, CODES, ASM))
    if CODES:  # of each: position, which pair of the word, which word
        pairs = tl.trans(tl.reshape(pairs, [D // (8 * E) * 64 * W, E // 4, 2, 2, 2]), 0, 1, 4, 3, 2)
    else:
        pairs = tl.trans(pairs, 0, 1, 3, 2)
    value = tl.reshape(pairs, [D // (8 * E), 2, W, 8, 4, E, 2])
    return tl.reshape(tl.trans(value, 2, 0, 5, 3, 4, 1, 6), [W, D, 16])


@triton.jit
def beginning(D: tl.constexpr, HP: tl.constexpr, W: tl.constexpr):
    """Maxima [W, HP], sums [W, P, HP] and averages [W, D, HP] of no positions."""
    best = tl.full([W, HP], NEVER, tl.float32)
    return best, tl.zeros([W, 16, HP], tl.float32), tl.zeros([W, D, HP], tl.float32)


@triton.jit
def turn(qa, qb, first, second, value, of_keys, of_values, inside, so_far, scale, CODES: tl.constexpr):
    """`so_far` after positions more: halves of queries [W, D/2, HP] and of keys [W, P, D/2], values [W, D, P]; inside
    and exponents [W, P]."""
    best, total, acc = so_far
    score = (tl.dot(first, qa) + tl.dot(second, qb)) * scale
    if CODES:
        power = power_of(of_values, CODES)
        score = score * tl.exp2(power_of(of_keys, CODES))[:, :, None] + power[:, :, None]
    score = tl.where(inside[:, :, None], score, -float("inf"))
    top = tl.maximum(best, tl.max(score, axis=1))
    p = tl.exp2(score - top[:, None, :])
    shrink = tl.exp2(best - top)[:, None, :]
    acc = tl.dot(value, p.to(tl.float16), acc * shrink)
    if CODES:
        p = p * tl.exp2(-power)[:, :, None]
    return top, total * shrink + p, acc


@triton.jit
def gathered(so_far, D: tl.constexpr, HP: tl.constexpr, CODES: tl.constexpr):
    """Maxima, sums and averages [HP], [HP], [HP, D], columns in their own order, of all warps' positions."""
    best, total, acc = so_far
    E: tl.constexpr = _lane(D, 8, CODES)
    top = tl.max(best, axis=0)
    mine = tl.exp2(best - top[None, :])
    total = tl.sum(tl.sum(total, axis=1) * mine, axis=0)
    acc = tl.sum(acc * mine[:, None, :], axis=0)
    acc = tl.trans(tl.reshape(acc, [D // (8 * E), E, 8, HP]), 3, 0, 2, 1)
    return top, total, tl.reshape(acc, [HP, D])
