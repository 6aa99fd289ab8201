"""How the blocks that share one token's cache bring their parts together, without a fence or a count of what is done.

A part's numbers are unset, which is bits that no result has, until its block writes them. The block that was the last
to take a number reads all parts again and again until none is unset, joins them in their order, and leaves them unset:
the others have begun, so that it waits for nobody who waits. Axis letters as in `kernels.attention`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.model.kernels.attention.attention import Scratch, splits
from engine.model.kernels.device.numbers import share_number, take_number


def make_parts(tokens: int, heads: int, kv_heads: int, head_dim: int, device: torch.device) -> Scratch:
    """Parts of steps of up to so many tokens, all unset: averages fp32 [cells, K, GP, D], maxima and sums
    [cells, K, GP, 2], and the numbers taken. Nobody else may write to them."""
    group = triton.next_power_of_2(heads // kv_heads)
    cells = max(n * (1 + splits(n, kv_heads)) for n in range(1, tokens + 1))  # one has the step's own tokens
    acc, stats = (
        torch.full((cells, kv_heads, group, size), -1, dtype=torch.int32, device=device).view(torch.float32)
        for size in (head_dim, 2)
    )
    return Scratch(acc, stats, torch.zeros(tokens, kv_heads, dtype=torch.int32, device=device))


@triton.constexpr_function
def _loads(name: str, first: int, count: int, at: str, offset: int) -> list[str]:
    """`count` registers, 1, 2 or a multiple of 4 of them, from what lies there."""
    width = min(4, count)
    vector, lines = {1: "", 2: ".v2", 4: ".v4"}[width], []
    for place in range(0, count, width):
        names = ", ".join(f"{name}{first + place + i}" for i in range(width))
        names = names if width == 1 else f"{{{names}}}"
        lines.append(f"ld.volatile.global{vector}.b32 {names}, [{at}+{offset + 4 * place}];")
    return lines


@triton.constexpr_function
def _resets(count: int, at: str, offset: int) -> list[str]:
    if count % 4:
        return [f"st.global.b32 [{at}+{offset + 4 * i}], u;" for i in range(count)]
    return [f"st.global.v4.b32 [{at}+{offset + 4 * i}], {{u, u, u, u}};" for i in range(0, count, 4)]


@triton.constexpr_function
def _join_assembly(together: int, columns: int, group: int, size: int) -> str:
    """Number i ($c) of `columns` of a token's heads each, of the parts at $c+1, with maxima and sums at $c+2, $c+3 of
    them; `together` on their way at once."""
    part_bytes, stat_bytes, given = 4 * group * size, 8 * group, columns
    lines = ["{", f".reg .pred p, w, q<{together}>;", ".reg .b64 part, stat;", ".reg .b32 first, n, worst, u;"]
    lines += [f".reg .b32 m<{2 * together}>, a<{together * columns}>;", ".reg .f32 best, total, top, mine, shrink;"]
    lines += [f"mul.wide.u32 part, ${given}, {4 * columns};", f"add.u64 part, part, ${given + 1};"]
    lines += [f"mul.lo.u32 n, ${given}, {columns};", f"and.b32 first, n, {size - 1};", "setp.eq.u32 w, first, 0;"]
    lines += [
        f"shr.u32 n, n, {size.bit_length() - 1};",
        "mul.wide.u32 stat, n, 8;",
        f"add.u64 stat, stat, ${given + 2};",
    ]
    lines += ["mov.f32 best, 0fff800000;", "mov.f32 total, 0f00000000;", "mov.b32 first, 0;", "mov.b32 u, 0xffffffff;"]
    lines += [*(f"mov.f32 ${c}, 0f00000000;" for c in range(columns)), "NEXT:"]
    for j in range(together):
        lines += [f"add.u32 n, first, {j};", f"setp.lt.u32 q{j}, n, ${given + 3};"]
        lines += [f"mov.b32 m{2 * j}, 0xff800000;", f"mov.b32 m{2 * j + 1}, 0;"]
        lines += [f"mov.b32 a{j * columns + c}, 0;" for c in range(columns)]
    lines += ["AGAIN:", "mov.b32 worst, 0;"]
    for j in range(together):
        loads = _loads("m", 2 * j, 2, "stat", stat_bytes * j) + _loads(
            "a", columns * j, columns, "part", part_bytes * j
        )
        lines += [f"@q{j} {load}" for load in loads]
    lines += [f"max.u32 worst, worst, m{i};" for i in range(2 * together)]
    lines += [f"max.u32 worst, worst, a{i};" for i in range(columns * together)]
    lines += ["setp.eq.u32 p, worst, u;", "@p bra AGAIN;", "bar.sync 0;"]  # several threads read the same maxima
    for j in range(together):
        lines += [f"@q{j} {reset}" for reset in _resets(columns, "part", part_bytes * j)]
        lines += [f"and.pred q{j}, q{j}, w;", f"@q{j} st.global.v2.b32 [stat+{stat_bytes * j}], {{u, u}};"]
        lines += [f"max.f32 top, best, m{2 * j};", f"sub.f32 mine, m{2 * j}, top;", "ex2.approx.ftz.f32 mine, mine;"]
        lines += ["sub.f32 shrink, best, top;", "ex2.approx.ftz.f32 shrink, shrink;", "mov.f32 best, top;"]
        lines += ["mul.f32 total, total, shrink;", f"fma.rn.f32 total, m{2 * j + 1}, mine, total;"]
        for c in range(columns):
            lines += [f"mul.f32 ${c}, ${c}, shrink;", f"fma.rn.f32 ${c}, a{j * columns + c}, mine, ${c};"]
    lines += [f"add.u64 part, part, {part_bytes * together};", f"add.u64 stat, stat, {stat_bytes * together};"]
    lines += [f"add.u32 first, first, {together};", f"setp.lt.u32 p, first, ${given + 3};", "@p bra NEXT;"]
    lines += [f"div.full.f32 ${c}, ${c}, total;" for c in range(columns)]
    return "\n".join([*lines, "}"])


@triton.constexpr_function
def _registers(columns: int) -> str:
    return ",".join(["=&f"] * columns + ["r", "l", "l", "r"])


@triton.constexpr_function
def _floats(count: int) -> tuple[tl.dtype, ...]:
    return (tl.float32,) * count


@triton.jit
def _join_plainly(acc_parts, stat_parts, active, GP: tl.constexpr, D: tl.constexpr):
    """fp32 [GP, D], for the interpreter, where blocks run one after the other."""
    g = tl.arange(0, GP)
    place = g[:, None] * D + tl.arange(0, D)[None, :]
    best = tl.full([GP], -float("inf"), tl.float32)
    total = tl.zeros([GP], tl.float32)
    acc = tl.zeros([GP, D], tl.float32)
    for part in range(active):
        m = tl.load(stat_parts + (part * GP + g) * 2)
        top = tl.maximum(best, m)
        shrink = tl.exp2(best - top)
        mine = tl.exp2(m - top)
        total = total * shrink + tl.load(stat_parts + (part * GP + g) * 2 + 1) * mine
        acc = acc * shrink[:, None] + tl.load(acc_parts + part * GP * D + place) * mine[:, None]
        best = top
    return acc / total[:, None]


@triton.jit
def _join(
    acc_parts, stat_parts, active, out, kv, D: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, J: tl.constexpr,
    WARPS: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """Joins `active` parts, J at once, in the heads of `kv` of a token's out."""
    if ASM:
        C: tl.constexpr = max(1, GP * D // (32 * WARPS))
        i = tl.arange(0, GP * D // C)
        first = acc_parts.to(tl.uint64, bitcast=True)
        second = stat_parts.to(tl.uint64, bitcast=True)
        joined = tl.inline_asm_elementwise(
            _join_assembly(J, C, GP, D), _registers(C), [i, first, second, active], dtype=_floats(C), is_pure=False,
            pack=1,
        )  # fmt: skip
        for c in tl.static_range(C):
            tl.store(out + kv * G * D + i * C + c, joined[c].to(tl.float16), mask=i * C < G * D)
    else:
        i = tl.arange(0, GP * D)
        joined = tl.reshape(_join_plainly(acc_parts, stat_parts, active, GP, D), [GP * D])
        tl.store(out + kv * G * D + i, joined.to(tl.float16), mask=i < G * D)


@triton.jit
def take_part(arrived, active, ASM: tl.constexpr):
    """The number of a block among those that have a part, for `hand_in`: asked for, where there are more than one."""
    due = 0
    if active > 1:
        due = take_number(arrived, ASM)
    return due


@triton.jit
def hand_in(
    best, total, acc, acc_parts, stat_parts, arrived, due, out, token, kv, split, active, N: tl.constexpr,
    KH: tl.constexpr, D: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, MP: tl.constexpr, SP: tl.constexpr,
    J: tl.constexpr, WARPS: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """A block's part of a token's attention, maxima and sums [MP] and averages [MP, D]; the block of the last number
    (`due`: `take_part` of arrived int32 [T, K], zero between launches) joins `active` of them, J at once, in out fp16
    [T, N D]."""
    g = tl.arange(0, MP)
    d = tl.arange(0, D)
    heads = out + token * N * D
    cell = (token * KH + kv) * SP
    if active == 1:
        column = (kv * G + g)[:, None] * D + d[None, :]
        tl.store(heads + column, (acc / total[:, None]).to(tl.float16), mask=(g < G)[:, None])
    else:
        part = cell + split
        tl.store(acc_parts + (part * GP + g)[:, None] * D + d[None, :], acc, mask=(g < GP)[:, None])
        tl.store(stat_parts + (part * GP + g) * 2, best, mask=g < GP)
        tl.store(stat_parts + (part * GP + g) * 2 + 1, total, mask=g < GP)
        if share_number(due, ASM) == active - 1:
            tl.store(arrived + token * KH + kv, 0)
            _join(acc_parts + cell * GP * D, stat_parts + cell * GP * 2, active, heads, kv, D, G, GP, J, WARPS, ASM)
