"""What reading a model gives, before a runner is made of it, and the reading of unquantised models.

Real loading goes through Hugging Face's `from_pretrained`; a GGUF file is dequantised once and kept as safetensors in
the cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.architecture.shape import RECURRENT, is_supported
from engine.model.files.converted import CONVERTED, converted_gguf, saved_settings, saved_weights
from engine.model.files.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(slots=True)
class ReadWeights:
    """Exactly one of `tensors` (architectures we compute, by name, floats) and `model` (all others) is there."""

    settings: Any
    """The transformers config."""
    folder: Path | None
    """Where the tokenizer lies; None for a hub name."""
    tensors: dict[str, Tensor] | None = None
    model: PreTrainedModel | None = None
    quantization: str | None = None
    """The format whose values the weights have; None for none."""
    inventory: str = ""
    """Bytes and bits per weight by module kind, for people; empty where nothing is quantised."""
    skipped: str = ""
    """What the files hold beside these weights, in one line for people; of packed weights the inventory tells."""


def read_floats(
    config: EngineConfig,
    source: Source,
    dtype: torch.dtype = torch.float32,
    *,
    progress: Callable[[str], None] | None = None,
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

        from engine.model.files.settings import text_part

        settings = text_part(AutoConfig.from_pretrained(target, revision=source.revision))
        model = AutoModelForCausalLM.from_pretrained(target, revision=source.revision, dtype=dtype)
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is about the files the user named
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"model {source.name!r} could not be loaded: {first}", param="model") from None
    if is_supported(settings):
        beside = _skipped(source) if settings.model_type in RECURRENT else ""
        return ReadWeights(settings, folder, tensors=dict(model.state_dict()), skipped=beside)
    return ReadWeights(settings, folder, model=model)


def _skipped(source: Source) -> str:
    """What the files of a folder, or of a model in the hub's cache, hold beside the model's weights."""
    from huggingface_hub import try_to_load_from_cache

    from engine.model.files.skipped import skipped
    from engine.model.files.source_checkpoint import weight_names

    folder = source.path
    if folder is None:
        found = try_to_load_from_cache(source.name, "config.json", revision=source.revision)
        folder = Path(found).parent if isinstance(found, str) else None
    return "" if folder is None else skipped(weight_names(folder))
