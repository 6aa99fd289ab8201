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
from engine.model.architecture.shape import Shape, is_supported
from engine.model.checkpoint.read_ahead import ReadAhead
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.engine_weights import load_engine_weights
from engine.model.cpu.read_weights import ReadWeights, read_floats
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.cuda.fragment_model import FragmentModel, Weights, fragment_model
from engine.model.files.converted import described_gguf
from engine.model.files.settings import is_tied
from engine.model.files.source import Source
from engine.model.formats.gguf_checkpoint import FLOATS, label_of
from engine.model.formats.packed_source import check_asked, packed_gguf, packed_source, refuse_on_gpu
from engine.model.kernels.compiling import early
from engine.model.loaded_model import LoadedModel, Phases, tokenizer_of
from engine.model.weights.inventory import (
    HEAD,
    PLAIN,
    Weight,
    check_quantized,
    inventory,
    quantize_named,
    wanted_format,
)


class _Read(NamedTuple):
    """What `_read` found: transformers config, weights by name on the device or already laid out there, the tokenizer's
    folder, what the weights weigh, and the format that they are in."""

    settings: Any
    weights: Weights | FragmentModel | ReadWeights
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
    if source.kind in ("checkpoint", "random"):
        settings, loaded = load_engine_weights(config, source, device)
        path = source.path
        folder = None if path is None else path if path.is_dir() else path.parent
        table = str(inventory(loaded.tensors))
        return _Read(settings, dict(loaded.tensors), folder, table, loaded.manifest.quantization)
    if (packed := _packed(config, source, device)) is not None:
        return packed
    read = read_floats(config, source, torch.bfloat16)
    if read.tensors is None or not is_supported(read.settings):
        if config.quantization not in (None, PLAIN):
            raise ModelError(
                f"{read.settings.model_type!r} has no quantised kernels; leave quantization out", param="quantization"
            )
        return _Read(read.settings, read, read.folder, "", PLAIN)
    quantization = config.quantization or PLAIN
    weights = _on_device(read, quantization, device)
    table = "\n".join(filter(None, (read.skipped, str(inventory(weights)))))
    return _Read(read.settings, {**weights}, read.folder, table, quantization)


def _packed(config: EngineConfig, source: Source, device: str) -> _Read | None:
    """A folder or GGUF file that other tools quantised, laid out weight by weight as it is read; None for floats."""
    from engine.model.cpu.packed_weights import open_folder, open_gguf  # 3 s of imports that a checkpoint does without

    if (folder_and_scheme := packed_source(source)) is not None:
        folder, scheme = folder_and_scheme
        check_asked(config, source.name, scheme.label)
        opened = open_folder(folder, scheme)
    elif (file := packed_gguf(source)) is not None and (label := label_of(file)) not in FLOATS:
        check_asked(config, source.name, label)
        opened = open_gguf(file)
        folder = described_gguf(file.path, config.cache_folder, opened.settings)
    else:
        return None
    if not is_supported(opened.settings):
        raise refuse_on_gpu(source.name, f"{opened.label} of {opened.settings.model_type}")
    opened.settings.tie_word_embeddings = HEAD not in opened.names and is_tied(opened.settings)
    weights = ReadAhead(opened.checkpoint, opened.names, device)
    with torch.inference_mode():
        model = fragment_model(weights, Shape.from_config(opened.settings))
    if device != "cpu":
        torch.cuda.synchronize(device)
    table = "\n".join([str(inventory(weights.told)), *opened.notes(weights.told)])
    return _Read(opened.settings, model, folder, table, opened.label)


def _on_device(read: ReadWeights, quantization: str, device: str) -> dict[str, Weight]:
    """Move weight by weight, quantising on the device; the host copies are let go one by one."""
    assert read.tensors is not None
    weights: dict[str, Weight] = {}
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
        network = HfNetwork(read.weights.model.to(device), slots=config.max_batch, cache=config.kv_cache)
        name = torch.cuda.get_device_name(device) if device != "cpu" else "cpu"
        return CpuRunner(network, max_batch=config.max_batch, max_sequence=positions, quantization=PLAIN, device=name)
    return CudaRunner(
        read.weights,
        read.settings,
        max_batch=config.max_batch,
        max_sequence=positions,
        device=device,
        quantization=read.quantization,
        cache=config.kv_cache,
        dtype=torch.float32 if device == "cpu" else torch.float16,
    )
