"""A model's settings: its transformers config, read and checked. Knows no weights, and imports no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from engine.errors import ModelError

SEEING = ("qwen3_5_moe",)
"""Types of models that see as well, whose text part is a model of a type that we compute."""


def read_config(path: Path) -> Any:
    """A folder's transformers config, or a config file's. ModelError: absent, unknown, or quantised already."""
    config = _config(path)
    settings = getattr(config, "quantization_config", None)
    if settings:
        method = settings.get("quant_method", "unknown") if isinstance(settings, dict) else "unknown"
        raise ModelError(f"{path} is quantised already ({method}); start from its bf16 form", param="model")
    return text_part(config)


def read_settings(path: Path) -> Any:
    """As `read_config`, of a folder that may be quantised: the config of the model alone."""
    config = _config(path)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return text_part(config)


def text_part(config: Any) -> Any:
    """The config of what computes text: a part of it where the model sees as well."""
    return config.text_config if config.model_type in SEEING else config


def model_type(path: Path) -> str:
    """The type that a folder's plain config, or a plain config itself, names; empty for other files."""
    file = path / "config.json" if path.is_dir() else path
    try:
        plain = json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else {}
    except (OSError, ValueError):
        return ""
    return str(plain.get("model_type", "")) if isinstance(plain, dict) else ""


def _config(path: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} has no config that transformers can read: {first}", param="model") from None


def is_tied(config: Any) -> bool:
    """Whether the head shares the embedding's weight."""
    return bool(getattr(config, "tie_word_embeddings", False))
