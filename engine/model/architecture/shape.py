"""An architecture as data: a list of blocks, each a token mixer and a channel mixer with their numbers.

What runs a model reads this, and not the model's type. Imports no model of transformers, and no torch but for angles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SUPPORTED = ("llama", "qwen2", "qwen3", "qwen3_moe")


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention over keys and values of all positions."""

    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class Dense:
    """One gated MLP."""


@dataclass(frozen=True, slots=True)
class Experts:
    """Many gated MLPs, of which a router chooses a few for each token."""

    chosen: int
    renormalised: bool
    """Whether the weights of those chosen are made to add up to 1."""


@dataclass(frozen=True, slots=True)
class Block:
    """One layer."""

    mixer: Attention
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

    @classmethod
    def from_config(cls, config: Any) -> Shape:
        """From a Hugging Face config object. Raises KeyError/AttributeError for what is not such a model."""
        rope = getattr(config, "rope_parameters", None) or {}
        return cls(
            blocks=tuple(Block(_attention(config), _channels(config, i)) for i in range(config.num_hidden_layers)),
            hidden=config.hidden_size,
            vocab=config.vocab_size,
            eps=config.rms_norm_eps,
            rope_theta=float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0),
            tied=bool(getattr(config, "tie_word_embeddings", False)),
        )

    @property
    def layers(self) -> int:
        return len(self.blocks)

    @property
    def attention(self) -> Attention:
        """That of every block which has any: they are alike."""
        return self.blocks[0].mixer

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
    def norm_topk(self) -> bool:
        return self.experts is None or self.experts.renormalised

    def rope_angles(self, positions: int) -> Tensor:
        """The rotation of each pair of a head at each position, fp32 [S, D/2]."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
        return torch.outer(torch.arange(positions, dtype=torch.float32), 1.0 / self.rope_theta**exponents)


def is_supported(config: Any) -> bool:
    """Whether our forward computes the config's model exactly: known type, plain RoPE, SiLU, no sliding window."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return (
        config.model_type in SUPPORTED
        and rope.get("rope_type", "default") == "default"
        and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "mlp_bias", False)
        and not getattr(config, "mlp_only_layers", None)
    )


def _attention(config: Any) -> Attention:
    heads = config.num_attention_heads
    return Attention(
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


def _channels(config: Any, layer: int) -> Dense | Experts:
    if not getattr(config, "num_experts", 0) or (layer + 1) % (getattr(config, "decoder_sparse_step", None) or 1):
        return Dense()
    return Experts(config.num_experts_per_tok, bool(getattr(config, "norm_topk_prob", True)))
