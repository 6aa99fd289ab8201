"""What an engine checkpoint says of itself (`manifest.json`), and weights in memory together with it.

Does not touch weight files (checkpoint.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine import __version__
from engine.errors import ModelError
from engine.model.weights.coding import CODINGS
from engine.model.weights.inventory import PLAIN, Weight
from engine.model.weights.quantized_tensor import FORMATS

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
"""Raised when an older engine could misread a newer checkpoint; older versions stay readable or are refused by name."""
HASH_CHUNK = 16 << 20
"""Bytes under one hash, so that readers in parallel can each check what they read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """One safetensors file: its size, the sha256 that `sha256sum` prints, and one per `HASH_CHUNK` bytes."""

    name: str
    nbytes: int
    sha256: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where weights came from and what they are. `tensors` holds format and shape of every quantised weight, and of nl4
    its codebook."""

    model: str
    revision: str | None = None
    quantization: str = PLAIN
    lm_head: str = PLAIN
    seed: int | None = None
    """Of random weights; None for a real model."""
    calibration: str | None = None
    """sha256 of the token ids that second moments were taken from; None for none."""
    files: tuple[WeightFile, ...] = ()
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    engine_version: str = __version__

    def write(self, folder: Path) -> None:
        """Write `manifest.json`; the last file of a checkpoint, since its presence says that the rest is there."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Weights by the names transformers gives them, on one device; a tied head has no entry of its own."""

    tensors: dict[str, Weight]
    manifest: Manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder. ModelError: absent, damaged, or of a version this engine cannot read."""
    path = folder / MANIFEST
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{folder} is not an engine checkpoint: it has no {MANIFEST}. If quantising was interrupted, run the same "
            "`maskloop quantize` command again",
            param="model",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; {_AGAIN}", param="model") from None
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has format version {version!r}, maskloop {__version__} reads {FORMAT_VERSION}; {_AGAIN}, "
            "or use the engine that wrote it",
            param="model",
        )
    try:
        return _from_plain(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}: {error}); {_AGAIN}", param="model") from None


_AGAIN = "make the checkpoint again with: maskloop quantize MODEL --to Q --out DIR"


def _from_plain(plain: dict[str, Any]) -> Manifest:
    known = {f.name for f in fields(Manifest)}
    files = tuple(WeightFile(**{**entry, "chunks": tuple(entry["chunks"])}) for entry in plain["files"])
    for file in files:
        if Path(file.name).name != file.name or len(file.chunks) != -(-file.nbytes // HASH_CHUNK):
            raise ValueError(f"file entry {file.name!r}")
    for name, entry in plain["tensors"].items():
        if entry["format"] not in FORMATS or len(entry["shape"]) < 2 or min(entry["shape"]) < 1:
            raise ValueError(f"weight entry {name!r}")
        if CODINGS[entry["format"]].fitted and not _is_codebook(entry["codebook"]):
            raise ValueError(f"codebook of {name!r}")
    values = {name: value for name, value in plain.items() if name in known}
    return Manifest(**{**values, "files": files})


def _is_codebook(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) == 16 and all(isinstance(number, float) for number in numbers)
