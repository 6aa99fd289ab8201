"""Random weights of a model's shape, quantised as they are made: the full-precision model never exists.

For speed, memory and kernel checks at a shape whose real weights are not at hand (`random:CONFIG.json`). Every weight
is a function of (seed, its name, device type) alone; the numbers have the spread that the config initialises with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from engine.model.architecture.shape import RECURRENT
from engine.model.checkpoint.manifest import LoadedWeights, Manifest
from engine.model.hf.quantized_model import empty_model, stored_names
from engine.model.weights.inventory import PLAIN, Weight, kind_of, wanted_format
from engine.model.weights.rounding import quantize_slices


def random_weights(
    config: Any,
    quantization: str,
    device: torch.device | str,
    seed: int,
    *,
    lm_head: str = PLAIN,
    dtype: torch.dtype = torch.bfloat16,
) -> LoadedWeights:
    """Weights for a transformers config, made on `device`; floats in `dtype`.

    Memory: the packed result and one expert or linear layer in fp32.
    """
    std = float(getattr(config, "initializer_range", 0.02) or 0.02)
    tensors: dict[str, Weight] = {}
    model = empty_model(config)
    for name in stored_names(model, lm_head):
        parameter = model.get_parameter(name)
        generator = torch.Generator(device).manual_seed(_seed_of(seed, name))
        wanted = wanted_format(name, parameter.ndim, quantization, lm_head)
        shape = tuple(parameter.shape)
        if wanted != PLAIN:
            tensors[name] = quantize_slices(_matrices(shape, std, generator), shape, wanted)
        else:
            zero_centred = config.model_type in RECURRENT and ".linear_attn." not in name
            tensors[name] = _plain(name, shape, std, generator, dtype, zero_centred=zero_centred)
    name = f"random:{getattr(config, 'model_type', 'model')}"
    return LoadedWeights(tensors, Manifest(model=name, quantization=quantization, lm_head=lm_head, seed=seed))


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "little")


def _matrices(shape: tuple[int, ...], std: float, generator: torch.Generator) -> Iterator[Tensor]:
    *experts, rows, columns = shape
    for _ in range(experts[0] if experts else 1):
        yield torch.randn(rows, columns, generator=generator, device=generator.device) * std


def _plain(
    name: str, shape: tuple[int, ...], std: float, generator: torch.Generator, dtype: torch.dtype, *, zero_centred: bool
) -> Tensor:
    if kind_of(name) == "norm" and not zero_centred:
        return torch.ones(shape, dtype=dtype, device=generator.device)
    if len(shape) < 2:
        return torch.zeros(shape, dtype=dtype, device=generator.device)
    out = torch.empty(shape, dtype=dtype, device=generator.device)
    for part in out.view(-1, *shape[-2:]):  # expert by expert: fp32 copies of 3-D weights would not fit
        part.copy_(torch.randn(part.shape, generator=generator, device=generator.device) * std)
    return out
