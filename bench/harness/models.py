"""The model a bench runs: the one its options name, or a tiny one with random weights and the embedded tokenizer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from engine import EngineConfig

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 49152,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu", "eos_token_id": 2,
    "tie_word_embeddings": False,
}  # fmt: skip
TINY_EXPERTS = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 64, "intermediate_size": 128, "vocab_size": 512, "hidden_act": "silu",
    "norm_topk_prob": True, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 512,
    "tie_word_embeddings": False, "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip
"""The smallest shape of the product's architecture that its kernels take."""
PRODUCT_CONFIG = Path("../shared/data/qwen3_coder_30b_a3b_config.json")
"""Where the shape of the product's model lies if nothing else is named; it is not in the repository."""


@contextmanager
def chosen_config(options: argparse.Namespace, tiny: dict[str, Any], **settings: Any) -> Iterator[EngineConfig]:
    """With `--quick`, or without a model, the tiny model and its settings `tiny`; else the options' and `settings`."""
    with TemporaryDirectory() as folder:
        if options.quick or not options.model:
            yield tiny_config(Path(folder), **tiny)
        else:
            named = ("model", "revision", "tokenizer", "quantization", "device")
            told = {name: getattr(options, name) for name in named if hasattr(options, name)}
            yield EngineConfig(**told, **settings)


def model_name(options: argparse.Namespace) -> str:
    """The chosen model as a record names it."""
    return "tiny random llama" if options.quick or not options.model else options.model


@contextmanager
def shape_file(options: argparse.Namespace) -> Iterator[Path]:
    """The configuration that the options name, or with `--quick` that of the tiny mixture of experts."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_text(json.dumps(TINY_EXPERTS))
        yield file if options.quick else options.config


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
