"""A model's settings: its transformers config, read and checked. Knows no weights, and imports no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from engine.errors import ModelError


def read_config(path: Path) -> Any:
    """A folder's transformers config, or a config file's. ModelError: absent, unknown, or quantised already."""
    config = _config(path)
    settings = getattr(config, "quantization_config", None)
    if settings:
        method = settings.get("quant_method", "unknown") if isinstance(settings, dict) else "unknown"
        raise ModelError(f"{path} is quantised already ({method}); start from its bf16 form", param="model")
    return config


def read_settings(path: Path) -> Any:
    """As `read_config`, of a folder that may be quantised: the config of the model alone."""
    config = _config(path)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _config(path: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} has no config that transformers can read: {first}", param="model") from None


def is_tied(config: Any) -> bool:
    """Whether the head shares the embedding's weight."""
    return bool(getattr(config, "tie_word_embeddings", False))
