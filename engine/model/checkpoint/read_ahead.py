"""A model's weights taken one by one, as their bytes arrive on a device: while a layer's weights are taken apart and
laid out there, the next layers' bytes are read.

What files hold is moved as it is; what it means is worked out on the device by the readers of `formats`, the same that
a CPU runs. Memory on the device beside what is taken: three layers' bytes.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.model.checkpoint.manifest import HASH_CHUNK
from engine.model.checkpoint.parallel_read import ALIGNMENT, Piece, PieceReader, byte_buffer
from engine.model.files.places import DOWNLOAD, Place
from engine.model.weights.inventory import AnyWeight

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_AHEAD = 2
"""Groups whose bytes are under way while one is worked on."""
_GAP = 1 << 16
"""Bytes between two tensors that are read along rather than left out."""


class Packed(Protocol):
    """A checkpoint whose weights are made of tensors that may lie in memory already."""

    held: dict[str, Tensor]

    def places(self, name: str) -> dict[str, Place]: ...

    def read_weight(self, name: str) -> AnyWeight: ...


class ReadAhead(MutableMapping[str, AnyWeight]):
    """Weights by name, each read when it is taken out (`pop`). They should be taken layer by layer, then the others:
    in any other order all bytes up to a weight are in memory at once."""

    def __init__(self, checkpoint: Packed, names: Iterable[str], device: torch.device | str) -> None:
        self._checkpoint = checkpoint
        self._left = dict.fromkeys(sorted(names, key=_layer))
        groups = [
            {key: place for name in of_layer for key, place in checkpoint.places(name).items()}
            for _, of_layer in groupby(self._left, _layer)
        ]
        self._group = {name: at for at, (_, own) in enumerate(groupby(self._left, _layer)) for name in own}
        self._arriving, self._arrived = arriving(groups, device), 0
        self.told: dict[str, AnyWeight] = {}
        """What was taken, without its numbers."""

    def __getitem__(self, name: str) -> AnyWeight:
        del self._left[name]
        while self._arrived <= self._group[name]:
            self._checkpoint.held |= next(self._arriving)
            self._arrived += 1
        weight = self._checkpoint.read_weight(name)
        self.told[name] = weight.to("meta")
        return weight

    def __delitem__(self, name: str) -> None:
        """It is gone when it has been taken."""

    def __setitem__(self, name: str, weight: AnyWeight) -> None:
        raise TypeError("weights are read, not set")

    def __contains__(self, name: object) -> bool:
        return name in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(self._left)

    def __len__(self) -> int:
        return len(self._left)


def _layer(name: str) -> tuple[bool, int]:
    """Layers in order, then what is beside them."""
    match = _LAYER.match(name)
    return (match is None, int(match[1]) if match else 0)


def arriving(groups: Iterable[Mapping[str, Place]], device: torch.device | str) -> Iterator[dict[str, Tensor]]:
    """The tensors of one group after the other on `device`, the next groups' bytes under way. ModelError names a file
    that is cut short or unreadable."""
    with ExitStack() as files, PieceReader(device) as reader:
        opened: dict[Path, int] = {}

        def descriptor(path: Path) -> int:
            if path not in opened:
                opened[path] = os.open(path, os.O_RDONLY)
                files.callback(os.close, opened[path])
            return opened[path]

        under_way: deque[Callable[[], dict[str, Tensor]]] = deque()
        for group in groups:
            under_way.append(_begin(group, device, reader, descriptor))
            if len(under_way) > _AHEAD:
                yield under_way.popleft()()
        while under_way:
            yield under_way.popleft()()


def _begin(
    group: Mapping[str, Place], device: torch.device | str, reader: PieceReader, descriptor: Callable[[Path], int]
) -> Callable[[], dict[str, Tensor]]:
    """Start to read a group; what is returned waits for its tensors."""
    runs = _runs(group)
    starts = [0]
    for run in runs:
        starts.append(starts[-1] + -(-(run[-1][1].end - run[0][1].begin) // ALIGNMENT) * ALIGNMENT)
    with torch.inference_mode(mode=False):  # other threads write to it
        buffer = byte_buffer(starts[-1], 0, device)
    if buffer.is_cuda:
        torch.cuda.current_stream(buffer.device).synchronize()  # what lay there before is not in use any more
    pieces, tensors = [], {}
    for run, start in zip(runs, starts, strict=False):
        first, path = run[0][1].begin, run[0][1].path
        bytes_of_run = buffer[start : start + run[-1][1].end - first]
        for at, target in enumerate(bytes_of_run.split(HASH_CHUNK)):
            pieces.append(Piece(path, descriptor(path), target, first + at * HASH_CHUNK, repair=DOWNLOAD))
        for key, place in run:
            tensors[key] = _cut(bytes_of_run[place.begin - first : place.end - first], place)
    wait = reader.start(pieces)

    def arrived() -> dict[str, Tensor]:
        wait()
        return {key: cut() for key, cut in tensors.items()}

    return arrived


def _runs(group: Mapping[str, Place]) -> list[list[tuple[str, Place]]]:
    """Tensors that lie beside each other in one file, in its order."""
    runs: list[list[tuple[str, Place]]] = []
    for key, place in sorted(group.items(), key=lambda item: (item[1].path, item[1].begin, item[1].end)):
        last = runs[-1][-1][1] if runs else None
        if last is None or last.path != place.path or not 0 <= place.begin - last.end <= _GAP:
            runs.append([])
        runs[-1].append((key, place))
    return runs


def _cut(part: Tensor, place: Place) -> Callable[[], Tensor]:
    """The tensor that these bytes are, once they are there; in memory of its own where its numbers would not lie as
    they must."""

    def tensor() -> Tensor:
        aligned = part if part.storage_offset() % place.dtype.itemsize == 0 else part.clone()
        return aligned.view(place.dtype).view(place.shape)

    return tensor
