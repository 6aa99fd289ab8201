"""Whole files into device memory, read by several threads in pieces, each piece hashed before it counts.

Knows bytes and hashes. Does not know tensors (checkpoint.py cuts them out of the result).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.manifest import HASH_CHUNK, WeightFile

ALIGNMENT = 256
"""Bytes; where the data of a file begins in memory, so that kernels may load wide words."""


@dataclass(frozen=True, slots=True)
class _Piece:
    path: Path
    descriptor: int
    target: Tensor
    index: int
    digest: str | None


def read_files(
    folder: Path,
    files: Sequence[WeightFile],
    device: torch.device | str,
    *,
    data_starts: Sequence[int],
    verify: bool = True,
    threads: int | None = None,
) -> list[Tensor]:
    """Each file as uint8 [nbytes] on `device`; byte `data_starts[i]` of file i is aligned to `ALIGNMENT`.

    Memory: the files once; on a GPU, 16 MiB of pinned host memory a thread. ModelError names a file that is missing,
    cut short, too long, unreadable or damaged.
    """
    buffers = [_buffer(file.nbytes, start, device) for file, start in zip(files, data_starts, strict=True)]
    descriptors = [os.open(check_size(folder, file), os.O_RDONLY) for file in files]
    try:
        pieces = [
            _Piece(folder / file.name, descriptor, buffer, index, digest if verify else None)
            for file, descriptor, buffer in zip(files, descriptors, buffers, strict=True)
            for index, digest in enumerate(file.chunks)
        ]
        reader = _Reader(torch.device(device))
        with ThreadPoolExecutor(threads or min(16, max(4, os.cpu_count() or 4))) as pool:
            for _ in pool.map(reader.read, pieces):
                pass
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return buffers


def check_size(folder: Path, file: WeightFile) -> Path:
    """The file's path, if it is there and as long as the manifest says."""
    path = folder / file.name
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path} is missing or unreadable ({error.strerror}); {_REPAIR}", param="model") from None
    if found != file.nbytes:
        word = "truncated" if found < file.nbytes else "too long"
        raise ModelError(f"{path} is {word}: {found} bytes, the manifest says {file.nbytes}; {_REPAIR}", param="model")
    return path


_REPAIR = "copy the checkpoint again, or make it again with: maskloop quantize MODEL --to Q --out DIR"


class _Reader:
    """Reads one piece at a time in each thread; a GPU's pieces pass through pinned memory that the thread owns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own = threading.local()

    def read(self, piece: _Piece) -> None:
        target = piece.target[piece.index * HASH_CHUNK : (piece.index + 1) * HASH_CHUNK]
        staged = target if self._device.type == "cpu" else self._staging()[: len(target)]
        view = memoryview(staged.numpy())  # type: ignore[arg-type]  # arrays are buffers
        _fill(piece, view)
        if piece.digest is not None and hashlib.sha256(view).hexdigest() != piece.digest:
            first = piece.index * HASH_CHUNK
            raise ModelError(
                f"{piece.path} is damaged: bytes {first} to {first + len(view) - 1} do not have the sha256 that the "
                f"manifest records; {_REPAIR}",
                param="model",
            )
        if staged is not target:
            with torch.cuda.stream(self._own.stream):
                target.copy_(staged, non_blocking=True)
            self._own.stream.synchronize()

    def _staging(self) -> Tensor:
        if not hasattr(self._own, "buffer"):
            self._own.buffer = torch.empty(HASH_CHUNK, dtype=torch.uint8, pin_memory=True)
            self._own.stream = torch.cuda.Stream(self._device)
        buffer: Tensor = self._own.buffer
        return buffer


def _fill(piece: _Piece, view: Any) -> None:
    done = 0
    while done < len(view):
        try:
            count = os.preadv(piece.descriptor, [view[done:]], piece.index * HASH_CHUNK + done)
        except OSError as error:
            raise ModelError(f"{piece.path} could not be read: {error.strerror}; {_REPAIR}", param="model") from None
        if count == 0:
            raise ModelError(f"{piece.path} became shorter while it was read; {_REPAIR}", param="model")
        done += count


def _buffer(nbytes: int, data_start: int, device: torch.device | str) -> Tensor:
    lead = -data_start % ALIGNMENT
    return torch.empty(lead + nbytes, dtype=torch.uint8, device=device)[lead:]
