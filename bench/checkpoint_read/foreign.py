"""Folders and files as other tools write them, with random codes at a model's shape, fast: for readers' speed.

Every tensor is a stretch of one pool of random bytes, so that a disk is what writing waits for. Scales are such that
weights have a model's size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from torch import Tensor

POOL = 256 << 20
FORMATS = ("fp8", "gptq-4", "q4_k")
CONFIGS: dict[str, dict[str, Any]] = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    "gptq-4": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True},
}
_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}  # fmt: skip


def write(folder: Path, name: str, shape: dict[str, Any], layers: int) -> list[Path]:
    """A model of so many layers of the config `shape`, a mixture of experts; its files with weights."""
    folder.mkdir(parents=True)
    shape = {**shape, "num_hidden_layers": layers}
    pool = torch.randint(0, 256, (POOL,), dtype=torch.uint8)
    if name not in CONFIGS:
        return [_gguf(folder / f"model-{name}.gguf", shape, pool)]
    config = {**shape, "quantization_config": CONFIGS[name]}
    (folder / "config.json").write_text(json.dumps(config))
    paths: list[Path] = []
    index: dict[str, str] = {}
    for number, tensors in enumerate(_shards(name, shape, pool)):
        paths.append(folder / f"model-{number + 1:05d}.safetensors")
        save_file(tensors, paths[-1], metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, paths[-1].name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return paths


def layers_in(name: str, shape: dict[str, Any], mib: int) -> int:
    """How many layers of the shape make a model of about `mib` MiB, at most those of the config."""
    bits = 8.0 if name == "fp8" else 4.5
    weights = sum(rows * columns for _, rows, columns in _linear(shape, 0))
    rest = 4 * shape["vocab_size"] * shape["hidden_size"]
    return int(min(shape["num_hidden_layers"], max(1, ((mib << 20) - rest) // (weights * bits / 8))))


def _linear(shape: dict[str, Any], layer: int) -> Iterator[tuple[str, int, int]]:
    """Modules of a layer that are quantised, with rows and columns."""
    hidden, inner, head = shape["hidden_size"], shape["moe_intermediate_size"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    at = f"model.layers.{layer}."
    for part, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield f"{at}self_attn.{part}_proj", rows, hidden
    yield f"{at}self_attn.o_proj", hidden, queries
    for expert in range(shape["num_experts"]):
        yield f"{at}mlp.experts.{expert}.gate_proj", inner, hidden
        yield f"{at}mlp.experts.{expert}.up_proj", inner, hidden
        yield f"{at}mlp.experts.{expert}.down_proj", hidden, inner


def _floats(shape: dict[str, Any], layer: int | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What stays in floats, of a layer or beside them."""
    hidden, head = shape["hidden_size"], shape["head_dim"]
    if layer is None:
        yield "model.embed_tokens.weight", (shape["vocab_size"], hidden)
        yield "lm_head.weight", (shape["vocab_size"], hidden)
        yield "model.norm.weight", (hidden,)
        return
    at = f"model.layers.{layer}."
    yield f"{at}mlp.gate.weight", (shape["num_experts"], hidden)
    for norm, size in (("input_layernorm", hidden), ("post_attention_layernorm", hidden)):
        yield f"{at}{norm}.weight", (size,)
    for part in "qk":
        yield f"{at}self_attn.{part}_norm.weight", (head,)


def _shards(name: str, shape: dict[str, Any], pool: Tensor) -> Iterator[dict[str, Tensor]]:
    """One file's tensors after the other: a layer each, and last what is beside them."""
    for layer in range(shape["num_hidden_layers"]):
        tensors = {key: torch.ones(size, dtype=torch.bfloat16) for key, size in _floats(shape, layer)}
        for module, rows, columns in _linear(shape, layer):
            tensors |= {f"{module}.{part}": tensor for part, tensor in _parts(name, pool, rows, columns).items()}
        yield {key: tensor.clone() for key, tensor in tensors.items()}
    yield {key: _bf16(pool, size) for key, size in _floats(shape, None)}


def _bf16(pool: Tensor, size: tuple[int, ...]) -> Tensor:
    """Numbers under 2 of any bits."""
    count = torch.Size(size).numel()
    words = (pool[: min(POOL, 2 * count)].view(torch.int16) & 0x3FFF).repeat(-(-2 * count // POOL))
    return words[:count].view(torch.bfloat16).view(size)


def _parts(name: str, pool: Tensor, rows: int, columns: int) -> dict[str, Tensor]:
    """A module's tensors, from a stretch of the pool."""
    at = int(torch.randint(0, (POOL - rows * columns) // 4096, ())) * 4096
    if name == "fp8":
        codes = (pool[at : at + rows * columns] & 0xBF).view(torch.float8_e4m3fn)  # the smaller half: no NaN
        return {
            "weight": codes.view(rows, columns),
            "weight_scale_inv": torch.full((rows // 128, columns // 128), 0.05),
        }
    groups = columns // 128
    return {
        "qweight": pool[at : at + rows * columns // 2].view(torch.int32).view(columns // 8, rows),
        "qzeros": torch.full((groups, rows // 8), 0x77777777, dtype=torch.int32),
        "scales": torch.full((groups, rows), 0.005, dtype=torch.float16),
        "g_idx": torch.arange(columns, dtype=torch.int32) // 128,
    }


def _gguf(path: Path, shape: dict[str, Any], pool: Tensor) -> Path:
    writer = GGUFWriter(path, "qwen3moe")
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_file_type(14)  # Q4_K_S
    writer.add_expert_count(shape["num_experts"])
    writer.add_expert_used_count(shape["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(shape["moe_intermediate_size"])
    kind = GGMLQuantizationType.Q4_K
    elements, nbytes = GGML_QUANT_SIZES[kind]
    blocks = pool[: POOL // nbytes * nbytes].numpy().reshape(-1, nbytes)
    blocks[:, :4] = np.array([1e-4, 1e-4], np.float16).view(np.uint8)  # what multiplies scales, and minima
    for name, size in _gguf_tensors(shape):
        if len(size) == 1 or name.endswith("gate_inp.weight"):
            writer.add_tensor(name, np.ones(size, np.float32))
        else:
            count = int(np.prod(size)) // elements
            writer.add_tensor(name, blocks[:count].reshape(*size[:-1], -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_tensors(shape: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, experts = shape["hidden_size"], shape["moe_intermediate_size"], shape["num_experts"]
    for layer in range(shape["num_hidden_layers"]):
        at = f"blk.{layer}."
        for norm, size in (("attn_norm", hidden), ("ffn_norm", hidden), ("attn_q_norm", shape["head_dim"]),
                           ("attn_k_norm", shape["head_dim"])):  # fmt: skip
            yield f"{at}{norm}.weight", (size,)
        for module, rows, columns in _linear({**shape, "num_experts": 0}, layer):
            yield f"{at}{_GGUF_NAMES[module.split('.', 3)[3]]}.weight", (rows, columns)
        yield f"{at}ffn_gate_inp.weight", (experts, hidden)
        for part in ("gate", "up"):
            yield f"{at}ffn_{part}_exps.weight", (experts, inner, hidden)
        yield f"{at}ffn_down_exps.weight", (experts, hidden, inner)
    yield "token_embd.weight", (shape["vocab_size"], hidden)
    yield "output.weight", (shape["vocab_size"], hidden)
    yield "output_norm.weight", (hidden,)
