"""A folder of quantised weights as other tools write them, read weight by weight, each kept packed.

Tensors that belong to one module are found by their names; what they mean is the folder's `Scheme`. Which weight of the
model they are, and how experts' pieces lie in it, is what source_checkpoint.py knows. Memory: one weight at a time, and
the mapped files' pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.errors import ModelError
from engine.model.files.source_checkpoint import SourceCheckpoint
from engine.model.formats.schemes import Scheme
from engine.model.formats.stored import DECIDING, Stored, settle
from engine.model.weights.inventory import AnyWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight

_INTEGER_PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx"})
"""What GPTQ and AutoAWQ call the parts of a module's weight."""
_PART = re.compile(r"(.+?)_(packed|scale_inv|scale_2|global_scale|scale|zero_point|g_idx|shape)")
"""What the others put behind a weight's name."""
_ACTIVATIONS = re.compile(r"(input|output|activation|[qkv])_(scale|global_scale|scale_inv|scale_2|zero_point)")
_MERGES = (("MergeModulelist",), ("MergeModulelist", "Concatenate"))
"""How transformers puts experts together, as far as pieces that lie one after the other are the same."""


class PackedCheckpoint(SourceCheckpoint):
    """The weights of `folder` as `model` (on meta) names them, quantised as `scheme` says."""

    def __init__(self, folder: Path, model: PreTrainedModel, scheme: Scheme) -> None:
        self._scheme = scheme
        self.activations = scheme.activations
        """A scheme for activations in the folder's config, which is not applied."""
        self._parts: dict[str, dict[str, str]] = {}
        """Weight in the file -> part -> key; of weights in floats the key alone."""
        self.unused: list[str] = []
        """Keys of scales for activations and caches, which are not applied."""
        super().__init__(folder, model)

    @property
    def names(self) -> Iterable[str]:
        """The model's weights that the folder holds."""
        return self._targets

    def read_weight(self, name: str) -> AnyWeight:
        """One weight of the model, packed as the folder has it. ModelError names the tensor that does not fit."""
        target = self._targets[name]
        if all(self._is_float(key) for key, _ in target.sources):
            return self.read(name)
        keys: dict[str | None, list[str]] = {}
        for key, pattern in target.sources:
            keys.setdefault(pattern, []).append(key)
        pieces = [(pattern, piece) for pattern, own in keys.items() for piece in self._pieces(own)]
        ordered = self._in_order(name, target.converter, pieces) if target.converter else [p for _, p in pieces]
        shape = tuple(self._model.get_parameter(name).shape)
        if any(piece.shape[-1] != shape[-1] for piece in ordered) or _rows(ordered) != _rows_of(shape):
            found = [tuple(piece.shape) for piece in ordered]
            raise ModelError(f"{self.folder}: {name} is {found[0]} in {len(found)} pieces, config.json says {shape}")
        single = isinstance(ordered[0], QuantizedTensor) and len(shape) == 2 and len(ordered) == 1
        return ordered[0] if single else StackedWeight((*ordered,), shape)

    def _parts_of(self, source: str) -> Iterable[str]:
        """Without those that decide how others are read: a device that had them would be waited for."""
        parts = self._parts.get(source, {"weight": source})
        return [key for part, key in parts.items() if part not in DECIDING]

    def why_float(self, name: str) -> str:
        """Why a weight of the model is not quantised, as far as the folder tells."""
        keys = [key.removesuffix(".weight") for key, _ in self._targets[name].sources]
        if any(self._scheme.leaves_out(key) for key in keys):
            return "the folder's config leaves it out"
        return "the folder's config does not say why"

    def _source_keys(self) -> Iterable[str]:
        for key in self.files:
            module, _, leaf = key.rpartition(".")
            if _ACTIVATIONS.fullmatch(leaf):
                self.unused.append(key)
            elif leaf in _INTEGER_PARTS:
                self._parts.setdefault(f"{module}.weight", {})[leaf] = key
            elif part := _PART.fullmatch(leaf):
                self._parts.setdefault(f"{module}.{part[1]}", {})[f"weight_{part[2]}"] = key
        for name, parts in self._parts.items():
            if name in self.files:
                parts["weight"] = name
        consumed = {key for parts in self._parts.values() for key in parts.values()} | set(self.unused)
        return [*self._parts, *(key for key in self.files if key not in consumed)]

    def _is_float(self, key: str) -> bool:
        return key not in self._parts

    def _pieces(self, keys: list[str]) -> list[Tensor | QuantizedTensor]:
        """The matrices of weights of the file: several of one where it holds experts in one tensor."""
        if any(self._is_float(key) for key in keys):
            return [p for key in keys for p in ([self._tensor(key)] if self._is_float(key) else self._pieces([key]))]
        modules = _stacked([module for key in keys for module in self._modules(key)])
        weights = [(stored, self._scheme.read(stored)) for stored in modules]
        settle(modules)
        return [w[i] if stored.lead else w for stored, w in weights for i in range(len(stored.names))]

    def _modules(self, key: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
        parts = {part: self._tensor(source) for part, source in self._parts[key].items()}
        if max(part.ndim for part in parts.values()) < 3:
            yield key, parts
            return
        for expert in range(next(len(part) for part in parts.values() if part.ndim == 3)):
            yield f"{key}[{expert}]", {part: t[expert] for part, t in parts.items()}

    def _in_order(self, name: str, converter: Any, pieces: list[tuple[str | None, Any]]) -> list[Any]:
        """Expert by expert, each in the order in which the converter concatenates."""
        if tuple(type(operation).__name__ for operation in converter.operations) not in _MERGES:
            raise ModelError(f"{self.folder}: {name} is put together in a way that packed weights do not follow")
        columns = [[piece for found, piece in pieces if found == pattern] for pattern in converter.source_patterns]
        if len({len(column) for column in columns}) != 1:
            raise ModelError(f"{self.folder}: {name} lacks pieces of some experts; is a shard missing?", param="model")
        return [piece for expert in zip(*columns, strict=True) for piece in expert]


def _stacked(modules: list[tuple[str, dict[str, Tensor]]]) -> list[Stored]:
    """All modules one above the other where they are alike, else each by itself."""
    first = modules[0][1]
    if len(modules) == 1 or not all(_alike(first, parts) for _, parts in modules):
        return [Stored((name,), parts) for name, parts in modules]
    together = {part: [parts[part] for _, parts in modules] for part in first}
    stacked = {part: own[0] if part in DECIDING else _stack(own) for part, own in together.items()}
    return [Stored(tuple(name for name, _ in modules), stacked, (len(modules),))]


def _alike(first: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return first.keys() == other.keys() and all(
        own.shape == other[part].shape
        and own.dtype == other[part].dtype
        and (part not in DECIDING or torch.equal(own, other[part]))
        for part, own in first.items()
    )


def _stack(tensors: list[Tensor]) -> Tensor:
    if tensors[0].dtype.itemsize > 1:
        return torch.stack(tensors)
    return torch.stack([tensor.view(torch.uint8) for tensor in tensors]).view(tensors[0].dtype)  # of 8-bit floats too


def _rows(pieces: list[Any]) -> int:
    return sum(piece.shape[0] for piece in pieces)


def _rows_of(shape: tuple[int, ...]) -> int:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows
