"""Loading onto a GPU: weights straight to the device in the asked format, laid out for the kernels, graphs captured.

Checkpoints and random weights never exist in full precision; models from Hugging Face are read in bf16 through
`from_pretrained` and quantised weight by weight on the device. What has no kernels runs Hugging Face's forward.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.interfaces import Runner
from engine.model.checkpoint.manifest import read_manifest
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.decoder import is_supported
from engine.model.cpu.engine_weights import load_engine_weights
from engine.model.cpu.read_weights import ReadWeights, read_floats
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.cuda.fragment_model import Weights
from engine.model.files.source import Source
from engine.model.formats.packed_source import packed_label, refuse_on_gpu
from engine.model.kernels.compiling import early
from engine.model.loaded_model import LoadedModel, Phases, tokenizer_of
from engine.model.weights.coding import CODINGS
from engine.model.weights.inventory import PLAIN, check_quantized, inventory, quantize_named, wanted_format


class _Read(NamedTuple):
    """What `_read` found: transformers config, weights by name on the device, the tokenizer's folder, what the weights
    weigh, and the format that they are in."""

    settings: Any
    weights: Weights | ReadWeights
    folder: Path | None
    table: str
    quantization: str


def load_accelerated(config: EngineConfig, source: Source, device: str, phases: Phases) -> LoadedModel:
    """Weights, layout, tokenizer and graphs, each a timed phase. ModelError says what does not fit, and what would."""
    compilers = early() if device != "cpu" else None
    with phases("weights"):
        read = _read(config, source, device)
    with phases("layout"):
        runner = _runner(config, read, device)
    with phases("tokenizer"):
        tokenizer = tokenizer_of(config, source, read.folder, read.settings)
    with phases("graphs"):
        if isinstance(runner, CudaRunner) and device != "cpu":
            runner.warm(compilers=compilers)
        elif compilers is not None:
            compilers.close()
    told = [read.table, runner.memory] if isinstance(runner, CudaRunner) else [read.table]
    return LoadedModel(source.name, source.revision, runner, tokenizer, phases.seconds, "\n".join(filter(None, told)))


def _read(config: EngineConfig, source: Source, device: str) -> _Read:
    _refuse_without_kernels(config, source)
    if source.kind in ("checkpoint", "random"):
        settings, loaded = load_engine_weights(config, source, device)
        path = source.path
        folder = None if path is None else path if path.is_dir() else path.parent
        table = str(inventory(loaded.tensors))
        return _Read(settings, dict(loaded.tensors), folder, table, loaded.manifest.quantization)
    if (label := packed_label(source)) is not None:
        raise refuse_on_gpu(source.name, label)
    read = read_floats(config, source, torch.bfloat16)
    if read.tensors is None or not is_supported(read.settings):
        if config.quantization not in (None, PLAIN):
            raise ModelError(
                f"{read.settings.model_type!r} has no quantised kernels; leave quantization out", param="quantization"
            )
        return _Read(read.settings, read, read.folder, "", PLAIN)
    quantization = config.quantization or PLAIN
    weights = _on_device(read, quantization, device)
    return _Read(read.settings, weights, read.folder, str(inventory(weights)), quantization)


def _refuse_without_kernels(config: EngineConfig, source: Source) -> None:
    """ModelError for nl4, before its weights are read."""
    held: list[str | None] = [config.quantization]
    if source.kind == "checkpoint" and source.path is not None:
        manifest = read_manifest(source.path)
        held = [manifest.quantization, manifest.lm_head]
    for name in held:
        if name in CODINGS and CODINGS[name].fitted:
            raise refuse_on_gpu(source.name, name)


def _on_device(read: ReadWeights, quantization: str, device: str) -> Weights:
    """Move weight by weight, quantising on the device; the host copies are let go one by one."""
    assert read.tensors is not None
    weights: Weights = {}
    for name in list(read.tensors):
        weight = read.tensors.pop(name).to(device)
        wanted = wanted_format(name, weight.ndim, quantization)
        weights[name] = weight if wanted == PLAIN else quantize_named(name, weight, wanted)
    check_quantized(weights, quantization)
    return weights


def _runner(config: EngineConfig, read: _Read, device: str) -> Runner:
    limit = int(getattr(read.settings, "max_position_embeddings", config.max_sequence))
    positions = min(config.max_sequence, limit)
    if isinstance(read.weights, ReadWeights):
        from engine.model.cpu.hf_network import HfNetwork

        assert read.weights.model is not None
        network = HfNetwork(read.weights.model.to(device), slots=config.max_batch)
        name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
        return CpuRunner(network, max_batch=config.max_batch, max_sequence=positions, quantization=PLAIN, device=name)
    return CudaRunner(
        read.weights,
        read.settings,
        max_batch=config.max_batch,
        max_sequence=positions,
        device=device,
        quantization=read.quantization,
        dtype=torch.float32 if device == "cpu" else torch.float16,
    )
