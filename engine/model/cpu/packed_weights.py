"""A model whose weights other tools quantised, for the CPU: each is read packed, counted, then dequantised to fp32.

The values are the format's own, to the bit of fp32; a CPU has no kernel that would read them packed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from engine.config import EngineConfig
from engine.model.architecture.shape import is_supported
from engine.model.checkpoint.read_ahead import Packed
from engine.model.cpu.read_weights import ReadWeights
from engine.model.files.converted import described_gguf
from engine.model.files.settings import is_tied, read_settings
from engine.model.formats.gguf_checkpoint import FLOATS, GgufCheckpoint, config_of, label_of
from engine.model.formats.gguf_file import GgufFile
from engine.model.formats.packed_checkpoint import PackedCheckpoint
from engine.model.formats.packed_source import check_asked
from engine.model.formats.schemes import Scheme
from engine.model.hf.quantized_model import apply_quantized, empty_model, stored_names
from engine.model.weights.inventory import HEAD, PLAIN, AnyWeight, inventory, wanted_format


class Checkpoint(Packed, Protocol):
    """Weights by the names that transformers' model has."""

    activations: str | None
    unused: list[str]

    @property
    def skipped(self) -> str: ...

    def require(self, names: Iterable[str]) -> None: ...

    def why_float(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A model on disk of which no weight has been read."""

    label: str
    settings: Any
    model: PreTrainedModel
    checkpoint: Checkpoint
    names: list[str]

    def notes(self, weights: dict[str, AnyWeight]) -> list[str]:
        """What stayed in floats that formats usually quantise, and why; what the files say that is not applied."""
        reasons: dict[str, list[str]] = {}
        for name, weight in weights.items():
            pieces = getattr(weight, "pieces", (weight,))
            floats = [piece for piece in pieces if isinstance(piece, Tensor)]
            if floats and name != HEAD and wanted_format(name, len(weight.shape), self.label) != PLAIN:
                part = "" if len(floats) == len(pieces) else f" ({len(floats)} of its {len(pieces)} pieces)"
                reasons.setdefault(self.checkpoint.why_float(name), []).append(name + part)
        lines = [f"in floats, {why}: {names[0]}{_more(names)}" for why, names in reasons.items()]
        if self.checkpoint.activations:
            lines.append(f"activations ({self.checkpoint.activations} in its config) stay in floats: weights only")
        if self.checkpoint.unused:
            lines.append(f"not applied: {len(self.checkpoint.unused)} scales of activations and caches")
        return [*lines, self.checkpoint.skipped] if self.checkpoint.skipped else lines


def open_folder(folder: Path, scheme: Scheme) -> Opened:
    """A folder; ModelError names a weight that it lacks."""
    settings = read_settings(folder)
    model = empty_model(settings)
    return _opened(scheme.label, settings, model, PackedCheckpoint(folder, model, scheme))


def open_gguf(file: GgufFile) -> Opened:
    """A GGUF file of an architecture that is read packed."""
    settings = AutoConfig.for_model(**config_of(file))
    return _opened(label_of(file), settings, empty_model(settings), GgufCheckpoint(file, settings))


def _opened(label: str, settings: Any, model: PreTrainedModel, checkpoint: Checkpoint) -> Opened:
    names = stored_names(model)
    checkpoint.require(names)
    return Opened(label, settings, model, checkpoint, names)


def read_packed(config: EngineConfig, name: str, folder: Path, scheme: Scheme) -> ReadWeights:
    """A folder's weights in fp32."""
    check_asked(config, name, scheme.label)
    return _read(open_folder(folder, scheme), folder)


def read_packed_gguf(config: EngineConfig, name: str, file: GgufFile) -> ReadWeights:
    """A GGUF file's weights in fp32; its tokenizer and chat template are put into the cache folder once."""
    opened = open_gguf(file)
    if opened.label not in FLOATS:
        check_asked(config, name, opened.label)
    return _read(opened, described_gguf(file.path, config.cache_folder, opened.settings))


def _read(opened: Opened, folder: Path) -> ReadWeights:
    """By name (architectures we compute) or as the model that holds them (others)."""
    values: dict[str, Tensor] = {}
    told: dict[str, AnyWeight] = {}
    for name in opened.names:
        weight = opened.checkpoint.read_weight(name)
        told[name] = weight.to("meta")
        values[name] = weight if isinstance(weight, Tensor) else weight.dequantize()
    held = None if opened.label in FLOATS else opened.label
    read = ReadWeights(opened.settings, folder, quantization=held)
    read.inventory = "\n".join([str(inventory(told)), *opened.notes(told)])
    if is_supported(opened.settings):
        opened.settings.tie_word_embeddings = HEAD not in values and is_tied(opened.settings)
        read.tensors = values
    else:
        read.model = apply_quantized(opened.model, values, dtype=torch.float32, device="cpu")
    return read


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
