"""What a folder's quantisation config says: which format its weights are in, what it leaves out, what is refused.

Knows the configs of the formats' own tools. Reads no weights: it hands out the function that reads one module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from engine.errors import ModelError
from engine.model.formats.floats import read_bytes, read_fp4
from engine.model.formats.integers import read_awq, read_gptq, read_packed
from engine.model.formats.stored import Stored
from engine.model.weights.quantized_tensor import QuantizedTensor

Plain = Mapping[str, Any]
_BLOCK = (128, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A folder's format."""

    label: str
    """What the Result's `quantization` says."""
    read: Callable[[Stored], QuantizedTensor]
    exempt: tuple[str, ...] = ()
    """Modules that the config leaves in floats: names, parts of names, patterns (`re:`, `*`)."""
    activations: str | None = None
    """A scheme for activations in the config, which is reported and not applied."""

    def leaves_out(self, module: str) -> bool:
        """Whether the config says that this module stays in floats."""
        return any(_matches(pattern, module) for pattern in self.exempt)


def scheme_of(folder: Path) -> Scheme | None:
    """The format that a folder's weights are in; None for floats. ModelError: a format that is not read."""
    config = quantization_config(folder)
    if config is None:
        return None
    method = str(config.get("quant_method", "unknown")).lower()
    make = _METHODS.get(method)
    if make is None:
        raise refused(folder, f"quantised by {method!r}")
    return make(config, folder)


def quantization_config(folder: Path) -> dict[str, Any] | None:
    """From config.json, or from the file beside it in which older tools leave it."""
    config = _json(folder / "config.json").get("quantization_config")
    if isinstance(config, dict):
        return config
    for name, method in (("quantize_config.json", "gptq"), ("hf_quant_config.json", "modelopt")):
        if (folder / name).is_file():
            beside = _json(folder / name)
            return {"quant_method": method, **beside.get("quantization", beside)}
    return None


def refused(folder: Path, what: str) -> ModelError:
    """The error for a format that is known and not read."""
    return ModelError(
        f"{folder} is {what}, which this engine does not read (it reads FP8, GPTQ and AutoAWQ of 4 and 8 bits, "
        "compressed-tensors' pack-quantized, float-quantized, nvfp4 and mxfp4, ModelOpt's FP8 and NVFP4); start from "
        "the model's 16-bit form",
        param="model",
    )


def _fp8(config: Plain, folder: Path) -> Scheme:
    block = config.get("weight_block_size")
    if config.get("fmt", "e4m3") != "e4m3":
        raise refused(folder, f"FP8 in {config['fmt']!r}")

    def read(stored: Stored) -> QuantizedTensor:
        if "weight_scale_inv" in stored.parts:
            return read_bytes(stored, "weight_scale_inv", _pair(block), "fp8")
        return read_bytes(stored, "weight_scale", None, "fp8")

    return Scheme(
        label="fp8",
        read=read,
        exempt=_names(config, "modules_to_not_convert", "ignored_layers"),
        activations=f"e4m3, {config.get('activation_scheme', 'dynamic')}",
    )


def _gptq(config: Plain, folder: Path) -> Scheme:
    bits, group = int(config.get("bits", 0)), int(config.get("group_size", -1))
    layout = str(config.get("checkpoint_format") or "gptq").lower()
    if layout not in ("gptq", "gptq_v2") or config.get("is_marlin_format"):
        raise refused(folder, f"GPTQ in the layout {layout!r}")
    _check_bits(folder, "GPTQ", bits, (4, 8))
    rules: Plain = config.get("dynamic") or {}

    def read(stored: Stored) -> QuantizedTensor:
        changed = _rule(rules, stored.module) or {}
        own, columns = int(changed.get("bits", bits)), int(changed.get("group_size", group))
        if own not in (4, 8):
            stored.refuse(f"its rule in 'dynamic' gives it {own} bits, which are not read")
        return read_gptq(stored, own, columns, layout == "gptq", f"gptq-{own}")

    exempt = tuple("re:" + pattern[2:] for pattern in rules if pattern.startswith("-:"))
    return Scheme(label=f"gptq-{bits}", read=read, exempt=(*exempt, *_names(config, "modules_to_not_convert")))


def _rule(rules: Plain, module: str) -> Plain | None:
    """The first rule of GPTQModel's `dynamic` whose pattern matches from the start of the module's name."""
    for pattern, changes in rules.items():
        if re.match(pattern.removeprefix("-:").removeprefix("+:"), module):
            return {} if pattern.startswith("-:") else changes
    return None


def _awq(config: Plain, folder: Path) -> Scheme:
    bits, group = int(config.get("bits", config.get("w_bit", 0))), int(config.get("group_size", -1))
    layout = str(config.get("version") or "gemm").lower()
    if layout != "gemm":
        raise refused(folder, f"AWQ in the layout {layout!r}")
    _check_bits(folder, "AWQ", bits, (4,))
    return Scheme(
        label="awq-4",
        read=lambda stored: read_awq(stored, group, "awq-4"),
        exempt=_names(config, "modules_to_not_convert"),
    )


_CT_LABELS = {
    "float-quantized": "fp8",
    "nvfp4-pack-quantized": "nvfp4",
    "mxfp4-pack-quantized": "mxfp4",
    "int-quantized": "ct-8",
    "naive-quantized": "ct-8",
    "mixed-precision": "ct-mixed",
}


def _compressed(config: Plain, folder: Path) -> Scheme:
    groups = [group for group in (config.get("config_groups") or {}).values() if isinstance(group, dict)]
    formats = {str(config.get("format")), *(str(g["format"]) for g in groups if g.get("format"))}
    if unknown := formats - {"pack-quantized", *_CT_LABELS}:
        raise refused(folder, f"compressed-tensors {sorted(unknown)[0]!r}")
    for extra in ("sparsity_config", "transform_config"):
        if (told := config.get(extra)) and told.get("format", "") != "dense":
            raise refused(folder, f"compressed-tensors with a {extra}")
    weights = [group["weights"] for group in groups if group.get("weights")]
    bits = {int(told.get("num_bits", 0)) for told in weights}
    blocks = {_pair(told.get("block_structure")) for told in weights if told.get("strategy") == "block"}
    if len(blocks) > 1:
        raise refused(folder, "compressed-tensors with blocks of several shapes")
    label = _CT_LABELS.get(str(config.get("format"))) or (f"ct-{bits.pop()}" if len(bits) == 1 else "ct-mixed")
    inputs = [group["input_activations"] for group in groups if group.get("input_activations")]
    return Scheme(
        label=label,
        read=lambda stored: _read_compressed(stored, next(iter(blocks), None)),
        exempt=_names(config, "ignore"),
        activations=f"{inputs[0].get('num_bits')} bits, {inputs[0].get('strategy')}" if inputs else None,
    )


def _read_compressed(stored: Stored, block: tuple[int, int] | None) -> QuantizedTensor:
    """One module, by the tensors that it has: a folder may mix formats."""
    packed = stored.parts.get("weight_packed")
    if packed is not None and packed.dtype == torch.uint8:
        if "weight_global_scale" in stored.parts:
            return read_fp4(stored, "weight_packed", "weight_global_scale", True, "nvfp4")
        return read_fp4(stored, "weight_packed", None, False, "mxfp4")
    if packed is not None:
        return read_packed(stored, "ct")
    signed = stored.parts["weight"].dtype == torch.int8 if "weight" in stored.parts else False
    return read_bytes(stored, "weight_scale", block, "ct-8" if signed else "fp8")


def _modelopt(config: Plain, folder: Path) -> Scheme:
    algorithm = str(config.get("quant_algo", "")).upper()
    if algorithm not in ("NVFP4", "FP8"):
        raise refused(folder, f"ModelOpt {algorithm or 'without quant_algo'!r}")

    def read(stored: Stored) -> QuantizedTensor:
        if "weight_scale_2" in stored.parts:
            return read_fp4(stored, "weight", "weight_scale_2", False, "nvfp4")
        return read_bytes(stored, "weight_scale", None, "fp8")

    exempt = _names(config, "ignore", "exclude_modules")
    return Scheme(label=algorithm.lower(), read=read, exempt=exempt, activations=algorithm.lower())


_METHODS: dict[str, Callable[[Plain, Path], Scheme]] = {
    "fp8": _fp8,
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed,
    "modelopt": _modelopt,
}


def _check_bits(folder: Path, method: str, bits: int, known: tuple[int, ...]) -> None:
    if bits not in known:
        raise refused(folder, f"{method} of {bits} bits")


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    if "*" in pattern:
        return fnmatchcase(module, pattern)
    return f".{pattern}." in f".{module}."


def _names(config: Plain, *keys: str) -> tuple[str, ...]:
    return tuple(str(name) for key in keys for name in config.get(key) or ())


def _pair(block: Any) -> tuple[int, int]:
    return _BLOCK if not block else (int(block[0]), int(block[1]))


def _json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}", param="model") from None
    return plain if isinstance(plain, dict) else {}
