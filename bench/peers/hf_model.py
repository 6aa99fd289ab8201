"""Hugging Face's own model of any name that the engine knows, for baselines and as a reference.

The embedded model's GGUF file is read through transformers; random weights are those the engine would make.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from engine.config import EngineConfig
from engine.model.cpu.engine_weights import RANDOM_SEED
from engine.model.files.converted import CONVERTED, converted_gguf
from engine.model.files.source import resolve
from engine.model.hf.quantized_model import apply_quantized, empty_model
from engine.model.hf.random_weights import random_weights
from engine.model.loader import choose_device


def hf_model(name: str, revision: str | None, device: str) -> Any:
    """The model in fp32 on a CPU, bf16 on a GPU; of random weights in fp32 on a CPU."""
    source = resolve(name, revision)
    if source.kind == "random" and source.path is not None:
        settings = AutoConfig.from_pretrained(str(source.path))
        made = random_weights(settings, "bf16", "cpu", RANDOM_SEED)
        return apply_quantized(empty_model(settings), made.tensors, dtype=torch.float32, device="cpu")
    place = choose_device(device)
    dtype = torch.float32 if place == "cpu" else torch.bfloat16
    if source.kind == "gguf" and source.path is not None:
        folder = converted_gguf(source.path, EngineConfig().cache_dir)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(folder)), dtype=dtype)
        model.load_state_dict(load_file(folder / CONVERTED), strict=False)
        model.tie_weights()
        return model.to(place)
    target = str(source.path or source.name)
    return AutoModelForCausalLM.from_pretrained(target, revision=source.revision, dtype=dtype).to(place)
