"""What a model on disk is made of and whether it is sound: `maskloop models inspect`. Makes no runner.

Reads one weight at a time, so that memory is that of the largest one and of what is kept of each matrix (its profile).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model import damage
from engine.model.checkpoint.checkpoint import load_checkpoint
from engine.model.cpu.packed_weights import Opened, open_folder, open_gguf
from engine.model.damage import Errors, Facts, Finding
from engine.model.files.hashes import sha256_of
from engine.model.files.source import Source, resolve
from engine.model.formats.gguf_checkpoint import is_read
from engine.model.formats.gguf_file import read_gguf
from engine.model.formats.schemes import Scheme, scheme_of
from engine.model.formats.stored import Stored
from engine.model.weights.inventory import AnyWeight, Inventory, format_of, inventory, kind_of
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight

Progress = Callable[[float, str], None]


@dataclass(slots=True)
class Inspection:
    """`str` of the table is for people."""

    label: str
    table: Inventory
    notes: list[str]
    hashes: dict[str, str]
    findings: list[Finding] = field(default_factory=list)
    matrices: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        found = [{"weight": f.name, "kind": f.kind, "detail": f.detail} for f in self.findings]
        told = {"quantization": self.label, "inventory": self.table.to_dict(), "notes": self.notes}
        return {**told, "sha256": self.hashes, "matrices": self.matrices, "damage": found}


def inspect(model: str, source: str | None = None, progress: Progress | None = None) -> Inspection:
    """Look at every weight of a folder, GGUF file or engine checkpoint; with `source` (16-bit form) compare each.

    ModelError: nothing on this machine, or weights that cannot be read.
    """
    told = resolve(model)
    label, weights, opened = _open(told)
    other = None if source is None else dict(_open(resolve(source))[1])
    kept: dict[str, Any] = {}
    findings: list[Finding] = []
    errors: dict[str, dict[str, Errors]] = {}
    matrices = 0
    for done, (name, read) in enumerate(weights):
        if progress is not None:
            progress(done / max(1, len(weights)), name)
        weight = read()
        kept[name] = weight.to("meta")
        if len(weight.shape) < 2 or kind_of(name) in ("norm", "embedding", "convolution"):
            continue
        groups: dict[str, dict[str, Facts]] = {}
        reference, at = None if other is None else _reference(other, name), 0
        for part, half, kind, matrix in _matrices(name, weight):
            matrices += 1
            facts = damage.facts_of(matrix, damage.hidden_axis(name) if len(weight.shape) == 3 else None)
            groups.setdefault(half, {})[part] = facts
            findings += damage.alone(part, facts)
            if reference is not None:
                rows, at = reference[at : at + len(matrix)].float(), at + len(matrix)
                errors.setdefault(kind, {})[part] = damage.against(matrix, rows)
        if len(weight.shape) == 3:
            for siblings in groups.values():
                findings += damage.among_siblings(siblings)
    findings += [finding for of_kind in errors.values() for finding in damage.beyond(of_kind)]
    notes = [] if opened is None else opened.notes(kept)
    return Inspection(label, inventory(kept), notes, _hashes(told), _once(findings), matrices)


Reads = list[tuple[str, Callable[[], AnyWeight]]]


def _open(source: Source) -> tuple[str, Reads, Opened | None]:
    """(format, weights by name each with what reads it, and what was opened if it was no checkpoint of ours)."""
    if source.path is None or source.kind == "random":
        raise ModelError(f"{source.name} is no folder or file on this machine; download it first", param="model")
    if source.kind == "checkpoint":
        loaded = load_checkpoint(source.path, "cpu")
        return loaded.manifest.quantization, [(n, _given(w)) for n, w in loaded.tensors.items()], None
    if source.kind == "gguf":
        file = read_gguf(source.path)
        if not is_read(file):
            raise ModelError(f"{source.path}: files of its architecture are not inspected", param="model")
        opened = open_gguf(file)
    else:
        opened = open_folder(source.path, scheme_of(source.path) or Scheme(label="floats", read=_no_parts))
    return opened.label, [(name, _later(opened, name)) for name in opened.names], opened


def _given(weight: AnyWeight) -> Callable[[], AnyWeight]:
    return lambda: weight


def _later(opened: Opened, name: str) -> Callable[[], AnyWeight]:
    return lambda: opened.checkpoint.read_weight(name)


def _no_parts(stored: Stored) -> NoReturn:
    stored.refuse("the folder's config does not say that it is quantised")


def _matrices(name: str, weight: AnyWeight) -> Iterator[tuple[str, str, str, Tensor]]:
    """(name, projection within the weight, format, fp32 [N, K]) of each expert, or of the one matrix."""
    if len(weight.shape) == 2:
        yield name, "", _format(weight), _values(weight)
    elif isinstance(weight, StackedWeight) and len(weight.pieces) > 1:
        count = len(weight.pieces) // weight.shape[0]
        for index, piece in enumerate(weight.pieces):
            half = ("gate", "up")[index % count] if count == 2 else ""
            part = f"{name}[{index // count}]" + (f".{half}" if half else "")
            yield part, half, _format(piece), _values(piece)
    else:
        whole = weight.pieces[0] if isinstance(weight, StackedWeight) else weight
        rows = weight.shape[1]
        for expert in range(weight.shape[0]):
            own = slice(expert * rows, (expert + 1) * rows)
            in_rows = isinstance(whole, QuantizedTensor) and len(whole.shape) == 2
            matrix = whole.rows(own) if isinstance(whole, QuantizedTensor) and in_rows else whole[expert]
            yield f"{name}[{expert}]", "", _format(matrix), _values(matrix)


def _reference(source: dict[str, Callable[[], AnyWeight]], name: str) -> Tensor:
    """The source's weight as rows, in the order in which matrices take them; ModelError where it has none."""
    if name not in source:
        raise ModelError(f"the source lacks {name}", param="against")
    weight = source[name]()
    whole = weight if isinstance(weight, Tensor) else weight.dequantize()
    return whole.view(-1, whole.shape[-1])


def _values(weight: AnyWeight) -> Tensor:
    return weight.float() if isinstance(weight, Tensor) else weight.dequantize(torch.float32)


def _format(weight: AnyWeight) -> str:
    return "mixed" if isinstance(weight, StackedWeight) else format_of(weight)


def _hashes(source: Source) -> dict[str, str]:
    path = source.path
    assert path is not None
    files: list[Path] = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return {file.name: digest for file, digest in sha256_of(files).items()}


def _once(findings: list[Finding]) -> list[Finding]:
    """The first finding of each matrix."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.name, finding)
    return list(first.values())
