"""Small models of gated DeltaNet and gated attention, and their folders as their makers have them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from tests.modal.deployed.models import SPECIAL, write_shape

NAMES = ("qwen3_next", "qwen3_5_moe")
VOCAB = 256 + len(SPECIAL)
TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 24,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "eos_token_id": VOCAB - 1,
}
SUITED: dict[str, Any] = {
    "hidden_size": 64,
    "head_dim": 32,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_num_value_heads": 4,
}
"""The same in sizes that the GPU's kernels take."""
ROTARY = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16}


@cache
def _made(name: str, **changed: Any) -> PreTrainedModel:
    torch.manual_seed(5)
    text = {**TEXT, **changed}
    if name == "qwen3_next":
        model: PreTrainedModel = Qwen3NextForCausalLM(Qwen3NextConfig(**text))
    else:
        seen = {**VISION, "out_hidden_size": text["hidden_size"]}
        text["rope_parameters"] = ROTARY
        model = Qwen3_5MoeForConditionalGeneration(Qwen3_5MoeConfig(text_config=text, vision_config=seen))
    for parameter in model.parameters():  # so that tokens vary, and a norm that is read wrongly shows
        parameter.data = parameter * 4 if parameter.ndim > 1 else parameter + torch.randn(parameter.shape) / 5
    return model


def save(name: str, folder: Path, **changed: Any) -> Path:
    """As transformers saves it, with a tokenizer, and weights of multi-token prediction beside it; `changed` of its
    configuration."""
    folder.mkdir(exist_ok=True)
    write_shape(folder)
    _made(name, **changed).save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file({**load_file(file), "mtp.layers.0.mlp.gate.weight": torch.ones(8, 48)}, file, metadata={"format": "pt"})
    return folder


def load(folder: Path) -> PreTrainedModel:
    """The text part, through transformers' own loading code."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval().requires_grad_(False)
