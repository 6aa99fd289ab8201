"""Folders and files as other tools write them, with random codes at a model's shape, fast: for readers' speed.

Every tensor is a stretch of one pool of random bytes, so that a disk is what writing waits for. Scales are such that
weights have a model's size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from torch import Tensor

from bench.checkpoint_read.readers import forget

POOL = 256 << 20
FORMATS = {
    "fp8": 8.0, "gptq-4": 4.16, "q4_k": 4.5, "gptq-8": 8.19, "awq-4": 4.16, "ct-4": 4.13, "ct-8": 8.13, "nvfp4": 4.5,
    "mxfp4": 4.25, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5.0, "q5_k": 5.5, "q6_k": 6.56,
}  # fmt: skip
"""What is written, and about how many bits a weight it takes."""


def _compressed(layout: str, **weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups, "ignore": ["lm_head"]}


def _gptq(bits: int) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": 128, "desc_act": False, "sym": True}


CONFIGS: dict[str, dict[str, Any]] = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"},
    "gptq-4": _gptq(4),
    "gptq-8": _gptq(8),
    "awq-4": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True},
    "ct-4": _compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=128),
    "ct-8": _compressed("pack-quantized", num_bits=8, type="int", strategy="group", group_size=128),
    "nvfp4": _compressed("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16),
    "mxfp4": _compressed("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32),
}
_HALVES = {"q8_0": (0,), "q4_0": (0,), "q4_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}
"""Where a block of a GGUF file has fp16 numbers."""
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
        return [_gguf(folder / f"model-{name}.gguf", name, shape, pool)]
    config = {**shape, "quantization_config": CONFIGS[name]}
    (folder / "config.json").write_text(json.dumps(config))
    paths: list[Path] = []
    index: dict[str, str] = {}
    with ThreadPoolExecutor(1) as syncing:  # the disk writes one while the next is made
        for number, tensors in enumerate(_shards(name, shape, pool)):
            paths.append(folder / f"model-{number + 1:05d}.safetensors")
            save_file(tensors, paths[-1], metadata={"format": "pt"})
            syncing.submit(forget, paths[-1:])
            index |= dict.fromkeys(tensors, paths[-1].name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return paths


def layers_in(name: str, shape: dict[str, Any], mib: int) -> int:
    """How many layers of the shape make a model of about `mib` MiB, at most those of the config."""
    weights = sum(rows * columns for _, rows, columns in _linear(shape, 0))
    rest = 4 * shape["vocab_size"] * shape["hidden_size"]
    return int(min(shape["num_hidden_layers"], max(1, ((mib << 20) - rest) // (weights * FORMATS[name] / 8))))


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
    bits = 8 if name.endswith("8") else 4
    at = int(torch.randint(0, (POOL - rows * columns) // 4096, ())) * 4096
    codes, groups = pool[at : at + rows * columns * bits // 8], columns // 128
    if name == "fp8":
        numbers = (codes & 0xBF).view(torch.float8_e4m3fn).view(rows, columns)  # the smaller half: no NaN
        return {"weight": numbers, "weight_scale_inv": torch.full((rows // 128, groups), 0.05)}
    if name == "nvfp4":
        scales = torch.ones(rows, columns // 16).to(torch.float8_e4m3fn)
        return {
            "weight_packed": codes.view(rows, -1), "weight_scale": scales, "weight_global_scale": torch.tensor([100.0]),
        }  # fmt: skip
    if name == "mxfp4":
        exponents = torch.full((rows, columns // 32), 120, dtype=torch.uint8)
        return {"weight_packed": codes.view(rows, -1), "weight_scale": exponents}
    words = codes.view(torch.int32)
    if name.startswith("ct"):
        return {
            "weight_packed": words.view(rows, -1), "weight_scale": torch.full((rows, groups), 0.005).bfloat16(),
            "weight_shape": torch.tensor([rows, columns]),
        }  # fmt: skip
    parts = {
        "qweight": words.view(columns, -1) if name == "awq-4" else words.view(-1, rows),
        "qzeros": torch.full((groups, rows * bits // 32), 0x77777777, dtype=torch.int32),
        "scales": torch.full((groups, rows), 0.005, dtype=torch.float16),
    }
    return parts if name == "awq-4" else {**parts, "g_idx": torch.arange(columns, dtype=torch.int32) // 128}


def _gguf(path: Path, name: str, shape: dict[str, Any], pool: Tensor) -> Path:
    writer = GGUFWriter(path, "qwen3moe")
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_expert_count(shape["num_experts"])
    writer.add_expert_used_count(shape["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(shape["moe_intermediate_size"])
    kind = GGMLQuantizationType[name.upper()]
    elements, nbytes = GGML_QUANT_SIZES[kind]
    blocks = pool[: POOL // nbytes * nbytes].numpy().reshape(-1, nbytes)
    for at in _HALVES[name]:
        blocks[:, at : at + 2] = np.array([1e-4], np.float16).view(np.uint8)
    for tensor, size in _gguf_tensors(shape):
        if len(size) == 1 or tensor.endswith("gate_inp.weight"):
            writer.add_tensor(tensor, np.ones(size, np.float32))
        else:
            count = int(np.prod(size)) // elements
            part = blocks[:count] if count <= len(blocks) else np.resize(blocks, (count, nbytes))
            writer.add_tensor(tensor, part.reshape(*size[:-1], -1), raw_dtype=kind)
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
