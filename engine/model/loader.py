"""From a model name to a runner and a tokenizer, phase by phase, each timed.

Real loading goes through Hugging Face's `from_pretrained`; a GGUF file is dequantised once and kept as safetensors in
the cache folder. Weights never run code: `trust_remote_code` is off everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.utils import logging as hf_logging

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.interfaces import Runner
from engine.model.converted import CONVERTED, converted_gguf, saved_settings, saved_weights
from engine.model.cpu_runner import CpuRunner
from engine.model.decoder import Decoder, Shape, is_supported
from engine.model.packed_source import packed_gguf, packed_source
from engine.model.read_weights import ReadWeights
from engine.model.source import Source, existing_tokenizer, resolve
from engine.model.tokenizer import HfTokenizer, load_tokenizer

Progress = Callable[[str], None]


@dataclass(slots=True)
class LoadedModel:
    """A model ready to run. `phases` are seconds by name, in order."""

    name: str
    revision: str | None
    runner: Runner
    tokenizer: HfTokenizer
    phases: dict[str, float] = field(default_factory=dict)
    inventory: str = ""
    """Bytes and bits per weight by module kind, where anything is quantised, and the KV cache's, on a GPU."""


class Phases:
    """Times named phases and tells `progress` when one starts."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = progress

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.progress:
            self.progress(name)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def load(config: EngineConfig, progress: Progress | None = None) -> LoadedModel:
    """Load what `config.model` names. ModelError says what is missing or does not fit, and what would."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    phases = Phases(progress)
    device = choose_device(config.device)
    if config.threads and device == "cpu":
        torch.set_num_threads(config.threads)
    source = resolve(config.model, config.revision)
    if config.tokenizer is not None:
        existing_tokenizer(config.tokenizer)
    if device != "cpu":
        from engine.model.accelerated import load_accelerated

        return load_accelerated(config, source, device, phases)
    return _load_cpu(config, source, phases)


def choose_device(wanted: str) -> str:
    """`auto` takes the first CUDA device where there is one."""
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {wanted!r}: torch sees no CUDA device; use device='cpu'", param="device")
    if wanted != "cpu" and not wanted.startswith("cuda"):
        raise ModelError(f"device {wanted!r} is not auto, cpu, cuda or cuda:N", param="device")
    return wanted


def _load_cpu(config: EngineConfig, source: Source, phases: Phases) -> LoadedModel:
    with phases("weights"):
        read = _read(config, source, phases.progress)
    with phases("tokenizer"):
        stops = stop_ids(read.folder, source, read.settings)
        path = config.tokenizer or read.folder or source.name
        tokenizer = load_tokenizer(path, revision=source.revision, stop_token_ids=stops)
    with phases("runner"):
        runner = _cpu_runner(config, read)
    return LoadedModel(source.name, source.revision, runner, tokenizer, phases.seconds, read.inventory)


def _read(config: EngineConfig, source: Source, progress: Progress | None) -> ReadWeights:
    """Weights by name (architectures we compute) or the Hugging Face model (all others), quantised as asked."""
    if source.kind in ("checkpoint", "random"):
        from engine.model.engine_weights import read_engine_weights

        return read_engine_weights(config, source)
    if (packed := packed_source(source)) is not None:
        from engine.model.packed_weights import read_packed

        return read_packed(config, source.name, *packed)
    if (file := packed_gguf(source)) is not None:
        from engine.model.packed_weights import read_packed_gguf

        read = read_packed_gguf(config, source.name, file)
    else:
        read = read_floats(config, source, progress=progress)
    if config.quantization in (None, "bf16"):
        return read
    from engine.model.engine_weights import quantize_read

    return quantize_read(read, config.quantization)


def read_floats(
    config: EngineConfig, source: Source, dtype: torch.dtype = torch.float32, *, progress: Progress | None = None
) -> ReadWeights:
    """Unquantised weights on the host, through `from_pretrained` or from the converted copy of a GGUF file."""
    folder = source.path
    if source.kind == "gguf" and source.path:
        folder = converted_gguf(source.path, config.cache_folder, progress)
    target = str(folder or source.name)
    try:
        if folder is not None and (folder / CONVERTED).exists():
            settings = saved_settings(folder)
            if settings is not None and is_supported(settings):
                return ReadWeights(settings, folder, tensors=saved_weights(folder, dtype))
        from transformers import AutoConfig, AutoModelForCausalLM  # 6 s of imports that a converted model does without

        settings = AutoConfig.from_pretrained(target, revision=source.revision)
        model = AutoModelForCausalLM.from_pretrained(target, revision=source.revision, dtype=dtype)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is about the files the user named
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"model {source.name!r} could not be loaded: {first}", param="model") from None
    if is_supported(settings):
        return ReadWeights(settings, folder, tensors=dict(model.state_dict()))
    return ReadWeights(settings, folder, model=model)


def _cpu_runner(config: EngineConfig, read: ReadWeights) -> CpuRunner:
    limit = int(getattr(read.settings, "max_position_embeddings", config.max_sequence))
    positions = min(config.max_sequence, limit)
    dtype = torch.float32 if config.cpu_dtype == "float32" else torch.bfloat16
    if read.tensors is not None:
        shape = Shape.from_config(read.settings)
        network: Any = Decoder(shape, read.tensors, slots=config.max_batch, positions=positions, dtype=dtype)
    elif read.model is not None:
        from engine.model.hf_network import HfNetwork

        network = HfNetwork(read.model.to(dtype), slots=config.max_batch)
    else:
        raise ModelError("no weights were read", param="model")
    held = None if read.quantization == "bf16" else read.quantization
    name = config.quantization or held or ("fp32" if dtype == torch.float32 else "bf16")
    return CpuRunner(network, max_batch=config.max_batch, max_sequence=positions, quantization=name)


def stop_ids(folder: Path | None, source: Source, settings: Any) -> list[int]:
    """End-of-text ids of the generation config, else of the model config."""
    try:
        generation = GenerationConfig.from_pretrained(str(folder or source.name), revision=source.revision)
        eos = generation.eos_token_id
    except (OSError, ValueError):
        eos = getattr(settings, "eos_token_id", None)
    return [eos] if isinstance(eos, int) else list(eos or [])
