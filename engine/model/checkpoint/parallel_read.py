"""Whole files into device memory, in pieces: some threads read, others hash what has been read.

A disk or a network never waits for a hash: readers go on with the next piece as long as there is somewhere to put it.
Hashing 18 GB with sha256 takes 10 s of one core that has the instructions for it; cores share the work.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint.manifest import HASH_CHUNK, WeightFile

READERS = 8
"""Reads in flight: what a Volume or an NVMe disk needs to give all it has."""
ALIGNMENT = 256
"""Bytes; where the data of a file begins in memory, so that kernels may load wide words."""


_REPAIR = "copy the checkpoint again, or make it again with: maskloop quantize MODEL --to Q --out DIR"


@dataclass(frozen=True, slots=True)
class Piece:
    """A file's bytes from `begin` on, as many as `target` takes; at most `HASH_CHUNK`."""

    path: Path
    descriptor: int
    target: Tensor
    begin: int
    digest: str | None = None
    repair: str = _REPAIR
    """What to do where it cannot be read."""


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

    `threads` read and as many as there are cores, 8 at most, hash. Memory: the files once; on a GPU, 16 MiB of pinned
    host memory for each of these threads. ModelError names a file that is missing,
    cut short, too long, unreadable or damaged.
    """
    buffers = [byte_buffer(file.nbytes, start, device) for file, start in zip(files, data_starts, strict=True)]
    descriptors = [os.open(check_size(folder, file), os.O_RDONLY) for file in files]
    try:
        pieces = [
            Piece(folder / file.name, descriptor, part, index * HASH_CHUNK, digest if verify else None)
            for file, descriptor, buffer in zip(files, descriptors, buffers, strict=True)
            for index, (part, digest) in enumerate(zip(buffer.split(HASH_CHUNK), file.chunks, strict=True))
        ]
        with PieceReader(device, threads or READERS) as reader:
            reader.start(pieces)()
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


class PieceReader:
    """Threads that read pieces in the order in which they are started, and hash what has a digest. As a context it
    leaves out what has not begun when an error ends it."""

    def __init__(self, device: torch.device | str, readers: int = READERS) -> None:
        kind, checkers = torch.device(device), min(8, os.cpu_count() or 1)
        self._checks, self._reads = ThreadPoolExecutor(checkers), ThreadPoolExecutor(readers)
        self._places = _InPlace() if kind.type == "cpu" else _Pinned(kind, readers + checkers)

    def start(self, pieces: Sequence[Piece]) -> Callable[[], None]:
        """Begin to read; what is returned waits until all are there, and raises what the first in order raised."""
        reading = [self._reads.submit(_read, piece, self._places, self._checks) for piece in pieces]

        def wait() -> None:
            for read in reading:
                read.result().result()

        return wait

    def __enter__(self) -> PieceReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._reads.shutdown(cancel_futures=kind is not None)
        self._checks.shutdown()


def _read(piece: Piece, places: _InPlace | _Pinned, checks: ThreadPoolExecutor) -> Future[None]:
    """Read one piece; its check goes on elsewhere, and its place is free again when both are done."""
    place = places.take(piece.target)
    try:
        _fill(piece, place.view)
        place.send()
        return checks.submit(_check, piece, place)
    except BaseException:
        place.release()
        raise


def _check(piece: Piece, place: _Place) -> None:
    try:
        if piece.digest is not None and hashlib.sha256(place.view).hexdigest() != piece.digest:
            raise ModelError(
                f"{piece.path} is damaged: bytes {piece.begin} to {piece.begin + len(place.view) - 1} do not have the "
                f"sha256 that the manifest records; {piece.repair}",
                param="model",
            )
    finally:
        place.release()


class _Place:
    """Where a piece is read to on the host."""

    def __init__(self, host: Tensor) -> None:
        self.view = memoryview(host.numpy())  # type: ignore[arg-type]  # arrays are buffers

    def send(self) -> None:
        """Start moving it to the device."""

    def release(self) -> None:
        """It is not needed any more."""


class _InPlace:
    """On a CPU a piece is read to where it stays."""

    def take(self, target: Tensor) -> _Place:
        return _Place(target)


class _Pinned:
    """On a GPU pieces pass through pinned buffers, `limit` of them at most, each with a stream of its own."""

    def __init__(self, device: torch.device, limit: int) -> None:
        self._device, self._left = device, limit
        self._lock = threading.Lock()
        self._free: queue.SimpleQueue[tuple[Tensor, Any]] = queue.SimpleQueue()

    def take(self, target: Tensor) -> _Place:
        """A buffer for this piece; waits for one where all are in use."""
        buffer, stream = self._buffer()
        return _PinnedPlace(buffer[: len(target)], target, stream, lambda: self._free.put((buffer, stream)))

    def _buffer(self) -> tuple[Tensor, Any]:
        with self._lock:
            make = self._free.empty() and self._left > 0
            self._left -= make
        if not make:
            return self._free.get()
        return torch.empty(HASH_CHUNK, dtype=torch.uint8, pin_memory=True), torch.cuda.Stream(self._device)


class _PinnedPlace(_Place):
    def __init__(self, host: Tensor, target: Tensor, stream: Any, free: Callable[[], None]) -> None:
        super().__init__(host)
        self._host, self._target, self._stream, self._free = host, target, stream, free

    def send(self) -> None:
        with torch.cuda.stream(self._stream):
            self._target.copy_(self._host, non_blocking=True)

    def release(self) -> None:
        self._stream.synchronize()
        self._free()


def _fill(piece: Piece, view: Any) -> None:
    done = 0
    while done < len(view):
        try:
            count = os.preadv(piece.descriptor, [view[done:]], piece.begin + done)
        except OSError as error:
            told = f"{piece.path} could not be read: {error.strerror}; {piece.repair}"
            raise ModelError(told, param="model") from None
        if count == 0:
            raise ModelError(f"{piece.path} became shorter while it was read; {piece.repair}", param="model")
        done += count


def byte_buffer(nbytes: int, data_start: int, device: torch.device | str) -> Tensor:
    """Memory for bytes, that from `data_start` on aligned to `ALIGNMENT`."""
    lead = -data_start % ALIGNMENT
    if torch.device(device).type != "cpu":
        return torch.empty(lead + nbytes, dtype=torch.uint8, device=device)[lead:]
    return torch.frombuffer(_huge_pages(lead + nbytes), dtype=torch.uint8)[lead:]


def _huge_pages(nbytes: int) -> mmap.mmap:
    """Fresh memory. In pages of 4 KiB, making them costs as much processor time as reading a fast disk, or hashing."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # a system, or a kernel, without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
