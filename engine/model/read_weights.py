"""What reading a model for a CPU gives, before a runner is made of it. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(slots=True)
class ReadWeights:
    """Exactly one of `tensors` (architectures we compute, by name, floats) and `model` (all others) is there."""

    settings: Any
    """The transformers config."""
    folder: Path | None
    """Where the tokenizer lies; None for a hub name."""
    tensors: dict[str, Tensor] | None = None
    model: PreTrainedModel | None = None
    quantization: str | None = None
    """The format whose values the weights have; None for none."""
    inventory: str = ""
    """Bytes and bits per weight by module kind, for people; empty where nothing is quantised."""
