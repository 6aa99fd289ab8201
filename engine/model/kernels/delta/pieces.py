"""What all kernels of the layer share: the convolution's inputs, the gates and the gated norm, and their twins.

Inputs are rounded to fp16 before anything reads them, so that what is kept is what was read. Axis letters as in
`memory`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import silu, softplus

from engine.model.kernels.delta.memory import TAPS, DeltaMemory, DeltaWeights

L2_EPS: tl.constexpr = tl.constexpr(1e-6)
"""Of the norm of queries and keys; the model's own is not asked."""


@triton.jit
def kept_input(inputs, slot, position, channel, inside, C: tl.constexpr, P: tl.constexpr):
    """fp32: inputs of a position that lies in the ring, zero before the first."""
    place = (slot.to(tl.int64) * P + position % P) * C
    return tl.load(inputs + place + channel, mask=(position >= 0) & inside, other=0.0).to(tl.float32)


@triton.jit
def new_input(projected, at, inside):
    """fp32: inputs as they will be kept."""
    return tl.load(projected + at, mask=inside, other=0.0).to(tl.float16).to(tl.float32)


@triton.jit
def silu_of(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit
def gates_of(b, a, rate, bias):
    """The decay's logarithm, and beta, of what the layer projects and the head's A_log and dt_bias."""
    x = a + bias
    soft = tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0))))
    return -tl.exp(rate) * soft, 1.0 / (1.0 + tl.exp(-b))


@triton.jit
def gated(value, inverse, gain, gate):
    """Normed values times a gate; `inverse` is that of their root mean square."""
    return value * inverse * gain * silu_of(gate)


def window(memory: DeltaMemory, slot: int, position: int, new: Tensor) -> Tensor:
    """[TAPS - 1 + n, C]: the kept inputs before `position`, zero before the first, and the new ones, rounded alike."""
    ring = memory.inputs.shape[1]
    before = range(position - TAPS + 1, position)
    old = [memory.inputs[slot, at % ring] if at >= 0 else torch.zeros_like(memory.inputs[slot, 0]) for at in before]
    return torch.cat((torch.stack(old), new.to(memory.inputs.dtype)))


def convolved(window_: Tensor, taps: Tensor, heads: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys [n, VH, D] of length 1 (a key head for several of values), and values [n, VH, D]; in the taps'
    dtype."""
    keys, values, size = heads
    count = len(window_) - TAPS + 1
    mixed = silu(sum(window_[tap : tap + count].to(taps.dtype) * taps[tap] for tap in range(TAPS)))
    q, k, v = mixed.view(count, 2 * keys + values, size).split([keys, keys, values], 1)
    q, k = (
        (part * torch.rsqrt(part.square().sum(-1, keepdim=True) + L2_EPS.value)).repeat_interleave(values // keys, 1)
        for part in (q, k)
    )
    return q, k, v


def gates_reference(ba: Tensor, weights: DeltaWeights) -> Tensor:
    """[n, 2, VH]: the decay's logarithm, and beta, from [n, 2 VH]: b, then a."""
    b, a = ba.chunk(2, -1)
    return torch.stack((-weights.rate.exp() * softplus(a + weights.bias), b.sigmoid()), 1)


def recurrence(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's definition, a token after the other: outputs [n, VH, D] and the new state, in the state's dtype.
    q, k, v [n, VH, D], gates [n, 2, VH], state [VH, D, D]."""
    out = torch.empty_like(v)
    for token in range(len(v)):
        state = state * gates[token, 0].exp()[:, None, None]
        told = (state @ k[token].unsqueeze(-1)).squeeze(-1)
        change = (v[token] - told) * gates[token, 1].unsqueeze(-1)
        state = state + change.unsqueeze(-1) * k[token].unsqueeze(-2)
        out[token] = (state @ q[token].unsqueeze(-1)).squeeze(-1) * v.shape[-1] ** -0.5
    return out, state


def gated_norm(value: Tensor, gate: Tensor, weights: DeltaWeights) -> Tensor:
    """[n, VH D] of values [n, VH, D] and gates [n, VH D]."""
    normed = value * torch.rsqrt(value.square().mean(-1, keepdim=True) + weights.eps) * weights.gain.to(value.dtype)
    return normed.reshape(gate.shape) * silu(gate)
