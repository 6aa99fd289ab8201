"""A GGUF file, or all files of a split one: settings and where each tensor lies. Maps files; reads no tensor.

Written from the format's specification (version 3; 2 is read alike). A settings' array of strings, the vocabulary for
one, is passed over and gives its length: tokenizers are made by whoever needs them.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from engine.errors import ModelError
from engine.model.files.places import Place

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("f32", 1, 4), 1: ("f16", 1, 2), 30: ("bf16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 12: ("q4_k", 256, 144), 13: ("q5_k", 256, 176),
    14: ("q6_k", 256, 210),
}  # fmt: skip
"""Of the types that are read: name, elements and bytes of a block."""
_REFUSED = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    40: "NVFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """`data` are the tensor's bytes [rows, bytes of a row], mapped, and `place` where they lie; `shape` is in torch's
    order."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[np.uint8]]
    place: Place


@dataclass(frozen=True, slots=True)
class GgufFile:
    """`settings` are those of the first file."""

    path: Path
    settings: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path) -> GgufFile:
    """All files of a model, whichever of them is named. ModelError: damaged, a part is absent, a type is not read."""
    first, *others = (_Reader(part).read() for part in _parts(path))
    tensors = dict(first.tensors)
    for other in others:
        tensors |= other.tensors
    count = int(first.settings.get("split.tensors.count", len(tensors)))
    if count != len(tensors):
        raise ModelError(f"{path}: {len(tensors)} tensors were found, its first file says {count}", param="model")
    return GgufFile(path, first.settings, tensors)


def _parts(path: Path) -> list[Path]:
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    names = [f"{match[1]}-{index:05d}-of-{match[3]}.gguf" for index in range(1, int(match[3]) + 1)]
    for part in (path.parent / name for name in names):
        if not part.is_file():
            raise ModelError(f"{part} is missing: {path.name} is one of {len(names)} files", param="model")
    return [path.parent / name for name in names]


class _Reader:
    """One file, from front to back."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0
        self._bytes = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
        self._view = self._bytes.data

    def read(self) -> GgufFile:
        try:
            return self._read()
        except (struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
            self._refuse(f"its header is damaged ({error})")

    def _read(self) -> GgufFile:
        if bytes(self._view[:4]) != b"GGUF":
            self._refuse("it does not begin as GGUF files do")
        self._at = 4
        version = self._number("I")
        if version not in (2, 3):
            self._refuse(f"version {version} is not read (2 and 3 are)")
        tensors, settings = self._number("Q"), self._number("Q")
        told = {self._string(): self._value(self._number("I")) for _ in range(settings)}
        entries = [self._entry() for _ in range(tensors)]
        unit = int(told.get("general.alignment", 32))
        start = -(-self._at // unit) * unit
        found = {entry[0]: self._tensor(start, *entry) for entry in entries}
        return GgufFile(self._path, told, found)

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        sizes = [self._number("Q") for _ in range(self._number("I"))]
        return name, tuple(reversed(sizes)), self._number("I"), self._number("Q")

    def _tensor(self, start: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
        if kind not in TYPES:
            self._refuse(f"{name} is {_REFUSED.get(kind, f'of type {kind}')}, which is not read ({_known()} are)")
        type_name, elements, nbytes = TYPES[kind]
        if not shape or shape[-1] % elements:
            self._refuse(f"{name} has rows of {shape[-1] if shape else 0}, which blocks of {elements} do not fill")
        row = shape[-1] // elements * nbytes
        size = math.prod(shape[:-1]) * row
        if start + offset + size > len(self._bytes):
            self._refuse(f"{name} lies behind its end; the file is cut short")
        data = self._bytes[start + offset : start + offset + size].reshape(-1, row)
        return GgufTensor(name, type_name, shape, data, Place(self._path, start + offset, torch.uint8, data.shape))

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            self._refuse(f"a setting has the unknown type {kind}")
        inner, count = self._number("I"), self._number("Q")
        if inner in _SCALARS:
            return [self._number(_SCALARS[inner]) for _ in range(count)]
        if inner != _STRING:
            self._refuse("a setting is an array of arrays")
        for _ in range(count):
            length = self._number("Q")
            self._at += length
        return count

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._view, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _string(self) -> str:
        length = self._number("Q")
        if length > len(self._view) - self._at:
            self._refuse("its header is damaged (a text runs past its end)")
        self._at += length
        return bytes(self._view[self._at - length : self._at]).decode()

    def _refuse(self, reason: str) -> NoReturn:
        raise ModelError(f"{self._path}: {reason}", param="model")


def _known() -> str:
    return ", ".join(name.upper() for name, _, _ in TYPES.values())
