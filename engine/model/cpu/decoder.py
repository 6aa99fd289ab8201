"""A decoder-only transformer over flattened tokens, in plain torch: Llama, Qwen2, Qwen3 and Qwen3-MoE.

One forward serves prefill chunks, single tokens and drafts of many rows at once; rows never see each other. It computes
what Hugging Face's modules compute (checked against them layer by layer in the tests) and has a KV cache, whose entries
are overwritten on rollback. Knows weights and positions. Knows nothing of sampling, grammars or requests.

Axis letters: T tokens of a step, H hidden size, N query heads, K key/value heads, D head size, S positions, V logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.model.cpu.cpu_cache import CpuCache, Span

SUPPORTED = ("llama", "qwen2", "qwen3", "qwen3_moe")


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of an architecture that the forward needs."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    eps: float
    rope_theta: float
    experts_per_token: int = 0
    norm_topk: bool = True
    tied: bool = False

    @classmethod
    def from_config(cls, config: Any) -> Shape:
        """From a Hugging Face config object. Raises KeyError/AttributeError for what is not such a model."""
        heads = config.num_attention_heads
        rope = getattr(config, "rope_parameters", None) or {}
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            vocab=config.vocab_size,
            eps=config.rms_norm_eps,
            rope_theta=float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0),
            experts_per_token=getattr(config, "num_experts_per_tok", 0) if getattr(config, "num_experts", 0) else 0,
            norm_topk=bool(getattr(config, "norm_topk_prob", True)),
            tied=bool(getattr(config, "tie_word_embeddings", False)),
        )

    def rope_angles(self, positions: int) -> Tensor:
        """The rotation of each pair of a head at each position, fp32 [S, D/2]."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        return torch.outer(torch.arange(positions, dtype=torch.float32), 1.0 / self.rope_theta**exponents)


def is_supported(config: Any) -> bool:
    """Whether this forward computes the config's model exactly: known type, plain RoPE, SiLU, no sliding window."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return (
        config.model_type in SUPPORTED
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "mlp_bias", False)
        and not getattr(config, "mlp_only_layers", None)
    )


@dataclass(slots=True)
class Layer:
    """One block's weights; q, k, v are stacked into one matrix and gate over up into another: one product each."""

    input_norm: Tensor
    qkv: Tensor  # [(N + 2K) * D, H]
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Tensor  # [H, N * D]
    post_norm: Tensor
    gate_up: Tensor  # dense [2I, H], experts [E, 2I, H]
    down: Tensor  # dense [H, I], experts [E, H, I]
    router: Tensor | None  # [E, H]


class Decoder:
    """Weights and KV cache of one model: places for `slots` rows of `positions`. Not thread-safe."""

    def __init__(
        self, shape: Shape, weights: Mapping[str, Tensor], *, slots: int, positions: int, dtype: torch.dtype
    ) -> None:
        self.shape = shape
        self.embedding = weights["model.embed_tokens.weight"].to(dtype)
        head = weights.get("lm_head.weight")
        self.head = self.embedding if head is None or shape.tied else head.to(dtype)
        self.norm = weights["model.norm.weight"].to(dtype)
        self.layers = [_layer(weights, f"model.layers.{i}.", dtype) for i in range(shape.layers)]
        self.vocab_size = self.head.shape[0]
        self._cache = CpuCache(
            shape.layers, shape.kv_heads, shape.head_dim, slots=slots, positions=positions, dtype=dtype
        )
        self.position_bytes = self._cache.position_bytes
        self._cos, self._sin = _rope_table(shape, positions, dtype)

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V] of the flattened token indices `wanted` [R] after feeding `tokens` [T]."""
        positions = torch.cat([torch.arange(s.position, s.position + s.stop - s.start) for s in spans])
        cos, sin = self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)  # [T, 1, D]
        hidden = F.embedding(tokens, self.embedding)
        for index, layer in enumerate(self.layers):
            hidden = hidden + self._attention(index, layer, hidden, cos, sin, spans)
            normed = F.rms_norm(hidden, hidden.shape[-1:], layer.post_norm, self.shape.eps)
            hidden = hidden + (self._experts(layer, normed) if layer.router is not None else _mlp(layer, normed))
        final = F.rms_norm(hidden[wanted], hidden.shape[-1:], self.norm, self.shape.eps)
        return F.linear(final, self.head).float()

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the entries of `count` places, from `source` on, to those from `target` on."""
        self._cache.copy(source, target, count)

    def save(self, slot: int, length: int) -> None:
        """Nothing: places are shared by whoever names them."""

    def load(self, slot: int, saved: Any, length: int) -> None:
        """Nothing."""

    def _attention(
        self, index: int, layer: Layer, hidden: Tensor, cos: Tensor, sin: Tensor, spans: Sequence[Span]
    ) -> Tensor:
        shape = self.shape
        normed = F.rms_norm(hidden, hidden.shape[-1:], layer.input_norm, shape.eps)
        heads = F.linear(normed, layer.qkv, layer.qkv_bias).view(-1, shape.heads + 2 * shape.kv_heads, shape.head_dim)
        q, k, v = heads.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)  # [T, heads, D]
        if layer.q_norm is not None and layer.k_norm is not None:
            q = F.rms_norm(q, q.shape[-1:], layer.q_norm, shape.eps)
            k = F.rms_norm(k, k.shape[-1:], layer.k_norm, shape.eps)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        mixed = torch.empty_like(q)
        for span in spans:
            rows = slice(span.start, span.stop)
            mixed[rows] = self._cache.attend(index, span, q[rows], k[rows], v[rows])
        return F.linear(mixed.flatten(1), layer.output)

    def _experts(self, layer: Layer, hidden: Tensor) -> Tensor:
        """Softmax over all experts, the best k, weights renormalised when the model says so; one expert at a time."""
        assert layer.router is not None
        scores = F.softmax(F.linear(hidden, layer.router).float(), dim=-1)
        weights, chosen = scores.topk(self.shape.experts_per_token, dim=-1)
        if self.shape.norm_topk:
            weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros_like(hidden)
        for expert in chosen.unique().tolist():
            token, rank = (chosen == expert).nonzero(as_tuple=True)
            gate, up = F.linear(hidden[token], layer.gate_up[expert]).chunk(2, dim=-1)
            result = F.linear(F.silu(gate) * up, layer.down[expert])
            out.index_add_(0, token, result * weights[token, rank, None].to(result.dtype))
        return out


def _mlp(layer: Layer, hidden: Tensor) -> Tensor:
    gate, up = F.linear(hidden, layer.gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, layer.down)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) in the half-split form of Llama."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def _rope_table(shape: Shape, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    angles = shape.rope_angles(positions)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _layer(weights: Mapping[str, Tensor], prefix: str, dtype: torch.dtype) -> Layer:
    def get(name: str) -> Tensor:
        return weights[prefix + name].to(dtype)

    def optional(name: str) -> Tensor | None:
        return get(name) if prefix + name in weights else None

    def stacked(*names: str) -> Tensor:
        return torch.cat([get(name) for name in names]).contiguous()

    biases = [f"self_attn.{p}_proj.bias" for p in "qkv"]
    sparse = f"{prefix}mlp.gate.weight" in weights
    return Layer(
        input_norm=get("input_layernorm.weight"),
        qkv=stacked(*(f"self_attn.{p}_proj.weight" for p in "qkv")),
        qkv_bias=stacked(*biases) if prefix + biases[0] in weights else None,
        q_norm=optional("self_attn.q_norm.weight"),
        k_norm=optional("self_attn.k_norm.weight"),
        output=get("self_attn.o_proj.weight"),
        post_norm=get("post_attention_layernorm.weight"),
        gate_up=get("mlp.experts.gate_up_proj") if sparse else stacked("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        down=get("mlp.experts.down_proj") if sparse else get("mlp.down_proj.weight"),
        router=optional("mlp.gate.weight"),
    )
