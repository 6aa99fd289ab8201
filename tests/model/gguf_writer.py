"""Small GGUF files of random blocks, written by gguf-py: Qwen3-MoE, Qwen3, Qwen2 and Llama, with a tokenizer inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

HIDDEN, INNER, EXPERTS, LAYERS, HEADS, KV, HEAD_DIM, VOCAB = 256, 256, 4, 2, 4, 2, 64, 300
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
Q4_K_M = {"attn_v": "q6_k", "ffn_down": "q6_k", "ffn_down_exps": "q6_k", "token_embd": "q6_k", "output": "q8_0"}
"""Where a Q4_K_M file has other types than Q4_K, near enough."""


def write(
    path: Path, architecture: str, kind: str = "q4_k", *, others: dict[str, str] | None = None, files: int = 1,
    file_type: int = 15, chosen: int = 2,
) -> Path:  # fmt: skip
    """One file, or several with the names that llama.cpp gives the parts; returns the first."""
    tensors = list(_tensors(architecture))
    paths = [path]
    if files > 1:
        paths = [path.with_name(f"{path.stem}-{i + 1:05d}-of-{files:05d}.gguf") for i in range(files)]
    for index, part in enumerate(paths):
        writer = GGUFWriter(part, architecture)
        if index == 0:
            _describe(writer, architecture, file_type, chosen)
        if files > 1:
            writer.add_uint16("split.no", index)
            writer.add_uint16("split.count", files)
            writer.add_int32("split.tensors.count", len(tensors))
        for seed, (name, shape) in enumerate(tensors):
            if seed % files == index:
                _add(writer, name, shape, _kind(name, kind, others or {}), seed)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths[0]


def _kind(name: str, kind: str, others: dict[str, str]) -> str:
    middle = name.split(".")[-2]
    if "norm" in middle or name.endswith("bias") or middle == "ffn_gate_inp":
        return "f32"
    return others.get(middle, kind)


def _add(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    if kind == "f32":
        base = 1.0 if "norm" in name else 0.0
        writer.add_tensor(name, (base + random.normal(0, 0.1, shape)).astype(np.float32))
        return
    writer.add_tensor(name, blocks(kind, shape, random), raw_dtype=GGMLQuantizationType[kind.upper()])


def blocks(kind: str, shape: tuple[int, ...], random: np.random.Generator, size: float = 1e-4) -> np.ndarray:
    """Any bytes, but scales such that weights are of a model's size."""
    elements, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper()]]
    if kind == "f16":
        return random.normal(0, 0.05, shape).astype(np.float16).view(np.uint8)
    raw = random.integers(0, 256, (*shape[:-1], shape[-1] // elements, nbytes), dtype=np.uint8)
    places = {"q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "q4_1": (0, 2), "q5_1": (0, 2)}.get(kind, (0,))
    scale = size if kind.endswith("_k") else 100 * size / (8 if kind == "q8_0" else 1)
    for at in places:
        numbers = random.normal(0, scale, raw.shape[:-1]).astype(np.float16)
        raw[..., at : at + 2] = numbers[..., None].view(np.uint8)
    return raw.reshape(*shape[:-1], -1)


def _tensors(architecture: str) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (VOCAB, HIDDEN)), ("output_norm.weight", (HIDDEN,)), ("output.weight", (VOCAB, HIDDEN)),
    ]  # fmt: skip
    for layer in range(LAYERS):
        own: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,), "attn_q.weight": (HEADS * HEAD_DIM, HIDDEN),
            "attn_k.weight": (KV * HEAD_DIM, HIDDEN), "attn_v.weight": (KV * HEAD_DIM, HIDDEN),
            "attn_output.weight": (HIDDEN, HEADS * HEAD_DIM),
        }  # fmt: skip
        if architecture.startswith("qwen3"):
            own |= {"attn_q_norm.weight": (HEAD_DIM,), "attn_k_norm.weight": (HEAD_DIM,)}
        if architecture == "qwen2":
            own |= {f"attn_{p}.bias": ((HEADS if p == "q" else KV) * HEAD_DIM,) for p in "qkv"}
        if architecture == "qwen3moe":
            own |= {"ffn_gate_inp.weight": (EXPERTS, HIDDEN), "ffn_down_exps.weight": (EXPERTS, HIDDEN, INNER)}
            own |= {f"ffn_{p}_exps.weight": (EXPERTS, INNER, HIDDEN) for p in ("gate", "up")}
        else:
            own |= {f"ffn_{p}.weight": (INNER, HIDDEN) for p in ("gate", "up")} | {"ffn_down.weight": (HIDDEN, INNER)}
        found += [(f"blk.{layer}.{name}", shape) for name, shape in own.items()]
    return found


def _describe(writer: GGUFWriter, architecture: str, file_type: int, chosen: int) -> None:
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_file_type(file_type)
    if architecture == "qwen3moe":
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(chosen)
        writer.add_expert_feed_forward_length(INNER)
    _tokenizer(writer)


def _tokenizer(writer: GGUFWriter) -> None:
    """Byte-level BPE: the 256 bytes in GPT-2's spelling, three special tokens and two merges, since transformers 5.17
    cannot read a single one; the rest is unused."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelled = [chr(b) for b in visible] + [chr(0x100 + i) for i in range(256 - len(visible))]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*spelled, "ab", *special, "cd"]
    tokens += [f"[unused{i}]" for i in range(VOCAB - len(tokens))]
    kinds = [TokenType.NORMAL] * 257 + [TokenType.CONTROL] * 3 + [TokenType.NORMAL]
    kinds += [TokenType.UNUSED] * (VOCAB - len(kinds))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b", "c d"])
    writer.add_eos_token_id(259)
    writer.add_bos_token_id(257)
    writer.add_chat_template(TEMPLATE)
