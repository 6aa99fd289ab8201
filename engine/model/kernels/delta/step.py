"""A few tokens a row, one after another: one pass over the state, which stays in registers while they last.

A block has one head's whole state, so that it norms the head's output itself, and always four warps, so that sums have
one order whatever else is in the step: a state depends on its own tokens alone, to the bit. The state and the kept
inputs were written a step ago, so a block requests them before it waits for the projections: two launches over the same
slots must have something that waits for all of its predecessors between them. Axis letters as in `memory`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.kernels.delta.memory import DeltaMemory, DeltaWeights, Rates, Rows, Way
from engine.model.kernels.delta.pieces import (
    L2_EPS,
    convolved,
    gated,
    gated_norm,
    gates_of,
    gates_reference,
    kept_input,
    new_input,
    recurrence,
    silu_of,
    window,
)
from engine.model.kernels.device import launch
from engine.model.kernels.device.plane import place_of, plane_order
from engine.model.kernels.device.units import release_next, wait_for_previous

WARPS = 4


@triton.jit
def _taps(taps, channel, C: tl.constexpr):
    """fp32: the convolution's four weights of channels."""
    return (
        tl.load(taps + channel).to(tl.float32),
        tl.load(taps + C + channel).to(tl.float32),
        tl.load(taps + 2 * C + channel).to(tl.float32),
        tl.load(taps + 3 * C + channel).to(tl.float32),
    )


@triton.jit
def _before(inputs, slot, position, channel, C: tl.constexpr, P: tl.constexpr):
    """The three inputs before a position."""
    return (
        kept_input(inputs, slot, position - 3, channel, True, C, P),
        kept_input(inputs, slot, position - 2, channel, True, C, P),
        kept_input(inputs, slot, position - 1, channel, True, C, P),
    )


@triton.jit
def _tail(tails, source, channel, C: tl.constexpr):
    """The same, of a kept state."""
    at = tails + source.to(tl.int64) * 3 * C + channel
    return tl.load(at).to(tl.float32), tl.load(at + C).to(tl.float32), tl.load(at + 2 * C).to(tl.float32)


@triton.jit
def _page(table, row, position, begin, width, P: tl.constexpr):
    """Which page has what a row's position fed; of one behind the last, that of the last."""
    return tl.load(table + row * width + tl.minimum(position // P - begin // P, width - 1))


@triton.jit
def _convolved(old, new, taps):
    """What is left of the window for the next token, and the convolution's activation."""
    mixed = silu_of(tl.fma(new, taps[3], tl.fma(old[2], taps[2], tl.fma(old[1], taps[1], old[0] * taps[0]))))
    return (old[1], old[2], new), mixed


@triton.jit
def _rate_weights(weight, gain, head, VH: tl.constexpr, H: tl.constexpr, HP: tl.constexpr):
    """What a head's b and a are made with, and the norm's gain, [HP] each."""
    h = tl.arange(0, HP)
    inside = h < H
    first = tl.load(weight + head * H + h, mask=inside, other=0.0)
    second = tl.load(weight + (VH + head) * H + h, mask=inside, other=0.0)
    return first, second, tl.load(gain + h, mask=inside, other=0.0)


@triton.jit
def _rates(x, token, weights, eps, H: tl.constexpr, HP: tl.constexpr):
    """A head's b and a, of one token."""
    first, second, gain = weights
    h = tl.arange(0, HP)
    value = tl.load(x + token.to(tl.int64) * H + h, mask=h < H, other=0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(value * value) / H + eps)
    value = value * gain.to(tl.float32)
    return tl.sum(value * first.to(tl.float32)) * inverse, tl.sum(value * second.to(tl.float32)) * inverse


@triton.jit
def _token(
    projected, ba, inputs, gates, slot, position, token, stride, ba_stride, q, k, v, head, alive, VH: tl.constexpr,
    C: tl.constexpr, P: tl.constexpr, H: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """What one token brings: inputs of the channels q, k and v, and two numbers that its gates are made of, or were;
    with H they are made later. With KEPT `slot` is the position's page."""
    if KEPT:
        new_q = kept_input(inputs, slot, position, q, alive, C, P)
        new_k = kept_input(inputs, slot, position, k, alive, C, P)
        new_v = kept_input(inputs, slot, position, v, alive, C, P)
        gate = gates + (slot.to(tl.int64) * P + position % P) * 2 * VH + head
        first = tl.load(gate, mask=alive, other=0.0)
        second = tl.load(gate + VH, mask=alive, other=0.0)
    else:
        at = token.to(tl.int64) * stride
        new_q = new_input(projected, at + q, alive)
        new_k = new_input(projected, at + k, alive)
        new_v = new_input(projected, at + v, alive)
        first = 0.0
        second = 0.0
        if H == 0:
            gate = ba + token.to(tl.int64) * ba_stride + head
            first = tl.load(gate, mask=alive, other=0.0).to(tl.float32)
            second = tl.load(gate + VH, mask=alive, other=0.0).to(tl.float32)
    return new_q, new_k, new_v, first, second


@triton.jit(do_not_specialize=["rows", "width"])
def delta_step_kernel(
    projected, ba, x, x_gain, x_weight, taps, rate, bias, gain, firsts, counts, slots, positions, sources, start,
    tails, table, state, inputs, gates, out, rows, width, stride, ba_stride, start_stride, tails_stride, state_stride,
    inputs_stride, gates_stride, eps, x_eps, scale,
    KH: tl.constexpr, VH: tl.constexpr, D: tl.constexpr, P: tl.constexpr, H: tl.constexpr, HP: tl.constexpr,
    ONE: tl.constexpr, KEPT: tl.constexpr, PLANE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Grid (VH, rows, with KEPT times layers). ONE: no row has more than one token. KEPT: tokens come from pages of P
    positions that `table` [rows, width] names, and only the state is made. H: b and a are made of x [T, H], see
    `Rates`; 0: they are given."""
    C: tl.constexpr = (2 * KH + VH) * D
    release_next(PDL)
    head = tl.program_id(0)
    row = tl.program_id(1)
    if KEPT:
        layer = (row // rows).to(tl.int64)
        row = row % rows
        taps += layer * 4 * C
        start += layer * start_stride
        tails += layer * tails_stride
        state += layer * state_stride
        inputs += layer * inputs_stride
        gates += layer * gates_stride
    count = tl.load(counts + row)
    slot = tl.load(slots + row)
    position = tl.load(positions + row)
    first = tl.load(firsts + row)
    source = tl.load(sources + row)
    keys = tl.arange(0, D)
    value = tl.arange(0, D)
    tile = value[:, None] * D + keys[None, :]
    if (count > 0) | KEPT:
        old = tl.load(start + (source.to(tl.int64) * VH + head) * D * D + tile)
        new_state = state + (slot.to(tl.int64) * VH + head) * D * D + tile
        group = head // (VH // KH)
        q = group * D + keys
        k = KH * D + q
        v = 2 * KH * D + head * D + value
        q_taps = _taps(taps, q, C)
        k_taps = _taps(taps, k, C)
        v_taps = _taps(taps, v, C)
        if KEPT:
            q_old = _tail(tails, source, q, C)
            k_old = _tail(tails, source, k, C)
            v_old = _tail(tails, source, v, C)
        else:
            q_old = _before(inputs, slot, position, q, C, P)
            k_old = _before(inputs, slot, position, k, C, P)
            v_old = _before(inputs, slot, position, v, C, P)
        head_rate = tl.load(rate + head)
        head_bias = tl.load(bias + head)
        if H > 0:
            weights = _rate_weights(x_weight, x_gain, head, VH, H, HP)
        wait_for_previous(PDL)
        home = slot
        page = slot
        if KEPT:
            home = _page(table, row, position, position, width, P)
            page = _page(table, row, position + 1, position, width, P)
        ahead = _token(projected, ba, inputs, gates, home, position, first, stride, ba_stride, q, k, v, head, True, VH,
                       C, P, H, KEPT)  # fmt: skip
        for i in tl.range(0, 1 if ONE else count, num_stages=1):
            new_q, new_k, new_v, one, two = ahead
            ahead = _token(projected, ba, inputs, gates, page, position + i + 1, first + i + 1, stride, ba_stride, q, k,
                           v, head, i + 1 < count, VH, C, P, H, KEPT)  # fmt: skip
            if KEPT:
                page = _page(table, row, position + i + 2, position, width, P)
            if H > 0:
                one, two = _rates(x, first + i, weights, x_eps, H, HP)
            q_old, query = _convolved(q_old, new_q, q_taps)
            k_old, key = _convolved(k_old, new_k, k_taps)
            v_old, wanted = _convolved(v_old, new_v, v_taps)
            if KEPT:
                decay = one
                beta = two
            else:
                decay, beta = gates_of(one, two, head_rate, head_bias)
            key = key * tl.rsqrt(tl.sum(key * key, axis=0) + L2_EPS)
            shrink = tl.exp(decay)
            told = tl.sum(old * key[None, :], axis=1)
            change = beta * (wanted - shrink * told)
            if not KEPT:
                query = query * tl.rsqrt(tl.sum(query * query, axis=0) + L2_EPS)
                both = tl.sum(query * key, axis=0)
                found = shrink * tl.sum(old * query[None, :], axis=1) + both * change
            old = tl.fma(change[:, None], key[None, :], shrink * old)
            if ONE:
                tl.store(new_state, old)
            if not KEPT:
                token = first + i
                ring = slot.to(tl.int64) * P + (position + i) % P
                tl.store(gates + ring * 2 * VH + head, decay)
                tl.store(gates + ring * 2 * VH + VH + head, beta)
                if head % (VH // KH) == 0:
                    tl.store(inputs + ring * C + q, new_q.to(tl.float16))
                    tl.store(inputs + ring * C + k, new_k.to(tl.float16))
                tl.store(inputs + ring * C + v, new_v.to(tl.float16))
                gate = tl.load(projected + token.to(tl.int64) * stride + C + head * D + value).to(tl.float32)
                found = found * scale
                inverse = tl.rsqrt(tl.sum(found * found, axis=0) / D + eps)
                made = gated(found, inverse, tl.load(gain + value).to(tl.float32), gate)
                column = head * D + value
                if PLANE:
                    column = place_of(column)
                tl.store(out + token.to(tl.int64) * VH * D + column, made.to(out.dtype.element_ty))
        if not ONE:
            tl.store(new_state, old)


def delta_step(
    projected: Tensor, ba: Tensor | Rates, weights: DeltaWeights, rows: Rows, memory: DeltaMemory, out: Tensor, *,
    plane: bool = False,
) -> None:  # fmt: skip
    """out fp16 [T, VH D] and the memory of the rows' slots after their tokens; with `plane` in plane order.

    projected [T, C + VH D]: q, k, v and the output's gate; ba [T, 2 VH]: b, then a, or what they are made of. A row
    has at most three tokens fewer than the ring has places, and where there are as many rows as tokens, at most one.
    """
    keys, values, size = memory.heads
    x, gain, weight, eps = ba if isinstance(ba, Rates) else (ba, ba, ba, 0.0)
    given, hidden = (projected, x.shape[1]) if isinstance(ba, Rates) else (ba, 0)
    delta_step_kernel[(values, len(rows.count))](
        projected, given, x, gain, weight, weights.taps, weights.rate, weights.bias, weights.gain, *rows, rows.slots,
        memory.state, memory.inputs, rows.slots, *memory, out, len(rows.count), 0, projected.stride(0), given.stride(0),
        0, 0, 0, 0, 0, weights.eps, eps, size**-0.5, KH=keys, VH=values, D=size, P=memory.inputs.shape[1], H=hidden,
        HP=triton.next_power_of_2(max(1, hidden)), ONE=len(projected) == len(rows.count), KEPT=False,
        PLANE=plane, num_warps=WARPS, **launch.dependent(projected, "delta_step"),
    )  # fmt: skip


def delta_step_reference(
    projected: Tensor, ba: Tensor | Rates, weights: DeltaWeights, rows: Rows, memory: DeltaMemory, out: Tensor, *,
    plane: bool = False,
) -> None:  # fmt: skip
    """Computes in the state's type."""
    ba = ba.made() if isinstance(ba, Rates) else ba
    channels, ring = memory.inputs.shape[2], memory.inputs.shape[1]
    order = plane_order(out.shape[1], out.device) if plane else slice(None)
    for first, count, slot, position in zip(*(part.tolist() for part in rows), strict=True):
        if not count:
            continue
        new, gate = projected[first : first + count].to(memory.state.dtype).split([channels, out.shape[1]], -1)
        inputs = window(memory, slot, position, new)
        q, k, v = convolved(inputs, weights.taps.to(new.dtype), memory.heads)
        gates = gates_reference(ba[first : first + count].to(new.dtype), weights)
        value, memory.state[slot] = recurrence(q, k, v, gates, memory.state[slot])
        out[first : first + count] = gated_norm(value, gate, weights)[:, order].to(out.dtype)
        last = torch.arange(max(0, count - ring), count)
        places = ((position + last) % ring).to(out.device)
        memory.inputs[slot, places] = new[last].to(memory.inputs.dtype)
        memory.gates[slot, places] = gates[last].float()


def replay(taps: Tensor, way: Way, rows: Rows, memory: DeltaMemory) -> None:
    """The states of the rows' slots in all layers: those that `way` begins with, brought forward over `rows.count` kept
    positions, from `rows.positions` on. The same bits as if `delta_step` had gone there: it is the same arithmetic.
    taps [L, TAPS, C]; the memory is that of all layers, and its ring stays as it is.

    A row of no positions takes its source as it is. `rows.first` is not asked.
    """
    keys, values, size = memory.heads
    count, start = len(rows.count), way.states
    delta_step_kernel[(values, count * len(taps))](
        *(start,) * 5, taps, *(start,) * 3, *rows, way.sources, start, way.tails, way.table, memory.state, way.inputs,
        way.gates, start, count, way.table.shape[1], 0, 0, start.stride(0), way.tails.stride(0), memory.state.stride(0),
        way.inputs.stride(0), way.gates.stride(0), 0.0, 0.0, 1.0,
        KH=keys, VH=values, D=size, P=way.inputs.shape[2], H=0, HP=1, ONE=False, KEPT=True, PLANE=False,
        num_warps=WARPS, **launch.dependent(start, "replay"),
    )  # fmt: skip


def replay_reference(taps: Tensor, way: Way, rows: Rows, memory: DeltaMemory) -> None:
    size = way.inputs.shape[2]
    whole = zip(way.sources.tolist(), way.table.tolist(), *(part.tolist() for part in rows[1:]), strict=True)
    for source, table, count, slot, position in whole:
        at = range(position, position + count)
        pages, places = [table[p // size - position // size] for p in at], [p % size for p in at]
        for index, layer_taps in enumerate(taps):
            inputs = torch.cat((way.tails[index, source], way.inputs[index, pages, places]))
            q, k, v = convolved(inputs, layer_taps.float(), memory.heads)
            gates = way.gates[index, pages, places]
            _, memory.state[index, slot] = recurrence(q, k, v, gates, way.states[index, source])
