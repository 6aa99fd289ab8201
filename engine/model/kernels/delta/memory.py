"""What a gated DeltaNet layer keeps: a state of fixed size a slot, and of the last positions what its update read.

The inputs of the short convolution and the gates lie in a ring of R positions, position p at p % R: the convolution
reads its last three there, and a rollback finds there, or in pages that copy it, what brings an older state forward
again (`replay`). A step writes other places than it reads, so no block waits for another. The state is held with a
value's row of keys contiguous. Axis letters: T tokens, R rows of a step, S slots, P positions of a ring, KH and VH
heads of keys and of values, D head size, C = (2 KH + VH) D channels of the convolution in the order q, k, v.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TAPS = 4
"""What the short convolution sums: a position and the three before it."""


class Rows(NamedTuple):
    """Rows of a step: consecutive tokens each. int32 [R] each; count 0 is idle."""

    first: Tensor
    """Where its tokens begin among the step's."""
    count: Tensor
    slots: Tensor
    positions: Tensor
    """Of its first token."""


class Kept(NamedTuple):
    """Where rows of many tokens leave a state that they pass: that before their last chunk."""

    states: Tensor
    """fp32 [.., VH, D, D], of one layer."""
    places: Tensor
    """int32 [R]; -1: nowhere."""


class Rates(NamedTuple):
    """What b and a are made of: the residual x fp32 [T, H], normed, times a weight [2 VH, H]."""

    x: Tensor
    gain: Tensor
    """[H]."""
    weight: Tensor
    eps: float

    def made(self) -> Tensor:
        """fp32 [T, 2 VH]: the specification."""
        value = self.x * torch.rsqrt(self.x.square().mean(-1, keepdim=True) + self.eps) * self.gain.float()
        return value @ self.weight.float().t()


class Way(NamedTuple):
    """From which kept states rows are brought forward, and over what, in pages of P positions."""

    states: Tensor
    """fp32 [L, .., VH, D, D]."""
    tails: Tensor
    """fp16 [L, .., TAPS - 1, C]: the inputs before each."""
    sources: Tensor
    """int32 [R]: which of them."""
    inputs: Tensor
    """fp16 [L, N, P, C]: position p of a page at p % P."""
    gates: Tensor
    """fp32 [L, N, P, 2, VH]."""
    table: Tensor
    """int32 [R, K]: a row's pages, from that of its first position on."""


class DeltaWeights(NamedTuple):
    taps: Tensor
    """[TAPS, C]: the convolution, oldest position first."""
    rate: Tensor
    """fp32 [VH]: A_log."""
    bias: Tensor
    """fp32 [VH]: dt_bias."""
    gain: Tensor
    """[D], of the gated norm."""
    eps: float


class DeltaMemory(NamedTuple):
    """Of one layer; with one more axis in front, of all."""

    state: Tensor
    """fp32 [S, VH, D, D]: value, key."""
    inputs: Tensor
    """fp16 [S, P, C]."""
    gates: Tensor
    """fp32 [S, P, 2, VH]: the decay's logarithm, and beta."""

    def layer(self, index: int) -> DeltaMemory:
        return DeltaMemory(*(part[index] for part in self))

    @property
    def heads(self) -> tuple[int, int, int]:
        """KH, VH, D."""
        values, size = self.state.shape[-3], self.state.shape[-1]
        return (self.inputs.shape[-1] // size - values) // 2, values, size


def make_memory(
    layers: int, slots: int, ring: int, heads: tuple[int, int, int], device: torch.device,
    dtype: torch.dtype = torch.float16,
) -> DeltaMemory:  # fmt: skip
    """Empty memory of all layers; `heads` as `DeltaMemory.heads`, `dtype` of the inputs."""
    keys, values, size = heads
    assert ring > TAPS, "a step's own token and the three before it need places of their own"
    return DeltaMemory(
        torch.zeros(layers, slots, values, size, size, device=device),
        torch.zeros(layers, slots, ring, (2 * keys + values) * size, device=device, dtype=dtype),
        torch.zeros(layers, slots, ring, 2, values, device=device),
    )
