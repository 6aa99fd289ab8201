"""Whether a model's weights are in a format that other tools write, and what follows. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.config import EMBEDDED_MODEL, EngineConfig
from engine.errors import ModelError
from engine.model.files.hub import download
from engine.model.files.source import Source
from engine.model.formats.gguf_checkpoint import FLOATS, is_read, label_of
from engine.model.formats.gguf_file import GgufFile, read_gguf
from engine.model.formats.schemes import Scheme, scheme_of


def packed_source(source: Source) -> tuple[Path, Scheme] | None:
    """The folder and the format of a model that other tools quantised; None for floats, and for what is no folder."""
    folder = source.path
    if source.kind == "hub":
        if not hub_config(source).get("quantization_config"):
            return None
        folder = download(source.name, source.revision)
    elif source.kind != "folder":
        return None
    scheme = None if folder is None else scheme_of(folder)
    return None if folder is None or scheme is None else (folder, scheme)


def packed_gguf(source: Source) -> GgufFile | None:
    """A GGUF file that is read in its own blocks; None for other sources, for architectures whose blocks are not
    placed, and for the embedded model, whose converted copy is there at once."""
    if source.kind != "gguf" or source.path is None or source.name == EMBEDDED_MODEL:
        return None
    file = read_gguf(source.path)
    return file if is_read(file) else None


def packed_label(source: Source) -> str | None:
    """The format of what other tools quantised, folder or GGUF file; None for floats."""
    if (packed := packed_source(source)) is not None:
        return packed[1].label
    file = packed_gguf(source)
    label = None if file is None else label_of(file)
    return None if label in FLOATS else label


def check_asked(config: EngineConfig, name: str, held: str) -> None:
    """ModelError where another quantisation is asked for than the weights have."""
    if config.quantization not in (None, held):
        raise ModelError(
            f"{name} is in {held}, not {config.quantization}: leave quantization out, or quantise the model's 16-bit "
            f"form with: maskloop quantize MODEL --to {config.quantization} --out DIR",
            param="quantization",
        )


def refuse_on_gpu(name: str, held: str) -> ModelError:
    """The error for a format that no GPU kernel reads yet."""
    return ModelError(
        f"{name}: no GPU kernel of this engine reads {held} yet; run it on the CPU (--device cpu), or quantise "
        "the model's 16-bit form with: maskloop quantize MODEL --to nf4 --out DIR",
        param="device",
    )


def hub_config(source: Source) -> dict[str, Any]:
    """The plain config of a model on the hub; empty where there is none."""
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(source.name, "config.json", revision=source.revision)
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except Exception:  # noqa: BLE001 - whatever it is, `from_pretrained` meets it too and its error is the told one
        return {}
    return plain if isinstance(plain, dict) else {}
