"""A model whose weights other tools quantised, for the CPU: each is read packed, counted, then dequantised to fp32.

The values are the format's own, to the bit of fp32; a CPU has no kernel that would read them packed.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from engine.config import EngineConfig
from engine.model.decoder import is_supported
from engine.model.formats.schemes import Scheme
from engine.model.inventory import HEAD, PLAIN, AnyWeight, inventory, wanted_format
from engine.model.packed_checkpoint import PackedCheckpoint
from engine.model.packed_source import check_asked
from engine.model.quantized_model import empty_model, stored_names
from engine.model.read_weights import ReadWeights
from engine.model.settings import is_tied, read_settings


def read_packed(config: EngineConfig, name: str, folder: Path, scheme: Scheme) -> ReadWeights:
    """fp32 weights by name (architectures we compute) or the model that holds them (others)."""
    check_asked(config, name, scheme.label)
    settings = read_settings(folder)
    model = empty_model(settings)
    checkpoint = PackedCheckpoint(folder, model, scheme)
    names = stored_names(model)
    checkpoint.require(names)
    values: dict[str, Tensor] = {}
    told: dict[str, AnyWeight] = {}
    for weight_name in names:
        weight = checkpoint.read_weight(weight_name)
        told[weight_name] = weight.to("meta")
        values[weight_name] = weight if isinstance(weight, Tensor) else weight.dequantize()
    read = ReadWeights(settings, folder, quantization=scheme.label)
    read.inventory = "\n".join([str(inventory(told)), *notes(checkpoint, scheme, told)])
    if is_supported(settings):
        settings.tie_word_embeddings = HEAD not in values and is_tied(settings)
        read.tensors = values
    else:
        from engine.model.quantized_model import apply_quantized

        read.model = apply_quantized(model, values, dtype=values[names[0]].dtype, device="cpu")
    return read


def notes(checkpoint: PackedCheckpoint, scheme: Scheme, weights: dict[str, AnyWeight]) -> list[str]:
    """What stayed in floats that formats usually quantise, and why; what the folder says that is not applied."""
    reasons: dict[str, list[str]] = {}
    for name, weight in weights.items():
        pieces = getattr(weight, "pieces", (weight,))
        floats = [piece for piece in pieces if isinstance(piece, Tensor)]
        if floats and name != HEAD and wanted_format(name, len(weight.shape), scheme.label) != PLAIN:
            part = "" if len(floats) == len(pieces) else f" ({len(floats)} of its {len(pieces)} pieces)"
            reasons.setdefault(checkpoint.why_float(name), []).append(name + part)
    lines = [f"in floats, {why}: {names[0]}{_more(names)}" for why, names in reasons.items()]
    if scheme.activations:
        lines.append(f"activations ({scheme.activations} in the folder's config) stay in floats: weights only")
    if checkpoint.unused:
        lines.append(f"not applied: {len(checkpoint.unused)} scales of activations and caches")
    return lines


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
