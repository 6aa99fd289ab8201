"""Tiny random models by Hugging Face's names, quantised, and the fp32 weights the kernels then compute with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from engine.model.architecture.shape import Attention, Block, Dense, Experts, Shape
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, INNER, CHOSEN, VOCAB = 128, 4, 2, 64, 8, 64, 3, 300


def shape(*, moe: bool, layers: int = 2) -> Shape:
    block = Block(
        Attention(HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM), Experts(CHOSEN, renormalised=True) if moe else Dense()
    )
    return Shape((block,) * layers, HIDDEN, VOCAB, eps=1e-6, rope_theta=1e4)


def _gain(size: int) -> Tensor:
    return (torch.rand(size) + 0.5).half().float()


def floats(*, moe: bool, layers: int = 2) -> dict[str, Tensor]:
    """Weights large enough that greedy tokens vary."""
    weights: dict[str, Tensor] = {}
    for index in range(layers):
        at = f"model.layers.{index}."
        sizes = {
            "q": (HEADS * HEAD_DIM, HIDDEN),
            "k": (KV_HEADS * HEAD_DIM, HIDDEN),
            "v": (KV_HEADS * HEAD_DIM, HIDDEN),
            "o": (HIDDEN, HEADS * HEAD_DIM),
        }
        for name, size in sizes.items():
            weights[f"{at}self_attn.{name}_proj.weight"] = torch.randn(size) * 0.15
        for name in "qk":
            weights[f"{at}self_attn.{name}_norm.weight"] = _gain(HEAD_DIM)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = _gain(HIDDEN)
        if moe:
            weights[f"{at}mlp.gate.weight"] = torch.randn(EXPERTS, HIDDEN) * 0.2
            weights[f"{at}mlp.experts.gate_up_proj"] = torch.randn(EXPERTS, 2 * INNER, HIDDEN) * 0.15
            weights[f"{at}mlp.experts.down_proj"] = torch.randn(EXPERTS, HIDDEN, INNER) * 0.15
        else:
            for name, size in {
                "gate": (2 * INNER, HIDDEN),
                "up": (2 * INNER, HIDDEN),
                "down": (HIDDEN, 2 * INNER),
            }.items():
                weights[f"{at}mlp.{name}_proj.weight"] = torch.randn(size) * 0.15
    weights["model.embed_tokens.weight"] = torch.randn(VOCAB, HIDDEN) * 0.5
    weights["lm_head.weight"] = torch.randn(VOCAB, HIDDEN) * 0.2
    weights["model.norm.weight"] = _gain(HIDDEN)
    return weights


def quantized(weights: dict[str, Tensor], quantization: str) -> dict[str, Tensor | QuantizedTensor]:
    """Linear layers and experts in the format; bf16 keeps them floating, rounded."""
    made: dict[str, Tensor | QuantizedTensor] = {}
    for name, weight in weights.items():
        if "_proj" not in name:
            made[name] = weight
        else:
            made[name] = weight.bfloat16() if quantization == "bf16" else quantize_tensor(weight, quantization)
    return made


def as_computed(weights: dict[str, Tensor | QuantizedTensor]) -> dict[str, Tensor]:
    """fp32 weights with the values of the kernels: 4-bit codebooks are rounded to fp16 there."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if isinstance(weight, Tensor):
            made[name] = weight.float()
            continue
        plain = weight.with_plain_scales()
        if len(plain.codebook) == 16:
            plain = replace(plain, codebook=plain.codebook.half().float())
        made[name] = plain.dequantize()
    return made
