"""Where tensors lie in files, read from safetensors' headers; no tensor is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.errors import ModelError

DTYPES = {
    "U8": torch.uint8, "I8": torch.int8, "I32": torch.int32, "I64": torch.int64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """The bytes of a tensor, from `begin` of a file on."""

    path: Path
    begin: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.begin + math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Where a safetensors file's data begins, and its entries by name. OSError, ValueError: it has no such header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, path.stat().st_size - 8):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")
    header.pop("__metadata__", None)
    return 8 + length, header


def safetensors_places(path: Path) -> dict[str, Place]:
    """All tensors of a file that another tool wrote. ModelError: it is damaged, or has numbers of an unknown type."""
    try:
        start, header = read_header(path)
        size, places = path.stat().st_size, {}
        for name, entry in header.items():
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            place = Place(path, begin, DTYPES[entry["dtype"]], tuple(int(length) for length in entry["shape"]))
            if begin < start or place.end != end or end > size:
                raise ValueError(f"the place of {name} does not fit its shape, or the file is cut short")
            places[name] = place
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {error}; {DOWNLOAD}", param="model") from None
    return places


DOWNLOAD = "download the file again"
