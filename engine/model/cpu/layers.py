"""Weights of the plain decoder's blocks, stacked for one product each, and the parts that need no cache.

Axis letters: T tokens of a step, H hidden size, N query heads, K key/value heads, D head size, I inner size, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.model.architecture.row_order import queries_and_gates, unfused
from engine.model.architecture.shape import Attention, DeltaNet, Dense, Experts, Shape


@dataclass(slots=True)
class AttentionWeights:
    """q, k, v stacked into one matrix, behind each other; where attention is gated, the gates' rows behind them."""

    qkv: Tensor  # [(N + 2K) * D, H], gated [(2N + 2K) * D, H]
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Tensor  # [H, N * D]


@dataclass(slots=True)
class DeltaWeights:
    """What tokens feed, in one matrix: the convolution's inputs (queries, keys, values), gates z, then b and a."""

    inputs: Tensor  # [C + N * V + 2N, H]
    taps: Tensor  # of the convolution [C, P]
    decay: Tensor  # fp32 [N], the logarithm's factor
    bias: Tensor  # fp32 [N]
    norm: Tensor  # fp32 [V]
    output: Tensor  # [H, N * V]


@dataclass(slots=True)
class ChannelWeights:
    """Gate over up in one matrix; of experts, those of all."""

    gate_up: Tensor  # dense [2I, H], experts [E, 2I, H]
    down: Tensor  # dense [H, I], experts [E, H, I]
    router: Tensor | None = None  # [E, H]
    shared: ChannelWeights | None = None
    shared_gate: Tensor | None = None  # [1, H]


@dataclass(slots=True)
class Layer:
    """One block's weights."""

    input_norm: Tensor
    mixer: AttentionWeights | DeltaWeights
    post_norm: Tensor
    channels: ChannelWeights


class LayerReader:
    """The weights of layer `index`, by transformers' names, in `dtype`; zero-centred norms in fp32, with their 1."""

    def __init__(self, shape: Shape, weights: Mapping[str, Tensor], index: int, dtype: torch.dtype) -> None:
        self._zero_centred, self._block = shape.zero_centred, shape.blocks[index]
        self._weights, self._prefix, self._dtype = weights, f"model.layers.{index}.", dtype

    def layer(self) -> Layer:
        mixer, channels = self._block.mixer, self._block.channels
        return Layer(
            self._norm("input_layernorm.weight"),
            self._delta_net(mixer) if isinstance(mixer, DeltaNet) else self._attention(mixer),
            self._norm("post_attention_layernorm.weight"),
            self._experts(channels) if isinstance(channels, Experts) else self._dense("mlp."),
        )

    def _attention(self, kind: Attention) -> AttentionWeights:
        biases = [f"self_attn.{p}_proj.bias" for p in "qkv"]
        normed = self._has("self_attn.q_norm.weight")
        return AttentionWeights(
            qkv=self._gated(kind) if kind.gated else self._stacked(*(f"self_attn.{p}_proj.weight" for p in "qkv")),
            qkv_bias=self._stacked(*biases) if self._has(biases[0]) else None,
            q_norm=self._norm("self_attn.q_norm.weight") if normed else None,
            k_norm=self._norm("self_attn.k_norm.weight") if normed else None,
            output=self._get("self_attn.o_proj.weight"),
        )

    def _gated(self, kind: Attention) -> Tensor:
        """q, k, v and gates."""
        q, k, v = (self._get(f"self_attn.{p}_proj.weight") for p in "qkv")
        queries, gates = queries_and_gates(kind)
        return torch.cat((q[queries], k, v, q[gates]))

    def _delta_net(self, kind: DeltaNet) -> DeltaWeights:
        fused = self._has("linear_attn.in_proj_qkvz.weight")
        parts = ("qkv", "z", "b", "a")
        return DeltaWeights(
            inputs=self._unfused(kind) if fused else self._stacked(*(f"linear_attn.in_proj_{p}.weight" for p in parts)),
            taps=self._get("linear_attn.conv1d.weight").squeeze(1),
            decay=-self._weights[f"{self._prefix}linear_attn.A_log"].float().exp(),
            bias=self._weights[f"{self._prefix}linear_attn.dt_bias"].float(),
            norm=self._weights[f"{self._prefix}linear_attn.norm.weight"].float(),
            output=self._get("linear_attn.out_proj.weight"),
        )

    def _unfused(self, kind: DeltaNet) -> Tensor:
        """The rows of in_proj_qkvz and in_proj_ba, part by part."""
        orders = zip(("qkvz", "ba"), unfused(kind), strict=True)
        return torch.cat([self._get(f"linear_attn.in_proj_{part}.weight")[order] for part, order in orders])

    def _dense(self, at: str) -> ChannelWeights:
        gate_up = self._stacked(f"{at}gate_proj.weight", f"{at}up_proj.weight")
        return ChannelWeights(gate_up, self._get(f"{at}down_proj.weight"))

    def _experts(self, kind: Experts) -> ChannelWeights:
        return ChannelWeights(
            self._get("mlp.experts.gate_up_proj"),
            self._get("mlp.experts.down_proj"),
            self._get("mlp.gate.weight"),
            self._dense("mlp.shared_expert.") if kind.shared else None,
            self._get("mlp.shared_expert_gate.weight") if kind.shared else None,
        )

    def _has(self, name: str) -> bool:
        return self._prefix + name in self._weights

    def _get(self, name: str) -> Tensor:
        return self._weights[self._prefix + name].to(self._dtype)

    def _stacked(self, *names: str) -> Tensor:
        return torch.cat([self._get(name) for name in names]).contiguous()

    def _norm(self, name: str) -> Tensor:
        return gain(self._weights[self._prefix + name], self._dtype, zero_centred=self._zero_centred)


def gain(weight: Tensor, dtype: torch.dtype, *, zero_centred: bool) -> Tensor:
    """What a norm multiplies by."""
    return 1.0 + weight.float() if zero_centred else weight.to(dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """In the weight's precision, over the last axis."""
    return F.rms_norm(x.to(weight.dtype), x.shape[-1:], weight, eps).to(x.dtype)


def mix_channels(kind: Dense | Experts, weights: ChannelWeights, hidden: Tensor) -> Tensor:
    """Normed hidden states [T, H] through a block's channel mixer."""
    return _mix_experts(kind, weights, hidden) if isinstance(kind, Experts) else _mix_dense(weights, hidden)


def _mix_dense(weights: ChannelWeights, hidden: Tensor) -> Tensor:
    gate, up = F.linear(hidden, weights.gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, weights.down)


def _mix_experts(kind: Experts, weights: ChannelWeights, hidden: Tensor) -> Tensor:
    """Softmax over all experts, the best k, weights renormalised when the model says so; one expert at a time."""
    assert weights.router is not None
    scores = F.softmax(F.linear(hidden, weights.router).float(), dim=-1)
    shares, chosen = scores.topk(kind.chosen, dim=-1)
    if kind.renormalised:
        shares = shares / shares.sum(-1, keepdim=True)
    out = torch.zeros_like(hidden)
    for expert in chosen.unique().tolist():
        token, rank = (chosen == expert).nonzero(as_tuple=True)
        gate, up = F.linear(hidden[token], weights.gate_up[expert]).chunk(2, dim=-1)
        result = F.linear(F.silu(gate) * up, weights.down[expert])
        out.index_add_(0, token, result * shares[token, rank, None].to(result.dtype))
    if weights.shared is not None and weights.shared_gate is not None:
        out = out + F.linear(hidden, weights.shared_gate).sigmoid() * _mix_dense(weights.shared, hidden)
    return out
