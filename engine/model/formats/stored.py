"""The tensors of one quantised module as a file stores them, with the checks that all formats share. Errors name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from engine.errors import ModelError


@dataclass(frozen=True, slots=True)
class Stored:
    """`name` is the weight's in the file (`...q_proj.weight`), `parts` its tensors by what the format calls them."""

    name: str
    parts: dict[str, Tensor]
    doubts: list[tuple[Tensor, str]] = field(default_factory=list)
    """What `settle` asks: whether a number of a tensor is true, and the reason to refuse the module then."""

    @property
    def module(self) -> str:
        return self.name.removesuffix(".weight")

    def take(self, part: str, *dtypes: torch.dtype, shape: tuple[int, ...] | None = None) -> Tensor:
        """One of the parts, in one of `dtypes` and of `shape`; ModelError otherwise."""
        tensor = self.parts.get(part)
        if tensor is None:
            self.refuse(f"its {part!r} is not in the file")
        if dtypes and tensor.dtype not in dtypes:
            self.refuse(f"{part} is {_short(tensor.dtype)}, not {' or '.join(map(_short, dtypes))}")
        if shape is not None and tuple(tensor.shape) != shape:
            self.refuse(f"{part} has shape {tuple(tensor.shape)}, not {shape}")
        if tensor.dtype in _SCALES:
            self.doubt(~torch.isfinite(tensor.float()), f"{part} holds an infinity or NaN")
        return tensor

    def doubt(self, wrong: Tensor, reason: str) -> None:
        """Refuse the module where any of `wrong` is true, once `settle` asks: a device is waited for but once."""
        self.doubts.append((wrong.any(), reason))

    def refuse(self, reason: str) -> NoReturn:
        """Raise the ModelError that names this weight."""
        raise ModelError(f"{self.name}: {reason}; the folder is damaged or of an unknown variant", param="model")


def settle(modules: Sequence[Stored]) -> None:
    """Raise the first ModelError that the modules' doubts amount to."""
    doubts = [(module, *doubt) for module in modules for doubt in module.doubts]
    if not doubts:
        return
    found = torch.stack([wrong for _, wrong, _ in doubts]).tolist()
    for (module, _, reason), wrong in zip(doubts, found, strict=True):
        if wrong:
            module.refuse(reason)


FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_SCALES = (*FLOATS, torch.float8_e8m0fnu)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
