"""A Hugging Face checkpoint folder read weight by weight, under the names and shapes that transformers' model has.

Older checkpoints name things otherwise (every expert a tensor of its own); the renamings and mergers are transformers'
own conversion tables, so that what is quantised is what `from_pretrained` would load. Only safetensors are read:
pickled weights can run code. Memory: one weight of the model at a time, with the pieces it is merged from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from engine.errors import ModelError
from engine.model.files.hashes import sha256_of
from engine.model.files.places import DOWNLOAD, Place, safetensors_places
from engine.model.files.settings import is_tied
from engine.model.files.skipped import skipped
from engine.model.weights.inventory import HEAD

EMBEDDING = "model.embed_tokens.weight"
_INDEX = "model.safetensors.index.json"


@dataclass(slots=True)
class _Target:
    """One weight of the model: what is merged into it, as (source key, converter's pattern or None)."""

    sources: list[tuple[str, str | None]] = field(default_factory=list)
    converter: Any = None


class SourceCheckpoint:
    """The weights of `folder` as `model` (on meta) names them."""

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        self.folder = folder
        self.files = _files_by_key(folder)
        """Source key -> safetensors file."""
        self._model = model
        self.held: dict[str, Tensor] = {}
        """Tensors that were read already, by source key; each is let go of when it is used."""
        self._open: dict[Path, Any] = {}
        self._places: dict[Path, dict[str, Place]] = {}
        self._targets = self._plan()

    @property
    def skipped(self) -> str:
        """What the folder holds beside the model's weights, in one line for people."""
        return skipped(self.files)

    @property
    def identity(self) -> str:
        """Changes when any weight file does: names, sizes and hashes. What a mount makes of times does not matter.

        Reads every file whose hash the hub's cache does not tell.
        """
        hashes = sha256_of(sorted(set(self.files.values())))
        return json.dumps([(path.name, path.stat().st_size, digest) for path, digest in hashes.items()])

    def require(self, names: Iterable[str]) -> None:
        """ModelError that names a weight which the folder lacks."""
        missing = [name for name in names if name not in self._targets]
        if missing:
            raise ModelError(
                f"{self.folder} lacks {missing[0]!r} and {len(missing) - 1} more weights of "
                f"{type(self._model).__name__}; is a shard missing?",
                param="model",
            )

    def places(self, name: str) -> dict[str, Place]:
        """Where what a weight of the model is made of lies, by source key."""
        return {key: self._place(key) for source, _ in self._targets[name].sources for key in self._parts_of(source)}

    def _parts_of(self, source: str) -> Iterable[str]:
        """The source keys of what a weight of the folder is computed from."""
        return (source,)

    def _place(self, key: str) -> Place:
        path = self.files[key]
        if path not in self._places:
            self._places[path] = safetensors_places(path)
        if key not in self._places[path]:
            raise ModelError(f"{path} lacks {key!r}, which the folder's index puts there; {DOWNLOAD}", param="model")
        return self._places[path][key]

    def read(self, name: str) -> Tensor:
        """One weight in the checkpoint's dtype, merged from its pieces: on the CPU, or where they are `held`.
        ModelError on a wrong shape."""
        target = self._targets[name]
        tensors = [(pattern, self._tensor(key)) for key, pattern in target.sources]
        if target.converter is None:
            weight = tensors[0][1]
        else:
            weight = self._merge(name, target.converter, tensors)
        expected = tuple(self._model.get_parameter(name).shape)
        if tuple(weight.shape) != expected:
            raise ModelError(f"{self.folder}: {name} has shape {tuple(weight.shape)}, config.json says {expected}")
        return weight

    def _merge(self, name: str, converter: Any, tensors: list[tuple[str | None, Tensor]]) -> Tensor:
        merger = deepcopy(converter)
        while tensors:
            pattern, tensor = tensors.pop(0)
            merger.add_tensor(name, name, pattern, tensor)
        merged = merger.convert(name, model=self._model, config=self._model.config)
        if name not in merged:
            raise ModelError(f"{self.folder}: {name} is not among what its pieces convert to: {', '.join(merged)}")
        weight: Any = merged[name]
        single: Tensor = weight[0] if isinstance(weight, list) else weight
        return single

    def _source_keys(self) -> Iterable[str]:
        """The names of weights that the folder holds."""
        return self.files

    def _plan(self) -> dict[str, _Target]:
        transforms = get_model_conversion_mapping(self._model)
        renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        converters = [t for t in transforms if isinstance(t, WeightConverter)]
        by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
        state = dict(self._model.state_dict())
        targets: dict[str, _Target] = {}
        for key in sorted(self._source_keys(), key=dot_natural_key):
            prefix = self._model.base_model_prefix
            name, pattern = rename_source_key(key, renamings, converters, prefix, state)
            if name not in state and key in state:
                name, pattern = key, None
            target = targets.setdefault(name, _Target())
            target.sources.append((key, pattern))
            target.converter = by_pattern[pattern] if pattern is not None else None
        if is_tied(self._model.config) and EMBEDDING in targets:
            targets[HEAD] = targets[EMBEDDING]
        return targets

    def _tensor(self, key: str) -> Tensor:
        if key in self.held:
            return self.held.pop(key)
        path = self.files[key]
        try:
            if path not in self._open:  # opening reads the file's whole header, a megabyte in a model of many experts
                self._open[path] = safe_open(path, framework="pt")
            tensor: Tensor = self._open[path].get_tensor(key)
            return tensor
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}; {DOWNLOAD}", param="model") from None


def weight_names(folder: Path) -> list[str]:
    """Of a folder's safetensors; none where they cannot be read."""
    try:
        return list(_files_by_key(folder))
    except ModelError:
        return []


def _files_by_key(folder: Path) -> dict[str, Path]:
    index = folder / _INDEX
    if index.exists():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            found = {str(key): folder / Path(str(name)).name for key, name in names.items()}
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{index} is damaged: {error}", param="model") from None
        absent = [path for path in sorted(set(found.values())) if not path.exists()]
        if absent:
            raise ModelError(f"{absent[0]} is missing, {_INDEX} names it; download the model again", param="model")
        return found
    return {key: path for path in sorted(folder.glob("*.safetensors")) for key in _keys(path)} or _no_weights(folder)


def _keys(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, framework="pt") as file:
            yield from file.keys()
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}; {DOWNLOAD}", param="model") from None


def _no_weights(folder: Path) -> dict[str, Path]:
    pickled = next(iter(sorted(folder.glob("*.bin"))), None)
    if pickled is not None:
        raise ModelError(f"{pickled} is pickled, which can run code; only safetensors are read", param="model")
    raise ModelError(f"{folder} holds no safetensors files", param="model")
