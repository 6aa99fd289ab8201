"""A model small enough for a container that starts in seconds: a random Qwen3-MoE over bytes, a checkpoint on a Volume.

Its answers are noise that obeys the schema; what a container does with them is what it does with any model's.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": 256 + len(SPECIAL),
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "eos_token_id": 258,
}


def write_tiny(folder: Path) -> None:
    """Make an engine checkpoint. What gives its weights takes seconds to import, which who reads them does without."""
    from engine.model.checkpoint.checkpoint import save_checkpoint
    from engine.model.files.settings import read_config
    from engine.model.hf.random_weights import random_weights

    with tempfile.TemporaryDirectory() as name:
        source = Path(name)
        settings = read_config(write_shape(source))
        loaded = random_weights(settings, "bf16", "cpu", seed=0)
        extras = {file.name: file for file in source.iterdir()}
        save_checkpoint(folder, loaded.tensors, loaded.manifest, extras=extras)


def write_shape(folder: Path) -> Path:
    """Shape, tokenizer and chat template in `folder`, as `random:FOLDER/config.json` reads it. The config's path."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder / "config.json"
