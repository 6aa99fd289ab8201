"""Engine checkpoints: a folder of safetensors files, `manifest.json`, and the model's config and tokenizer files.

A quantised weight NAME is stored as its parts `NAME.packed`, `NAME.absmax` (nf4-dq also `NAME.nested_absmax` and
`NAME.nested_offset`), see quantized_tensor.py; a codebook of its own (nl4) is in the manifest. Reading goes straight to
the device, checked piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint.checkpoint_writer import FILE_BYTES, CheckpointWriter
from engine.model.checkpoint.manifest import LoadedWeights, Manifest, read_manifest
from engine.model.checkpoint.parallel_read import check_size, read_files
from engine.model.files.places import DTYPES, read_header
from engine.model.weights.coding import CODINGS
from engine.model.weights.inventory import Weight, check_quantized
from engine.model.weights.quantized_tensor import QuantizedTensor, from_parts, part_shapes


def load_checkpoint(
    folder: Path | str, device: torch.device | str, *, verify: bool = True, threads: int | None = None
) -> LoadedWeights:
    """Read a checkpoint onto `device`. Memory: the files once; tensors are views into them.

    `verify` checks every byte against the manifest's hashes. ModelError names the file that is missing, truncated,
    damaged or of another version, or the weight that is absent or not quantised as the manifest says.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    headers = [_read_header(check_size(folder, file)) for file in manifest.files]
    starts = [start for start, _ in headers]
    buffers = read_files(folder, manifest.files, device, data_starts=starts, verify=verify, threads=threads)
    stored: dict[str, Tensor] = {}
    for file, buffer, (start, entries) in zip(manifest.files, buffers, headers, strict=True):
        for name, entry in entries.items():
            stored[name] = _cut(buffer[start:], folder / file.name, name, entry)
    tensors = _assemble(stored, manifest.tensors, folder)
    check_quantized(tensors, manifest.quantization, manifest.lm_head)
    return LoadedWeights(tensors, manifest)


def save_checkpoint(
    out: Path | str,
    weights: Mapping[str, Weight] | Iterable[tuple[str, Weight]],
    manifest: Manifest,
    *,
    extras: Mapping[str, Path] | None = None,
    file_bytes: int = FILE_BYTES,
) -> Manifest:
    """Write weights as they come from an iterable, so that they need not exist at once; all or nothing appears.

    `extras` are files by the name they get beside the weights (config, tokenizer). ModelError: `out` taken, disk full.
    """
    writer = CheckpointWriter(Path(out), manifest, file_bytes=file_bytes)
    for name, weight in weights.items() if isinstance(weights, Mapping) else weights:
        if name not in writer.done:
            writer.add(name, weight)
    for name, file in (extras or {}).items():
        writer.copy(file, name)
    return writer.finish()


def _read_header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    try:
        return read_header(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _cut(data: Tensor, path: Path, name: str, entry: dict[str, Any]) -> Tensor:
    try:
        dtype = DTYPES[entry["dtype"]]
        shape = [int(size) for size in entry["shape"]]
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(data) or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("its place does not fit its shape")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"{name}: {error}") from None
    part = data[begin:end]
    if part.data_ptr() % 16:
        part = part.clone()  # kernels load words of 16 bytes; only sizes that are no multiple of 16 come here
    return part.view(dtype).view(shape)


def _assemble(stored: dict[str, Tensor], quantized: Mapping[str, Any], folder: Path) -> dict[str, Weight]:
    """Parts joined to quantised weights, in the order of the files; floats as they are."""
    tensors: dict[str, Weight] = {}
    for name, entry in quantized.items():
        tensors[name] = _join(stored, name, entry, folder)
    tensors.update(stored)
    return tensors


def _join(stored: dict[str, Tensor], name: str, entry: dict[str, Any], folder: Path) -> QuantizedTensor:
    shape, quantization = tuple(entry["shape"]), entry["format"]
    parts = {}
    for part, (size, dtype) in part_shapes(shape, quantization).items():
        tensor = stored.pop(f"{name}.{part}", None)
        if tensor is None or tuple(tensor.shape) != tuple(size) or tensor.dtype != dtype:
            found = "absent" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
            raise _damaged(folder, f"{name}.{part} is {found}, {quantization} needs {dtype} {tuple(size)}")
        parts[part] = tensor
    coding = CODINGS[quantization]
    table = torch.tensor(entry["codebook"], device=parts["packed"].device) if coding.fitted else None
    return from_parts(parts, shape, coding, table)


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path} is damaged: {reason}; make the checkpoint again with: maskloop quantize MODEL --to Q --out DIR",
        param="model",
    )
