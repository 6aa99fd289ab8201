"""What a model's weights weigh: bytes and bits per weight by module kind and format, scales included.

Also the rule of what must be quantised, and the refusal when something is not. Knows weights by their names; reads no
file. A tensor with two or more axes must be quantised unless it is an embedding, a router, the head, or what a
recurrent layer has beside its large matrices: its short convolution and the gates of its state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from engine.errors import ModelError
from engine.model.weights.decoding import dtype_name
from engine.model.weights.quantized_linear import QuantizedWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor
from engine.model.weights.stacked import StackedWeight

Weight = Tensor | QuantizedTensor
AnyWeight = Weight | StackedWeight
HEAD = "lm_head.weight"
PLAIN = "bf16"
"""The quantization that leaves every weight in floats."""

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("head", re.compile(r"^(lm_head|embed_out|output)\.")),
    ("embedding", re.compile(r"(embed\w*|wte|wpe)\.weight$")),
    ("router", re.compile(r"\.(gate|router|shared_expert_gate|router\.\w+)\.(weight|bias|e_score_correction_bias)$")),
    ("norm", re.compile(r"norm\w*\.(weight|bias)$|\.ln_\w+\.|_norm$")),
    ("convolution", re.compile(r"\.conv1d\.(weight|bias)$")),
    ("gates", re.compile(r"\.in_proj_(ba|b|a)\.weight$|\.(A_log|dt_bias)$")),
    ("experts", re.compile(r"\.experts\.")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|shared_expert")),
)
_STAY_FLOAT = frozenset({"embedding", "router", "norm", "convolution", "gates"})


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """One module kind in one format."""

    kind: str
    format: str
    scales: str
    """Type of the scales and what shares one; empty for floats."""
    tensors: int
    weights: int
    nbytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.nbytes / max(1, self.weights)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Rows in a fixed order of kinds; `str()` is the table printed at load."""

    rows: tuple[InventoryRow, ...]

    @property
    def nbytes(self) -> int:
        return sum(row.nbytes for row in self.rows)

    @property
    def weights(self) -> int:
        return sum(row.weights for row in self.rows)

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.nbytes / max(1, self.weights)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types, for benches."""
        rows = [
            {
                "kind": r.kind,
                "format": r.format,
                "scales": r.scales,
                "weights": r.weights,
                "bytes": r.nbytes,
                "bits": r.bits_per_weight,
            }
            for r in self.rows
        ]
        return {"rows": rows, "weights": self.weights, "bytes": self.nbytes, "bits_per_weight": self.bits_per_weight}

    def __str__(self) -> str:
        head = f"{'kind':<10} {'format':<8} {'tensors':>7} {'weights':>15} {'bytes':>15} {'bits/weight':>11}  scales"
        total = InventoryRow("all", "", "", sum(row.tensors for row in self.rows), self.weights, self.nbytes)
        lines = [
            f"{r.kind:<10} {r.format:<8} {r.tensors:>7} {r.weights:>15,} {r.nbytes:>15,} {r.bits_per_weight:>11.3f}"
            f"  {r.scales}".rstrip()
            for r in (*self.rows, total)
        ]
        return "\n".join([head, *lines])


def inventory(source: nn.Module | Mapping[str, AnyWeight]) -> Inventory:
    """Count a model's weights, or weights by name; tied weights count once, pieces each in its own format."""
    weights: Mapping[str, Any] = dict(named_weights(source)) if isinstance(source, nn.Module) else source
    counts: dict[tuple[str, str, str], list[int]] = {}
    for name, weight in weights.items():
        for piece in weight.pieces if isinstance(weight, StackedWeight) else (weight,):
            scales = piece.scale_type if isinstance(piece, QuantizedTensor) else ""
            row = counts.setdefault((kind_of(name), format_of(piece), scales), [0, 0, 0])
            row[0] += 1
            row[1] += _count(piece)
            row[2] += piece.nbytes
    order = [kind for kind, _ in _KINDS] + ["other"]
    keys = sorted(counts, key=lambda key: (order.index(key[0]), *key[1:]))
    return Inventory(tuple(InventoryRow(*key, *counts[key]) for key in keys))


def check_quantized(source: nn.Module | Mapping[str, Weight], quantization: str, head: str = PLAIN) -> None:
    """ModelError that names the weights which should be in `quantization` (the head in `head`) and are not."""
    weights = dict(named_weights(source)) if isinstance(source, nn.Module) else source
    wrong = []
    for name, weight in weights.items():
        wanted = wanted_format(name, _axes(weight), quantization, head)
        found = weight.format if isinstance(weight, QuantizedTensor) else PLAIN
        if wanted != found:
            wrong.append(f"{name} ({_count(weight):,} weights) is {format_of(weight)}, not {wanted}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"quantization {quantization!r} was asked for, but {'; '.join(wrong[:3])}{more}. "
            f"Quantise the model again with: maskloop quantize MODEL --to {quantization} --out DIR",
            param="quantization",
        )


def wanted_format(name: str, axes: int, quantization: str, head: str = PLAIN) -> str:
    """The format that a weight of this name and number of axes has to be in; `PLAIN` where it stays a float."""
    kind = kind_of(name)
    if axes < 2 or kind in _STAY_FLOAT:
        return PLAIN
    return head if kind == "head" else quantization


def kind_of(name: str) -> str:
    """One of `_KINDS` or other, by the name transformers gives the weight."""
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), "other")


def format_of(weight: Weight) -> str:
    """The quantised format, else a short dtype name."""
    if isinstance(weight, QuantizedTensor):
        return weight.format
    return dtype_name(weight.dtype)


def named_weights(model: nn.Module) -> Iterator[tuple[str, Weight]]:
    """Every weight once, under the name transformers gives it: parameters, then what replaced parameters."""
    yield from model.named_parameters()
    for name, module in model.named_modules():
        if isinstance(module, QuantizedWeight):
            yield weight_name(name, module), module.weight


def weight_name(path: str, module: QuantizedWeight) -> str:
    """`a.experts.down_proj` for an expert weight; `a.q_proj.weight` for a linear layer."""
    return f"{path}.weight" if hasattr(module, "in_features") else path


def _axes(weight: Weight) -> int:
    return len(weight.shape)


def _count(weight: Weight) -> int:
    total = 1
    for size in weight.shape:
        total *= size
    return total


def quantize_named(name: str, weight: Tensor, quantization: str, moments: Tensor | None = None) -> QuantizedTensor:
    """`quantize_tensor` whose errors say which weight."""
    try:
        return quantize_tensor(weight, quantization, moments)
    except ModelError as error:
        raise ModelError(f"{name}: {error.message}", param=error.param) from None
