"""A tiny model with random weights and the embedded tokenizer: everything but the model is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import EngineConfig

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def tiny_config(folder: Path, **settings: Any) -> EngineConfig:
    """Settings for the tiny model, whose config lies in `folder`; one thread, as its products are too small for two."""
    config = folder / "config.json"
    config.write_text(json.dumps(TINY))
    common = {"max_sequence": TINY["max_position_embeddings"], "threads": 1}
    return EngineConfig(model=f"random:{config}", tokenizer=embedded_tokenizer(), **{**common, **settings})


def embedded_tokenizer() -> str:
    """Folder with the tokenizer of the embedded model, converted on first use."""
    from engine.model.files.converted import converted_gguf
    from engine.model.files.source import embedded_gguf

    return str(converted_gguf(embedded_gguf(), EngineConfig().cache_dir))
