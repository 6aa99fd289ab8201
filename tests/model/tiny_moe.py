"""A Qwen3-MoE small enough to quantise in every format in a second, with sizes that make experts and heads differ."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

FORMATS = ("int8", "nf4", "nf4-dq", "fp4", "int4", "nl4")


def config(**changes: object) -> Qwen3MoeConfig:
    """4 layers, 8 experts, hidden 64; a moe_intermediate_size of 96 leaves a block of 64 half padded."""
    settings: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "moe_intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "vocab_size": 512,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    return Qwen3MoeConfig(**{**settings, **changes})


@cache
def model(**changes: object) -> Qwen3MoeForCausalLM:
    """The float model; callers must not change it."""
    torch.manual_seed(7)
    return Qwen3MoeForCausalLM(config(**changes)).eval().requires_grad_(False)


def save(folder: Path, **changes: object) -> Path:
    """As transformers saves it: several shards, every expert a tensor of its own."""
    model(**changes).save_pretrained(folder, max_shard_size="500KB")
    return folder


def load(folder: Path) -> Qwen3MoeForCausalLM:
    """Through transformers' real loading code."""
    loaded = Qwen3MoeForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded.requires_grad_(False)
