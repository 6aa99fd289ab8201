"""Hugging Face's own model of a name, for baselines. The embedded model's GGUF file is read through transformers."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from engine.config import EngineConfig
from engine.model.files.converted import CONVERTED, converted_gguf
from engine.model.files.source import resolve
from engine.model.loader import choose_device


def hf_model(name: str, revision: str | None, device: str) -> Any:
    """The model in fp32 on a CPU, bf16 on a GPU."""
    source = resolve(name, revision)
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
