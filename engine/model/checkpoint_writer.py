"""Writes an engine checkpoint as weights arrive: a few large safetensors files, the manifest last, then one rename.

Until that rename everything lies in `OUT.partial`, which no loader accepts. An interrupted write leaves it there with
`progress.json`; a writer of the same source and settings goes on after the last finished file. Knows no model.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import ModelError
from engine.model.inventory import Weight
from engine.model.manifest import HASH_CHUNK, MANIFEST, Manifest, WeightFile
from engine.model.quantized_tensor import QuantizedTensor

FILE_BYTES = 2 << 30
"""A file is written when this much has gathered: the writer's own memory, and what an interruption can lose."""
_PROGRESS = "progress.json"


class CheckpointWriter:
    """`add` weights in any order, then `finish`. One writer per output folder at a time."""

    def __init__(self, out: Path, manifest: Manifest, *, source_key: str = "", file_bytes: int = FILE_BYTES) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ModelError(f"{out} exists and is not empty; choose another --out or remove it", param="out")
        self.out = out
        self.work = out.parent / f"{out.name}.partial"
        self.manifest = manifest
        self.done: set[str] = set()
        """Names that finished files of an earlier, interrupted run already hold; `add` must not be called for them."""
        self._file_bytes = file_bytes
        self._pending: dict[str, Tensor] = {}
        self._pending_names: list[str] = []
        self._pending_bytes = 0
        self._key = hashlib.sha256(json.dumps([source_key, asdict(manifest)]).encode()).hexdigest()
        self._resume()

    def require_space(self, nbytes: int) -> None:
        """ModelError now rather than after an hour where the disk cannot take `nbytes` more."""
        free = shutil.disk_usage(self.work).free
        written = sum(file.nbytes for file in self.manifest.files)
        if nbytes - written > free:
            raise ModelError(
                f"not enough disk space at {self.work}: about {_gib(nbytes - written)} needed, {_gib(free)} free",
                param="out",
            )

    def add(self, name: str, weight: Weight) -> None:
        """Take one weight (copied to the CPU); writes a file when enough has gathered."""
        if isinstance(weight, QuantizedTensor):
            entry = {"format": weight.format, "shape": list(weight.shape)}
            self.manifest = replace(self.manifest, tensors={**self.manifest.tensors, name: entry})
            parts = {f"{name}.{part}": tensor for part, tensor in weight.parts().items()}
        else:
            parts = {name: weight}
        for key, tensor in parts.items():
            self._pending[key] = tensor.detach().cpu().contiguous()
            self._pending_bytes += tensor.nbytes
        self._pending_names.append(name)
        if self._pending_bytes >= self._file_bytes:
            self._flush()

    def copy(self, file: Path, name: str) -> None:
        """Take a file that belongs to the model (config, tokenizer) as it is."""
        with _disk_errors(self.work / name):
            shutil.copyfile(file, self.work / name)

    def finish(self) -> Manifest:
        """Write what is left and the manifest, and give the folder its name."""
        self._flush()
        with _disk_errors(self.work / MANIFEST):
            (self.work / _PROGRESS).unlink(missing_ok=True)
            self.manifest.write(self.work)
            _sync(self.work / MANIFEST)
            if self.out.exists():
                self.out.rmdir()
            self.work.replace(self.out)
            _sync(self.out.parent)
        return self.manifest

    def _resume(self) -> None:
        with _disk_errors(self.work):
            progress = _read_json(self.work / _PROGRESS)
            if progress.get("key") != self._key:
                shutil.rmtree(self.work, ignore_errors=True)
                self.work.mkdir(parents=True)
                return
        files = tuple(WeightFile(**{**entry, "chunks": tuple(entry["chunks"])}) for entry in progress["files"])
        self.manifest = replace(self.manifest, files=files, tensors=progress["tensors"])
        self.done = set(progress["done"])

    def _flush(self) -> None:
        if not self._pending:
            return
        path = self.work / f"weights-{len(self.manifest.files):05d}.safetensors"
        with _disk_errors(path):
            save_file(self._pending, path)
            path.chmod(0o644)  # safetensors makes private files; a checkpoint may be served by another user
            _sync(path)
            self.manifest = replace(self.manifest, files=(*self.manifest.files, describe(path)))
            self.done.update(self._pending_names)
            self._write_progress()
        self._pending, self._pending_names, self._pending_bytes = {}, [], 0

    def _write_progress(self) -> None:
        state = {
            "key": self._key,
            "files": [asdict(file) for file in self.manifest.files],
            "tensors": self.manifest.tensors,
            "done": sorted(self.done),
        }
        beside = self.work / f"{_PROGRESS}.new"
        beside.write_text(json.dumps(state), encoding="utf-8")
        beside.replace(self.work / _PROGRESS)


def describe(path: Path) -> WeightFile:
    """Size and hashes of a file, read once."""
    whole = hashlib.sha256()
    chunks = []
    with path.open("rb") as file:
        while block := file.read(HASH_CHUNK):
            whole.update(block)
            chunks.append(hashlib.sha256(block).hexdigest())
    return WeightFile(name=path.name, nbytes=path.stat().st_size, sha256=whole.hexdigest(), chunks=tuple(chunks))


class _disk_errors:  # noqa: N801 - reads as a statement: `with _disk_errors(path):`
    """Turns what a full or unwritable disk raises into a ModelError that says what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, OSError | SafetensorError):
            return
        full = getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in str(error)
        reason = "the disk is full" if full else str(error)
        raise ModelError(
            f"{self._path} could not be written: {reason}. Free space or choose another --out, then run the same "
            "command again: files already finished are kept",
            param="out",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB"
