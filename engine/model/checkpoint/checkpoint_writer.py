"""Writes an engine checkpoint as weights arrive: a few large safetensors files, the manifest last, then one rename.

Until that rename everything lies in `OUT.partial`, which no loader accepts. An interrupted write leaves it there with
`progress.json`; a writer of the same source and settings goes on after the last finished file. Knows no model.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
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
from engine.model.checkpoint.manifest import HASH_CHUNK, MANIFEST, Manifest, WeightFile
from engine.model.checkpoint.target import require_free
from engine.model.weights.inventory import Weight
from engine.model.weights.quantized_tensor import QuantizedTensor

FILE_BYTES = 2 << 30
"""A file is written when this much has gathered: the writer's own memory, and what an interruption can lose."""
_PROGRESS = "progress.json"
_FILE_NAME = "weights-{:05d}.safetensors"


class CheckpointWriter:
    """`add` weights in any order, then `finish`. One writer per output folder at a time."""

    def __init__(self, out: Path, manifest: Manifest, *, source_key: str = "", file_bytes: int = FILE_BYTES) -> None:
        require_free(out)
        self.out = out
        self.work = out.parent / f"{out.name}.partial"
        self.manifest = manifest
        self.done: set[str] = set()
        """Names that finished files of an earlier, interrupted run already hold; `add` must not be called for them."""
        self._file_bytes = file_bytes
        self._names: dict[str, list[str]] = {}
        """Of the weights in each finished file."""
        self._pending: dict[str, Tensor] = {}
        self._pending_names: list[str] = []
        self._pending_bytes = 0
        self._key = hashlib.sha256(json.dumps([source_key, asdict(manifest)]).encode()).hexdigest()
        self._resume()

    def short_of_space(self, nbytes: int) -> str | None:
        """What to tell where the disk seems to lack room for `nbytes` in all. A network mount may say anything, so this
        refuses nothing: a disk that does become full keeps what was finished."""
        free = shutil.disk_usage(self.work).free
        needed = nbytes - sum(file.nbytes for file in self.manifest.files)
        if needed <= free:
            return None
        return f"{self.work} seems to have {_gib(free)} free, about {_gib(needed)} are needed; going on"

    def add(self, name: str, weight: Weight) -> None:
        """Take one weight (copied to the CPU); writes a file when enough has gathered."""
        if isinstance(weight, QuantizedTensor):
            entry: dict[str, Any] = {"format": weight.format, "shape": list(weight.shape)}
            if weight.coding.fitted:
                entry["codebook"] = weight.codebook.tolist()
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
            self._names = dict(progress["names"])
            told = [WeightFile(**{**entry, "chunks": tuple(entry["chunks"])}) for entry in progress["files"]]
            files = tuple(file for file in told if self._is_whole(file))
        self.manifest = replace(self.manifest, files=files, tensors=progress["tensors"])
        self.done = {name for file in files for name in self._names[file.name]}

    def _is_whole(self, file: WeightFile) -> bool:
        """Whether a finished file is still what it was: a mount that lost power or contact may have half of it."""
        path = self.work / file.name
        return path.is_file() and describe(path) == file

    def _flush(self) -> None:
        if not self._pending:
            return
        taken = {file.name for file in self.manifest.files}
        path = self.work / next(name for name in map(_FILE_NAME.format, itertools.count()) if name not in taken)
        with _disk_errors(path):
            save_file(self._pending, path)
            path.chmod(0o644)  # safetensors makes private files; a checkpoint may be served by another user
            _sync(path)
            self.manifest = replace(self.manifest, files=(*self.manifest.files, describe(path)))
            self.done.update(self._pending_names)
            self._names[path.name] = self._pending_names
            self._write_progress()
        self._pending, self._pending_names, self._pending_bytes = {}, [], 0

    def _write_progress(self) -> None:
        state = {
            "key": self._key,
            "files": [asdict(file) for file in self.manifest.files],
            "tensors": self.manifest.tensors,
            "names": self._names,
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
    """Ask for it to be on the disk; a mount that has no such thing for this kind of file is not asked again."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB"
