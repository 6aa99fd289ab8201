"""A model on disk turned into an engine checkpoint, weight by weight, so that it never exists whole in memory.

`quantize` takes any model name the engine knows; `quantize_checkpoint` a Hugging Face folder. An interrupted run
leaves nothing that loads, and the same call goes on after the last finished file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from engine.config import QUANTIZATIONS, default_cache_dir
from engine.errors import ModelError, RequestError
from engine.model.architecture.shape import RECURRENT, is_supported
from engine.model.checkpoint.checkpoint import save_checkpoint
from engine.model.checkpoint.checkpoint_writer import FILE_BYTES, CheckpointWriter
from engine.model.checkpoint.manifest import Manifest
from engine.model.files.hub import download
from engine.model.files.settings import read_config
from engine.model.files.source import Source, resolve
from engine.model.files.source_checkpoint import SourceCheckpoint
from engine.model.formats.packed_source import packed_label
from engine.model.hf.calibration import Calibration, windows_of
from engine.model.hf.quantized_model import empty_model, stored_names
from engine.model.hf.random_weights import random_weights
from engine.model.loader import choose_device
from engine.model.tokenizer import load_tokenizer
from engine.model.weights.coding import CODINGS
from engine.model.weights.inventory import PLAIN, quantize_named, wanted_format
from engine.model.weights.quantized_tensor import empty_quantized

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
    calibrate: Sequence[str] = (),
    device: str = "cpu",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Manifest:
    """Make an engine checkpoint at `out` from a model name; the work of `maskloop quantize`.

    `device` is where the arithmetic runs (`auto`: a GPU if there is one). `calibrate` are prompts, for `nl4`: what the
    weights are multiplied with in them decides which errors matter. ModelError: not a source of full weights, damaged,
    `out` taken, disk full.
    """
    _check_formats(to, lm_head, calibrate)
    source, device = resolve(model, revision), choose_device(device)
    if source.kind == "checkpoint":
        raise ModelError(f"{model} is an engine checkpoint already; quantise the model it was made from", param="model")
    if (held := packed_label(source)) is not None:
        raise ModelError(f"{model} is quantised already ({held}); start from its bf16 form", param="model")
    if source.kind == "random" and source.path is not None:
        if calibrate:
            raise RequestError("random weights have nothing to calibrate", param="calibrate")
        return _quantize_random(source.path, to, Path(out), lm_head, device)
    folder = local_folder(source, cache_dir or default_cache_dir())
    return quantize_checkpoint(
        folder, out, to, lm_head=lm_head, calibrate=calibrate, device=device, progress=progress, notice=notice,
        model=source.name, revision=source.revision,
    )  # fmt: skip


def quantize_checkpoint(
    source_folder: Path | str,
    out: Path | str,
    quantization: str,
    *,
    lm_head: str = PLAIN,
    calibrate: Sequence[str] = (),
    device: str = "cpu",
    progress: Progress | None = None,
    notice: Notice | None = None,
    model: str | None = None,
    revision: str | None = None,
    file_bytes: int = FILE_BYTES,
) -> Manifest:
    """Quantise a Hugging Face folder. Memory: one weight of the model (with the pieces it is merged from), its
    quantised form, and `file_bytes` waiting to be written; with `calibrate` one layer in fp32 and its moments too."""
    _check_formats(quantization, lm_head, calibrate)
    shape, source, names = _opened(folder := Path(source_folder), lm_head, notice)
    moments, digest = _calibration(folder, shape, source, calibrate, device)
    manifest = Manifest(
        model=model or folder.name, revision=revision, quantization=quantization, lm_head=lm_head, calibration=digest
    )
    writer = CheckpointWriter(Path(out), manifest, source_key=source.identity, file_bytes=file_bytes)
    counts = {name: shape.get_parameter(name).numel() for name in names}
    if notice is not None and (short := writer.short_of_space(_bytes_of(shape, names, quantization, lm_head))):
        notice(short)
    done = 0
    for name in names:
        if name not in writer.done:
            read = source.read(name)
            wanted = wanted_format(name, read.ndim, quantization, lm_head)
            rounded = None if wanted == PLAIN else quantize_named(name, read.to(device), wanted, moments(name))
            writer.add(name, read if rounded is None else rounded)
        done += counts[name]
        if progress is not None:
            progress(done, sum(counts.values()), name)
    for file in _extras(folder):
        writer.copy(file, file.name)
    return writer.finish()


def _opened(folder: Path, lm_head: str, notice: Notice | None) -> tuple[PreTrainedModel, SourceCheckpoint, list[str]]:
    """The model on meta, its weights on disk, and the names of those that a checkpoint holds."""
    shape = empty_model(read_config(folder))
    source = SourceCheckpoint(folder, shape)
    names = stored_names(shape, lm_head)
    source.require(names)
    if notice is not None and source.skipped:
        notice(source.skipped)
    return shape, source, names


def _check_formats(quantization: str, lm_head: str, calibrate: Sequence[str] = ()) -> None:
    for name, value in (("quantization", quantization), ("lm_head", lm_head)):
        if value not in QUANTIZATIONS:
            raise RequestError(f"{name} {value!r} is not one of {', '.join(QUANTIZATIONS)}", param=name)
    if calibrate and not (quantization in CODINGS and CODINGS[quantization].fitted):
        raise RequestError(f"{quantization} rounds each weight by itself; only nl4 is calibrated", param="calibrate")


def _calibration(
    folder: Path, model: PreTrainedModel, source: SourceCheckpoint, prompts: Sequence[str], device: str
) -> tuple[Callable[[str], Tensor | None], str | None]:
    """What gives a weight's second moments, and the sha256 of the token ids that they are of; nothing without prompts.

    Prompts go through the chat template where the model has one.
    """
    if not prompts:
        return (lambda _: None), None
    if not is_supported(model.config) or model.config.model_type in RECURRENT:
        raise ModelError(
            f"calibration goes through models of the Llama, Qwen2, Qwen3 and Qwen3-MoE kind, not "
            f"{model.config.model_type!r}; quantise without it",
            param="calibrate",
        )
    tokenizer = load_tokenizer(folder)
    as_chat = tokenizer.has_chat_template
    texts = (tokenizer.chat([{"role": "user", "content": p}]) if as_chat else tokenizer.encode(p) for p in prompts)
    windows = windows_of(texts, tokenizer.stop_token_ids[0])
    digest = hashlib.sha256(windows.numpy().tobytes()).hexdigest()
    return Calibration(model, source.read, windows, device).moments, digest


def local_folder(source: Source, cache_dir: Path) -> Path:
    """The folder with a source's float weights: downloaded from the hub or dequantised from GGUF where need be."""
    if source.kind == "gguf" and source.path is not None:
        from engine.model.files.converted import converted_gguf

        return converted_gguf(source.path, cache_dir)
    if source.path is not None:
        return source.path
    return download(source.name, source.revision)


def _quantize_random(config_file: Path, to: str, out: Path, lm_head: str, device: str) -> Manifest:
    loaded = random_weights(read_config(config_file), to, device, 0, lm_head=lm_head)
    extras = {file.name: file for file in _extras(config_file.parent)} | {"config.json": config_file}
    return save_checkpoint(out, loaded.tensors, loaded.manifest, extras=extras)


def _extras(folder: Path) -> Iterable[Path]:
    """Config and tokenizer files, which a checkpoint carries along."""
    return sorted({file for pattern in _EXTRAS for file in folder.glob(pattern) if file.name not in _NOT_EXTRAS})


def _bytes_of(model: PreTrainedModel, names: Iterable[str], quantization: str, lm_head: str) -> int:
    """What these weights take in the formats they get."""
    total = 0
    for name in names:
        parameter = model.get_parameter(name)
        wanted = wanted_format(name, parameter.ndim, quantization, lm_head)
        if wanted == PLAIN:
            total += parameter.numel() * 2
        else:
            total += empty_quantized(tuple(parameter.shape), wanted, "meta").nbytes
    return total
