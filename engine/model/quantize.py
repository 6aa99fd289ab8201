"""A model on disk turned into an engine checkpoint, weight by weight, so that it never exists whole in memory.

`quantize` takes any model name the engine knows; `quantize_checkpoint` a Hugging Face folder. An interrupted run
leaves nothing that loads, and the same call goes on after the last finished file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from engine.config import QUANTIZATIONS, default_cache_dir
from engine.errors import ModelError, RequestError
from engine.model.checkpoint.checkpoint import save_checkpoint
from engine.model.checkpoint.checkpoint_writer import FILE_BYTES, CheckpointWriter
from engine.model.checkpoint.manifest import Manifest
from engine.model.files.hub import download
from engine.model.files.settings import read_config
from engine.model.files.source import Source, resolve
from engine.model.files.source_checkpoint import SourceCheckpoint
from engine.model.formats.packed_source import packed_label
from engine.model.hf.quantized_model import empty_model, stored_names
from engine.model.hf.random_weights import random_weights
from engine.model.loader import choose_device
from engine.model.weights.inventory import PLAIN, quantize_named, wanted_format
from engine.model.weights.quantized_tensor import part_shapes

Progress = Callable[[int, int, str], None]
"""Called after each weight with (weights done, weights in all, name); counts are single numbers, not tensors."""

Notice = Callable[[str], None]
"""Called with a line for people."""

_EXTRAS = ("*.json", "*.txt", "*.jinja", "*.model")
_NOT_EXTRAS = frozenset({"model.safetensors.index.json", "manifest.json", "progress.json"})


def quantize(
    model: str,
    to: str,
    out: Path | str,
    *,
    revision: str | None = None,
    lm_head: str = PLAIN,
    device: str = "cpu",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Manifest:
    """Make an engine checkpoint at `out` from a model name; the work of `maskloop quantize`.

    `device` is where the arithmetic runs (`auto`: a GPU if there is one). ModelError: not a source of full weights,
    damaged, `out` taken, disk full.
    """
    source, device = resolve(model, revision), choose_device(device)
    if source.kind == "checkpoint":
        raise ModelError(f"{model} is an engine checkpoint already; quantise the model it was made from", param="model")
    if (held := packed_label(source)) is not None:
        raise ModelError(f"{model} is quantised already ({held}); start from its bf16 form", param="model")
    if source.kind == "random" and source.path is not None:
        return _quantize_random(source.path, to, Path(out), lm_head, device)
    folder = local_folder(source, cache_dir or default_cache_dir())
    return quantize_checkpoint(
        folder, out, to, lm_head=lm_head, device=device, progress=progress, notice=notice, model=source.name,
        revision=source.revision,
    )  # fmt: skip


def quantize_checkpoint(
    source_folder: Path | str,
    out: Path | str,
    quantization: str,
    *,
    lm_head: str = PLAIN,
    device: str = "cpu",
    progress: Progress | None = None,
    notice: Notice | None = None,
    model: str | None = None,
    revision: str | None = None,
    file_bytes: int = FILE_BYTES,
) -> Manifest:
    """Quantise a Hugging Face folder. Memory: one weight of the model (with the pieces it is merged from), its
    quantised form, and `file_bytes` waiting to be written."""
    folder = Path(source_folder)
    _check_formats(quantization, lm_head)
    shape = empty_model(read_config(folder))
    source = SourceCheckpoint(folder, shape)
    names = stored_names(shape, lm_head)
    source.require(names)
    manifest = Manifest(model=model or folder.name, revision=revision, quantization=quantization, lm_head=lm_head)
    writer = CheckpointWriter(Path(out), manifest, source_key=source.identity, file_bytes=file_bytes)
    counts = {name: shape.get_parameter(name).numel() for name in names}
    needed = sum(_bytes_of(shape.get_parameter(name), name, quantization, lm_head) for name in names)
    if notice is not None and (short := writer.short_of_space(needed)):
        notice(short)
    done, total = 0, sum(counts.values())
    for name in names:
        if name not in writer.done:
            weight = source.read(name)
            wanted = wanted_format(name, weight.ndim, quantization, lm_head)
            writer.add(name, weight if wanted == PLAIN else quantize_named(name, weight.to(device), wanted))
        done += counts[name]
        if progress is not None:
            progress(done, total, name)
    for file in _extras(folder):
        writer.copy(file, file.name)
    return writer.finish()


def _check_formats(quantization: str, lm_head: str) -> None:
    for name, value in (("quantization", quantization), ("lm_head", lm_head)):
        if value not in QUANTIZATIONS:
            raise RequestError(f"{name} {value!r} is not one of {', '.join(QUANTIZATIONS)}", param=name)


def local_folder(source: Source, cache_dir: Path) -> Path:
    """The folder with a source's float weights: downloaded from the hub or dequantised from GGUF where need be."""
    if source.kind == "gguf" and source.path is not None:
        from engine.model.files.converted import converted_gguf

        return converted_gguf(source.path, cache_dir)
    if source.path is not None:
        return source.path
    return download(source.name, source.revision)


def _quantize_random(config_file: Path, to: str, out: Path, lm_head: str, device: str) -> Manifest:
    _check_formats(to, lm_head)
    loaded = random_weights(read_config(config_file), to, device, 0, lm_head=lm_head)
    extras = {file.name: file for file in _extras(config_file.parent)} | {"config.json": config_file}
    return save_checkpoint(out, loaded.tensors, loaded.manifest, extras=extras)


def _extras(folder: Path) -> Iterable[Path]:
    """Config and tokenizer files, which a checkpoint carries along."""
    return sorted({file for pattern in _EXTRAS for file in folder.glob(pattern) if file.name not in _NOT_EXTRAS})


def _bytes_of(parameter: torch.Tensor, name: str, quantization: str, lm_head: str) -> int:
    wanted = wanted_format(name, parameter.ndim, quantization, lm_head)
    if wanted == PLAIN:
        return parameter.numel() * 2
    sizes = part_shapes(tuple(parameter.shape), wanted).values()
    return sum(torch.empty(size, dtype=dtype, device="meta").nbytes for size, dtype in sizes)
