"""Weights of the plain decoder's blocks, stacked for one product each, and the parts that need no cache.

Axis letters: T tokens of a step, H hidden size, N query heads, K key/value heads, D head size, I inner size, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.model.architecture.shape import Block, Dense, Experts


@dataclass(slots=True)
class AttentionWeights:
    """q, k, v stacked into one matrix."""

    qkv: Tensor  # [(N + 2K) * D, H]
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Tensor  # [H, N * D]


@dataclass(slots=True)
class ChannelWeights:
    """Gate over up in one matrix; of experts, those of all."""

    gate_up: Tensor  # dense [2I, H], experts [E, 2I, H]
    down: Tensor  # dense [H, I], experts [E, H, I]
    router: Tensor | None  # [E, H]


@dataclass(slots=True)
class Layer:
    """One block's weights."""

    input_norm: Tensor
    mixer: AttentionWeights
    post_norm: Tensor
    channels: ChannelWeights


class LayerReader:
    """The weights of layer `index`, by transformers' names, in `dtype`."""

    def __init__(self, weights: Mapping[str, Tensor], index: int, dtype: torch.dtype) -> None:
        self._weights, self._prefix, self._dtype = weights, f"model.layers.{index}.", dtype

    def layer(self, block: Block) -> Layer:
        return Layer(
            self._get("input_layernorm.weight"),
            self._attention(),
            self._get("post_attention_layernorm.weight"),
            self._experts() if isinstance(block.channels, Experts) else self._dense("mlp."),
        )

    def _attention(self) -> AttentionWeights:
        biases = [f"self_attn.{p}_proj.bias" for p in "qkv"]
        return AttentionWeights(
            qkv=self._stacked(*(f"self_attn.{p}_proj.weight" for p in "qkv")),
            qkv_bias=self._stacked(*biases) if self._has(biases[0]) else None,
            q_norm=self._get("self_attn.q_norm.weight") if self._has("self_attn.q_norm.weight") else None,
            k_norm=self._get("self_attn.k_norm.weight") if self._has("self_attn.k_norm.weight") else None,
            output=self._get("self_attn.o_proj.weight"),
        )

    def _dense(self, at: str) -> ChannelWeights:
        gate_up = self._stacked(f"{at}gate_proj.weight", f"{at}up_proj.weight")
        return ChannelWeights(gate_up, self._get(f"{at}down_proj.weight"), None)

    def _experts(self) -> ChannelWeights:
        return ChannelWeights(
            self._get("mlp.experts.gate_up_proj"), self._get("mlp.experts.down_proj"), self._get("mlp.gate.weight")
        )

    def _has(self, name: str) -> bool:
        return self._prefix + name in self._weights

    def _get(self, name: str) -> Tensor:
        return self._weights[self._prefix + name].to(self._dtype)

    def _stacked(self, *names: str) -> Tensor:
        return torch.cat([self._get(name) for name in names]).contiguous()


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
    return out
