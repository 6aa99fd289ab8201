"""Loading onto the CPU: fp32 weights of whatever a model's name means, and the runner over them."""

from __future__ import annotations

from typing import Any

import torch

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.architecture.shape import Shape
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.read_weights import ReadWeights, read_floats
from engine.model.files.source import Source
from engine.model.formats.packed_source import packed_gguf, packed_source
from engine.model.loaded_model import LoadedModel, Phases, Progress, tokenizer_of


def load_cpu(config: EngineConfig, source: Source, phases: Phases) -> LoadedModel:
    """Weights, tokenizer and runner, each a timed phase."""
    with phases("weights"):
        read = read_weights(config, source, phases.progress)
    with phases("tokenizer"):
        tokenizer = tokenizer_of(config, source, read.folder, read.settings)
    with phases("runner"):
        runner, states = _cpu_runner(config, read)
    told = "\n".join(filter(None, (read.inventory, read.skipped, states)))
    return LoadedModel(source.name, source.revision, runner, tokenizer, phases.seconds, told)


def read_weights(config: EngineConfig, source: Source, progress: Progress | None = None) -> ReadWeights:
    """Weights by name (architectures we compute) or the Hugging Face model (all others), quantised as asked."""
    if source.kind in ("checkpoint", "random"):
        from engine.model.cpu.engine_weights import read_engine_weights

        return read_engine_weights(config, source)
    if (packed := packed_source(source)) is not None:
        from engine.model.cpu.packed_weights import read_packed

        return read_packed(config, source.name, *packed)
    if (file := packed_gguf(source)) is not None:
        from engine.model.cpu.packed_weights import read_packed_gguf

        read = read_packed_gguf(config, source.name, file)
    else:
        read = read_floats(config, source, progress=progress)
    if config.quantization in (None, "bf16"):
        return read
    from engine.model.cpu.engine_weights import quantize_read

    return quantize_read(read, config.quantization)


def _cpu_runner(config: EngineConfig, read: ReadWeights) -> tuple[CpuRunner, str]:
    """The runner, and what it may take of memory for recurrent states."""
    limit = int(getattr(read.settings, "max_position_embeddings", config.max_sequence))
    positions = min(config.max_sequence, limit)
    dtype = torch.float32 if config.cpu_dtype == "float32" else torch.bfloat16
    states = ""
    if read.tensors is not None:
        shape = Shape.from_config(read.settings)
        sizes = {"slots": config.max_batch, "positions": positions}
        network: Any = Decoder(shape, read.tensors, **sizes, dtype=dtype, cache=config.kv_cache)
        states = str(network.states or "")
    elif read.model is not None:
        from engine.model.cpu.hf_network import HfNetwork

        network = HfNetwork(read.model.to(dtype), slots=config.max_batch, cache=config.kv_cache)
    else:
        raise ModelError("no weights were read", param="model")
    held = None if read.quantization == "bf16" else read.quantization
    name = config.quantization or held or ("fp32" if dtype == torch.float32 else "bf16")
    return CpuRunner(network, max_batch=config.max_batch, max_sequence=positions, quantization=name), states
