"""Quantised weights for the CPU runner: engine checkpoints, random weights, and float weights quantised while loading.

A CPU has no kernel for packed weights, so they are dequantised once, to fp32: the same values as the quantised model,
not the same bytes. The inventory is of the packed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.architecture.shape import is_supported
from engine.model.checkpoint.checkpoint import load_checkpoint
from engine.model.checkpoint.manifest import LoadedWeights
from engine.model.cpu.read_weights import ReadWeights
from engine.model.files.settings import is_tied, read_config
from engine.model.files.source import Source
from engine.model.weights.inventory import (
    HEAD,
    PLAIN,
    Inventory,
    Weight,
    check_quantized,
    inventory,
    quantize_named,
    wanted_format,
)
from engine.model.weights.quantized_tensor import QuantizedTensor

RANDOM_SEED = 0
"""Seed of `random:CONFIG.json`, so that two engines of one shape agree."""


def read_engine_weights(config: EngineConfig, source: Source) -> ReadWeights:
    """fp32 weights (architectures we compute) or the quantised transformers model (others). ModelError: `quantization`
    contradicts the checkpoint, or it is damaged."""
    settings, loaded = load_engine_weights(config, source, "cpu")
    folder = None if source.path is None else source.path if source.path.is_dir() else source.path.parent
    read = ReadWeights(settings, folder, quantization=loaded.manifest.quantization)
    read.inventory = str(inventory(loaded.tensors))
    if is_supported(settings):
        settings.tie_word_embeddings = HEAD not in loaded.tensors and is_tied(settings)
        read.tensors = dequantized(loaded.tensors)
    else:
        from engine.model.hf.quantized_model import apply_quantized, empty_model

        read.model = apply_quantized(empty_model(settings), loaded.tensors, dtype=torch.float32, device="cpu")
    return read


def quantize_read(read: ReadWeights, quantization: str) -> ReadWeights:
    """Float weights that were read from anywhere, rounded to what the format holds."""
    if read.tensors is not None:
        read.tensors, table = requantized(read.tensors, quantization)
    else:
        from engine.model.hf.quantized_model import quantize_model

        assert read.model is not None
        table = inventory(quantize_model(read.model, quantization))
    read.quantization, read.inventory = quantization, str(table)
    return read


def load_engine_weights(config: EngineConfig, source: Source, device: torch.device | str) -> tuple[Any, LoadedWeights]:
    """The transformers config and the weights, quantised, on `device`: of a checkpoint or made at random."""
    if source.path is None:
        raise ModelError(f"model {source.name!r} is not on this machine", param="model")
    settings = read_config(source.path)
    if source.kind == "random":
        from engine.model.hf.random_weights import random_weights  # 5 s of imports that a checkpoint does without

        loaded = random_weights(settings, config.quantization or PLAIN, device, RANDOM_SEED)
    else:
        loaded = load_checkpoint(source.path, device)
        held = loaded.manifest.quantization
        if config.quantization not in (None, held):
            raise ModelError(
                f"{source.name} is in {held}, not {config.quantization}; leave quantization out, or make a checkpoint "
                f"with: maskloop quantize {loaded.manifest.model} --to {config.quantization} --out DIR",
                param="quantization",
            )
    return settings, loaded


def requantized(weights: Mapping[str, Tensor], quantization: str) -> tuple[dict[str, Tensor], Inventory]:
    """Float weights by name as fp32 tensors with the format's values, and what the packed form weighs."""
    packed: dict[str, Weight] = {}
    for name, weight in weights.items():
        wanted = wanted_format(name, weight.ndim, quantization)
        packed[name] = weight if wanted == PLAIN else quantize_named(name, weight, wanted)
    check_quantized(packed, quantization)
    return dequantized(packed), inventory(packed)


def dequantized(tensors: Mapping[str, Weight]) -> dict[str, Tensor]:
    """Quantised weights as fp32 tensors; float weights as they are."""
    return {name: w.dequantize(torch.float32) if isinstance(w, QuantizedTensor) else w for name, w in tensors.items()}
