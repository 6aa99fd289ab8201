"""What loading gives, and the steps that both devices share: timed phases, the tokenizer with its stop tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from engine.config import EngineConfig
from engine.interfaces import Runner
from engine.model.files.source import Source
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


def tokenizer_of(config: EngineConfig, source: Source, folder: Path | None, settings: Any) -> HfTokenizer:
    """The asked tokenizer or the model's own, ending where the generation config says, else the model config."""
    try:
        generation = GenerationConfig.from_pretrained(str(folder or source.name), revision=source.revision)
        eos = generation.eos_token_id
    except (OSError, ValueError):
        eos = getattr(settings, "eos_token_id", None)
    stops = [eos] if isinstance(eos, int) else list(eos or [])
    path = config.tokenizer or folder or source.name
    return load_tokenizer(path, revision=source.revision, stop_token_ids=stops)
