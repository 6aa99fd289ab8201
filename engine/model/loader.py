"""From a model name to a runner and a tokenizer, phase by phase, each timed.

Weights never run code: `trust_remote_code` is off everywhere.
"""

from __future__ import annotations

import torch
from transformers.utils import logging as hf_logging

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.cpu.cpu_loader import load_cpu
from engine.model.files.source import existing_tokenizer, resolve
from engine.model.loaded_model import LoadedModel, Phases, Progress


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
        from engine.model.cuda.cuda_loader import load_accelerated

        return load_accelerated(config, source, device, phases)
    return load_cpu(config, source, phases)


def choose_device(wanted: str) -> str:
    """`auto` takes the first CUDA device where there is one."""
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {wanted!r}: torch sees no CUDA device; use device='cpu'", param="device")
    if wanted != "cpu" and not wanted.startswith("cuda"):
        raise ModelError(f"device {wanted!r} is not auto, cpu, cuda or cuda:N", param="device")
    return wanted
