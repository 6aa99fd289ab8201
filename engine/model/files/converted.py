"""The converted copy of a GGUF file: made once, kept in the cache folder, opened without Hugging Face's model code.

A GGUF file's blocks are dequantised to fp32 and kept as safetensors beside the config and the tokenizer. Reading the
copy's settings as plain JSON saves 3 s of CPU time: naming a transformers config class imports its distributed and
compiler stacks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CONVERTED = "weights.safetensors"
_MIB = 1 << 20
NEEDED = frozenset(
    {
        "model_type",
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "rms_norm_eps",
        "rope_parameters",
        "hidden_act",
        "tie_word_embeddings",
        "max_position_embeddings",
    }
)
"""What our decoder reads of a config; a file that leaves one of them to its class's default is not read as JSON."""


def converted_gguf(path: Path, cache_dir: Path, progress: Callable[[str], None] | None = None) -> Path:
    """The folder with the dequantised form of a GGUF file, made on first use (half a minute for 135 M weights).

    A folder appears whole or not at all: it is written beside its place and renamed. `progress` is told where it has
    to be made.
    """

    def convert(path: Path, out: Path) -> None:
        if progress:
            progress(f"converting {path.stem}, once")
        _convert(path, out)

    return _made(path, cache_dir / "models" / f"{path.stem}-{_key(path)}", convert)


def described_gguf(path: Path, cache_dir: Path, settings: Any) -> Path:
    """The folder with a GGUF file's tokenizer, chat template and `settings` (a transformers config); no weights."""

    def describe(path: Path, out: Path) -> None:
        _tokenizer(path).save_pretrained(out)
        settings.save_pretrained(out)

    return _made(path, cache_dir / "models" / f"{path.stem}-{_key(path)}-settings", describe)


def _made(path: Path, folder: Path, make: Callable[[Path, Path], None]) -> Path:
    if (folder / "complete").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        make(path, work)
        (work / "complete").touch()
        if folder.exists():
            shutil.rmtree(folder)
        work.replace(folder)
    except OSError as error:
        if (folder / "complete").exists():  # another process finished first
            return folder
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _unwritable(folder: Path, error: OSError) -> ModelError:
    return ModelError(
        f"the converted model could not be written to {folder}: {error.strerror or error}; name another cache folder"
        " (cache_dir, --cache-dir, MASKLOOP_CACHE)",
        param="cache_dir",
    )


def _key(path: Path) -> str:
    """Of the size, the first MiB (header) and the last one (weights): 2 ms, and another file of one name is another."""
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(_MIB)
        file.seek(max(0, size - _MIB))
        ends += file.read()
    return hashlib.sha256(f"{size}:2:".encode() + ends).hexdigest()[:16]


def saved_settings(folder: Path) -> Any | None:
    """The config of a converted copy as attributes, or None where it leaves something to a class's defaults."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return SimpleNamespace(**settings) if settings.keys() >= NEEDED else None


def saved_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every weight by name. In fp32 they are the mapped file's pages: read when they are first used."""
    from safetensors.torch import load_file  # torch only here and where a copy is made: a command may want a tokenizer

    return {name: tensor.to(dtype) for name, tensor in load_file(folder / CONVERTED).items()}


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is about the files the user named
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the tokenizer of {path} could not be read: {first}", param="model") from None


def _convert(path: Path, out: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, GgufConfig, modeling_gguf_pytorch_utils
    from transformers.utils import logging as hf_logging

    bar = modeling_gguf_pytorch_utils.tqdm
    modeling_gguf_pytorch_utils.tqdm = partial(bar, disable=None)  # on terminals alone
    hf_logging.disable_progress_bar()
    where, name = str(path.parent), path.name
    tokenizer = _tokenizer(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            where, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
    except Exception as error:  # noqa: BLE001 - whatever a loader raises is about the files the user named
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} could not be read as GGUF: {first}", param="model") from None
    tokenizer.save_pretrained(out)
    model.config.save_pretrained(out)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(out)
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    save_file(weights, out / CONVERTED, metadata={"source": json.dumps({"file": name, "bytes": path.stat().st_size})})
