"""What precision a model's source weights really have: the format that most weights are stored in.

A study that calls a dequantised 4-bit file 'bf16' measures the loss of quantising it again; this says which it is.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from gguf import GGUFReader

from engine.model.checkpoint.manifest import read_manifest
from engine.model.files.hashes import sha256_of
from engine.model.files.source import Source
from engine.model.formats.schemes import scheme_of

FLOATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64"}


def source_format(source: Source, folder: Path | None = None) -> str:
    """`bf16`, `Q4_1`, `nf4`, `random`, ...; for a hub name give the folder it was downloaded to."""
    if source.kind == "random":
        return "random"
    if source.kind == "gguf" and source.path is not None:
        return _most(_gguf_counts(source.path))
    place = folder or source.path
    if place is None:
        return "unknown"
    if source.kind == "checkpoint":
        return read_manifest(place).quantization
    scheme = scheme_of(place)
    return _most(_safetensors_counts(place)) if scheme is None else scheme.label


def reference_label(format_name: str) -> str:
    """How a study names its reference: the format itself if it is a float, else `dequantised FORMAT`."""
    return format_name if format_name in (*FLOATS.values(), "random", "unknown") else f"dequantised {format_name}"


def weight_hashes(source: Source, folder: Path | None = None) -> dict[str, str]:
    """sha256 of every weight file, by name; files that the hub's cache stores under their hash are not read again."""
    place = folder or source.path
    if source.kind == "random" or place is None:
        return {}
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return {file.name: digest for file, digest in sha256_of(files).items()}


def _gguf_counts(path: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    for tensor in GGUFReader(path).tensors:
        name = tensor.tensor_type.name
        counts[FLOATS.get(name, name)] += int(tensor.n_elements)
    return counts


def _safetensors_counts(folder: Path) -> Counter[str]:
    """From the headers alone."""
    counts: Counter[str] = Counter()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        for entry in header.values():
            begin, end = entry["data_offsets"]
            counts[FLOATS.get(entry["dtype"], entry["dtype"])] += end - begin
    return counts


def _most(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else "unknown"
