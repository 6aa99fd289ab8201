"""An architecture as data: a list of blocks, each a token mixer and a channel mixer with their numbers.

What runs a model reads this, and not the model's type. Imports no model of transformers, and no torch but for angles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RECURRENT = ("qwen3_next", "qwen3_5_moe_text")
"""Types whose layers are gated DeltaNet and gated attention, their norms zero-centred."""
SUPPORTED = ("llama", "qwen2", "qwen3", "qwen3_moe", *RECURRENT)


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention over keys and values of all positions."""

    heads: int
    kv_heads: int
    head_dim: int
    rotary: int
    """Numbers of a head that are rotated, the first ones."""
    gated: bool = False
    """Whether each query head comes with a gate, whose sigmoid multiplies what the head reads."""


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """Gated delta rule behind a short convolution: a state of fixed size instead of keys and values."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of queries, keys and values, all heads together."""
        keys = self.key_heads * self.key_dim
        return keys, keys, self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class Dense:
    """One gated MLP."""


@dataclass(frozen=True, slots=True)
class Experts:
    """Many gated MLPs, of which a router chooses a few for each token."""

    chosen: int
    renormalised: bool
    """Whether the weights of those chosen are made to add up to 1."""
    shared: bool = False
    """Whether another one serves every token, times the sigmoid of a gate."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer."""

    mixer: Attention | DeltaNet
    channels: Dense | Experts


@dataclass(frozen=True, slots=True)
class Shape:
    """The blocks of a model, and the numbers around them."""

    blocks: tuple[Block, ...]
    hidden: int
    vocab: int
    eps: float
    rope_theta: float
    tied: bool = False
    zero_centred: bool = False
    """Whether norms multiply by 1 + weight."""

    @classmethod
    def from_config(cls, config: Any) -> Shape:
        """From a Hugging Face config object. Raises KeyError/AttributeError for what is not such a model."""
        rope = getattr(config, "rope_parameters", None) or {}
        return cls(
            blocks=tuple(Block(_mixer(config, i), _channels(config, i)) for i in range(config.num_hidden_layers)),
            hidden=config.hidden_size,
            vocab=config.vocab_size,
            eps=config.rms_norm_eps,
            rope_theta=float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0),
            tied=bool(getattr(config, "tie_word_embeddings", False)),
            zero_centred=_recurrent(config),
        )

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @property
    def attention(self) -> Attention:
        """That of every block which has any: they are alike."""
        return next(block.mixer for block in self.blocks if isinstance(block.mixer, Attention))

    @property
    def delta_net(self) -> DeltaNet | None:
        """That of every block which has any: they are alike."""
        return next((block.mixer for block in self.blocks if isinstance(block.mixer, DeltaNet)), None)

    @property
    def places(self) -> tuple[int, ...]:
        """Of each block, how many before it have a mixer of its kind: its place in the cache of that kind."""
        kinds = [type(block.mixer) for block in self.blocks]
        return tuple(kinds[:index].count(kind) for index, kind in enumerate(kinds))

    @property
    def caching(self) -> int:
        """How many blocks have keys and values."""
        return sum(isinstance(block.mixer, Attention) for block in self.blocks)

    @property
    def heads(self) -> int:
        return self.attention.heads

    @property
    def kv_heads(self) -> int:
        return self.attention.kv_heads

    @property
    def head_dim(self) -> int:
        return self.attention.head_dim

    @property
    def experts(self) -> Experts | None:
        """Those of every block which has any: they are alike."""
        return next((block.channels for block in self.blocks if isinstance(block.channels, Experts)), None)

    @property
    def experts_per_token(self) -> int:
        return 0 if self.experts is None else self.experts.chosen

    @property
    def shared(self) -> bool:
        """Whether there is an expert that every token visits."""
        return self.experts is not None and self.experts.shared

    @property
    def norm_topk(self) -> bool:
        return self.experts is None or self.experts.renormalised

    def rope_angles(self, positions: int) -> Tensor:
        """The rotation of each pair of a head at each position, fp32 [S, R/2] for the R numbers that are rotated."""
        rotary = self.attention.rotary
        exponents = torch.arange(0, rotary, 2, dtype=torch.float32) / rotary
        return torch.outer(torch.arange(positions, dtype=torch.float32), 1.0 / self.rope_theta**exponents)


def is_supported(config: Any) -> bool:
    """Whether our forward computes the config's model exactly: known type, plain RoPE, SiLU, no sliding window, no bias
    but Qwen2's of queries, keys and values."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return (
        config.model_type in SUPPORTED
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "mlp_bias", False)
        and (config.model_type == "qwen2" or not getattr(config, "attention_bias", False))
        and not getattr(config, "mlp_only_layers", None)
    )


def _recurrent(config: Any) -> bool:
    return getattr(config, "model_type", "") in RECURRENT


def _mixer(config: Any, layer: int) -> Attention | DeltaNet:
    heads, recurrent = config.num_attention_heads, _recurrent(config)
    if recurrent and config.layer_types[layer] == "linear_attention":
        return DeltaNet(
            key_heads=config.linear_num_key_heads,
            value_heads=config.linear_num_value_heads,
            key_dim=config.linear_key_head_dim,
            value_dim=config.linear_value_head_dim,
        )
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rotary = int(head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0)) if recurrent else head_dim
    return Attention(heads, getattr(config, "num_key_value_heads", None) or heads, head_dim, rotary, gated=recurrent)


def _channels(config: Any, layer: int) -> Dense | Experts:
    if not getattr(config, "num_experts", 0) or (layer + 1) % (getattr(config, "decoder_sparse_step", None) or 1):
        return Dense()
    renormalised = bool(getattr(config, "norm_topk_prob", True))
    return Experts(config.num_experts_per_tok, renormalised, shared=_recurrent(config))
