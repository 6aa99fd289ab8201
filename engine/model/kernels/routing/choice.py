"""Which experts one token visits, found by every block that needs to know: cheaper than a kernel that tells them.

The first warp picks the largest logits one after another and leaves the ids in shared memory, in their order; under the
interpreter, which has no inline assembly, all logits are compared with each other. Axis letters as in `router`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def _choice_assembly(held: int, experts: int, chosen: int) -> str:
    """Lane l of the first warp holds `held` logits, of experts l + 32 j, largest first, as integers of that order."""
    lines = [f".shared .align 16 .b8 maskloop_chosen[{4 * chosen}];", "{"]
    lines += [".reg .pred p, q, t;", ".reg .u32 lane, below, g, b, n, i, s, v, m;", ".reg .f32 f;", ".reg .u64 a;"]
    lines += [f".reg .u32 {name}<{held + 1}>;" for name in "kehfc"]
    lines += ["mov.u32 lane, %tid.x;", "setp.gt.u32 p, lane, 31;", "@p bra CHOSEN;"]
    lines += ["mov.u32 below, %lanemask_lt;", "mul.wide.u32 a, lane, 4;", "add.u64 a, a, $1;"]
    for j in range(held):
        lines += [f"add.u32 e{j}, lane, {32 * j};", f"mov.u32 k{j}, 0;"]
        lines += [f"setp.lt.u32 p, e{j}, {experts};", "mov.f32 f, 0f00000000;"]
        lines += [f"@p ld.global.cg.f32 f, [a+{128 * j}];", "add.f32 f, f, 0f00000000;", "mov.b32 v, f;"]
        lines += ["shr.s32 s, v, 31;", "or.b32 s, s, 0x80000000;", f"@p xor.b32 k{j}, v, s;"]
    for last in range(held - 1, 0, -1):  # of equals the lower id stays in front
        for j in range(last):
            lines += [f"setp.lt.u32 p, k{j}, k{j + 1};", f"mov.u32 v, k{j};", f"mov.u32 s, e{j};"]
            lines += [f"@p mov.u32 k{j}, k{j + 1};", f"@p mov.u32 e{j}, e{j + 1};"]
            lines += [f"@p mov.u32 k{j + 1}, v;", f"@p mov.u32 e{j + 1}, s;"]
    # where q holds, the lane's bit in m of the place that the expert came from
    mark = ["mov.u32 v, 1;", "shl.b32 v, v, s;", "@q or.b32 m, m, v;"]
    count = ["mov.u32 n, 0;"]  # which lanes have each bit of m, and how many bits there are
    for j in range(held):
        count += [f"and.b32 i, m, {1 << j};", "setp.ne.u32 q, i, 0;", f"vote.sync.ballot.b32 c{j}, q, 0xffffffff;"]
        count += [f"popc.b32 b, c{j};", "add.u32 n, n, b;"]
    lines += [f"mov.u32 k{held}, 0;", f"mov.u32 e{held}, 0;", "mov.u32 m, 0;"]
    lines += [f"mov.u32 h{j}, k{j};" for j in range(held + 1)] + [f"mov.u32 f{j}, e{j};" for j in range(held + 1)]
    for _ in range(chosen):  # as if no two were equal, which a chain of fewer instructions finds
        lines += ["redux.sync.max.u32 g, h0, 0xffffffff;", "setp.eq.u32 q, h0, g;", "shr.u32 s, f0, 5;", *mark]
        lines += [line for j in range(held) for line in (f"@q mov.u32 h{j}, h{j + 1};", f"@q mov.u32 f{j}, f{j + 1};")]
    lines += [*count, f"setp.eq.u32 p, n, {chosen};", "@p bra FOUND;", "mov.u32 m, 0;"]
    for _ in range(chosen):
        lines += ["redux.sync.max.u32 g, k0, 0xffffffff;", "setp.eq.u32 q, k0, g;"]
        lines += ["vote.sync.ballot.b32 b, q, 0xffffffff;", "popc.b32 n, b;", "setp.gt.u32 t, n, 1;"]
        lines += ["selp.u32 i, e0, 0xffffffff, q;", "mov.u32 v, i;", "@t redux.sync.min.u32 v, i, 0xffffffff;"]
        lines += ["setp.eq.and.u32 q, i, v, q;", "shr.u32 s, e0, 5;", *mark]
        lines += [line for j in range(held) for line in (f"@q mov.u32 k{j}, k{j + 1};", f"@q mov.u32 e{j}, e{j + 1};")]
    lines += [*count, "FOUND:", "mov.u32 n, 0;", "mov.u32 s, maskloop_chosen;"]
    for j in range(held):
        lines += [f"and.b32 i, m, {1 << j};", "setp.ne.u32 q, i, 0;", f"and.b32 i, c{j}, below;"]
        lines += ["popc.b32 i, i;", "add.u32 i, i, n;", "shl.b32 i, i, 2;", "add.u32 i, i, s;"]
        lines += [f"add.u32 v, lane, {32 * j};", "@q st.shared.u32 [i], v;", f"popc.b32 b, c{j};", "add.u32 n, n, b;"]
    return "\n".join([*lines, "CHOSEN:", "bar.sync 0;", "mov.u32 $0, 0;", "}"])


_choice = triton.constexpr_function(_choice_assembly)
_CHOSEN = tl.constexpr(
    "{\n.reg .u32 a, b;\nshl.b32 a, $1, 2;\nmov.u32 b, maskloop_chosen;\nadd.u32 a, a, b;\nld.shared.u32 $0, [a];\n}"
)


@triton.jit
def choose_experts(logits, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, ASM: tl.constexpr):
    """The C largest of the logits [E], ties to the lower id, numbered by id: what `expert_of` takes. All threads of a
    block must come here, once in a kernel."""
    if ASM:
        choice = tl.inline_asm_elementwise(
            _choice((EP + 31) // 32, E, C), "=r,l", [logits.to(tl.uint64, bitcast=True)], dtype=tl.int32, is_pure=False,
            pack=1,
        )  # fmt: skip
    else:
        e = tl.arange(0, EP)
        row = tl.load(logits + e, mask=e < E, other=-float("inf"))[None, :]
        column = tl.load(logits + e, mask=e < E, other=-float("inf"))[:, None]
        ahead = (row > column) | ((row == column) & (e[None, :] < e[:, None]))
        taken = ((tl.sum(ahead.to(tl.int32), axis=1) < C) & (e < E)).to(tl.int32)
        choice = tl.where(taken > 0, tl.cumsum(taken, axis=0) - 1, -1)
    return choice


@triton.jit
def expert_of(choice, slot, EP: tl.constexpr, ASM: tl.constexpr):
    """The id of the chosen expert of that number."""
    if ASM:
        found = tl.inline_asm_elementwise(_CHOSEN, "=r,r,r", [slot, choice], dtype=tl.int32, is_pure=True, pack=1)
    else:
        found = tl.sum(tl.where(choice == slot, tl.arange(0, EP), 0))
    return found


@triton.jit
def experts_of(choice, slots, EP: tl.constexpr, ASM: tl.constexpr):
    """`expert_of` of the numbers `slots` [B]."""
    if ASM:
        found = tl.inline_asm_elementwise(_CHOSEN, "=r,r,r", [slots, choice], dtype=tl.int32, is_pure=True, pack=1)
    else:
        hit = choice[None, :] == slots[:, None]
        found = tl.sum(tl.where(hit, tl.arange(0, EP)[None, :], 0), axis=1)
    return found


@triton.jit
def route_logits(
    choice, expert, logits, E: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, CP: tl.constexpr,
    NORM_TOPK: tl.constexpr, ASM: tl.constexpr,
):  # fmt: skip
    """The expert's logit, and those of all experts, or with NORM_TOPK of the chosen ones: what the softmax is of."""
    mine = tl.load(logits + expert)
    if NORM_TOPK:
        c = tl.arange(0, CP)
        here = c < C
        e = experts_of(choice, tl.minimum(c, C - 1), EP, ASM)
    else:
        e = tl.arange(0, EP)
        here = e < E
    return mine, tl.load(logits + e, mask=here, other=-float("inf"))


def choose(logits: Tensor, chosen: int, norm_topk: bool, shared: bool = False) -> tuple[Tensor, Tensor]:
    """ids int64 and weights fp32, both [T, C], in the order of ids; ties to the lower id. With `shared` the last expert
    is one of the C: every token visits it, with the sigmoid of its logit."""
    if shared:
        ids, weights = choose(logits[:, :-1], chosen - 1, norm_topk)
        last = torch.full_like(ids[:, :1], logits.shape[1] - 1)
        return torch.cat((ids, last), -1), torch.cat((weights, logits[:, -1:].sigmoid()), -1)
    order = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :chosen]
    ids = order.sort(-1).values
    probabilities = logits.softmax(-1)
    weights = probabilities.gather(-1, ids)
    return ids, weights / weights.sum(-1, keepdim=True) if norm_topk else weights
