"""The tensors of a quantised module as a file stores them, or of modules that are alike, one above the other, so that a
device is given one job for all experts; with the checks that all formats share. Errors name the module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from engine.errors import ModelError


@dataclass(frozen=True, slots=True)
class Stored:
    """`names` are the weights' in the file (`...q_proj.weight`), `parts` their tensors by what the format calls them:
    of several modules [E, ...], but those that decide how others are read, which all have alike."""

    names: tuple[str, ...]
    parts: dict[str, Tensor]
    lead: tuple[int, ...] = ()
    """[E] of several modules."""
    doubts: list[tuple[Tensor, str]] = field(default_factory=list)
    """What `settle` asks: of each module whether it is wrong, and the reason to refuse it then."""

    @property
    def module(self) -> str:
        return self.names[0].removesuffix(".weight")

    def take(self, part: str, *dtypes: torch.dtype, shape: tuple[int, ...] | None = None) -> Tensor:
        """One of the parts, in one of `dtypes` and of `shape`; ModelError otherwise."""
        tensor = self.parts.get(part)
        if tensor is None:
            self.refuse(f"its {part!r} is not in the file")
        if dtypes and tensor.dtype not in dtypes:
            self.refuse(f"{part} is {_short(tensor.dtype)}, not {' or '.join(map(_short, dtypes))}")
        lead = () if part in DECIDING else self.lead
        if shape is not None and tuple(tensor.shape) != lead + shape:
            self.refuse(f"{part} has shape {tuple(tensor.shape[len(lead) :])}, not {shape}")
        if tensor.dtype in _SCALES:
            self.doubt(~torch.isfinite(tensor.float()), f"{part} holds an infinity or NaN")
        return tensor

    def doubt(self, wrong: Tensor, reason: str) -> None:
        """Refuse a module where any of its `wrong` is true, once `settle` asks: a device is waited for but once."""
        self.doubts.append((wrong.reshape(len(self.names), -1).any(1), reason))

    def refuse(self, reason: str, index: int = 0) -> NoReturn:
        """Raise the ModelError that names a weight."""
        raise ModelError(
            f"{self.names[index]}: {reason}; the folder is damaged or of an unknown variant", param="model"
        )


def settle(modules: Sequence[Stored]) -> None:
    """Raise the first ModelError that the modules' doubts amount to."""
    doubts = [(module, *doubt) for module in modules for doubt in module.doubts]
    if not doubts:
        return
    found = torch.cat([wrong for _, wrong, _ in doubts]).cpu()
    for module, wrong, reason in doubts:
        own, found = found[: len(wrong)], found[len(wrong) :]
        if bool(own.any()):
            module.refuse(reason, int(own.int().argmax()))


FLOATS = (torch.float16, torch.bfloat16, torch.float32)
DECIDING = frozenset({"g_idx", "weight_g_idx", "weight_shape"})
"""Parts that decide how others are read."""
_SCALES = (*FLOATS, torch.float8_e8m0fnu)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
