"""Folders as other tools write them, of the tiny Qwen3-MoE: each encoder packs one matrix and says what it is worth.

compressed-tensors' formats are packed and read back by the library itself. GPTQ, AutoAWQ, FP8 and ModelOpt are written
here from their published layouts, with integer arithmetic of numpy that shares nothing with the engine; that these
writers are the tools' own is checked on files those tools wrote (tests/model/data).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model import tiny_moe

Encoded = tuple[dict[str, Tensor], Tensor]
"""Tensors by what follows the module's name, and the fp32 value of the weight."""
Encode = Callable[[str, Tensor], "Encoded | None"]
"""Of a module's name and weight; None: it stays in floats."""
QUANTISED = re.compile(r"\.(q|k|v|o|gate|up|down)_proj\.weight$")


def write_folder(
    out: Path, quantization_config: dict[str, Any], encode: Encode, **changes: object
) -> tuple[Path, Path]:
    """A quantised folder and, beside it, one of the same values in fp32 for transformers to load; `changes` of the
    model's config."""
    packed, plain = out / "packed", out / "plain"
    floats = tiny_moe.save(plain, **changes)
    tensors: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for file in sorted(floats.glob("*.safetensors")):
        for name, weight in load_file(file).items():
            encoded = encode(name.removesuffix(".weight"), weight) if QUANTISED.search(name) else None
            if encoded is None:
                tensors[name] = values[name] = weight
                continue
            parts, value = encoded
            tensors |= {f"{name.removesuffix('weight')}{part}": t.contiguous() for part, t in parts.items()}
            values[name] = value.float().contiguous()
        file.unlink()
    (plain / "model.safetensors.index.json").unlink()
    save_file(values, plain / "model.safetensors", metadata={"format": "pt"})
    packed.mkdir()
    config = json.loads((plain / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps({**config, "quantization_config": quantization_config}))
    save_file(tensors, packed / "model.safetensors", metadata={"format": "pt"})
    return packed, plain


def fp8(weight: Tensor, block: tuple[int, int] | None) -> tuple[Tensor, Tensor, Tensor]:
    """e4m3 codes, fp32 scales that multiply (of blocks, else of rows), and the value, element by element."""
    rows, columns = weight.shape
    high, wide = block or (1, columns)
    row_of, column_of = np.arange(rows) // high, np.arange(columns) // wide
    scales = torch.zeros(int(row_of[-1]) + 1, int(column_of[-1]) + 1)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            scales[i, j] = weight[i * high : (i + 1) * high, j * wide : (j + 1) * wide].abs().max() / 448
    spread = scales[row_of][:, column_of]
    codes = (weight / spread).to(torch.float8_e4m3fn)
    return codes, scales, codes.float() * spread


def gptq(
    weight: Tensor, bits: int, group: int, *, v1: bool, act_order: int | None = None, symmetric: bool = False
) -> Encoded:
    """AutoGPTQ's layout (v1: zero points less one) or GPTQModel's v2; `act_order` is the seed by which columns are
    dealt to groups."""
    w = weight.numpy().astype(np.float64)
    rows, columns = w.shape
    group = columns if group == -1 else group
    g_idx = np.arange(columns) // group
    if act_order is not None:
        g_idx = g_idx[np.random.default_rng(act_order).permutation(columns)]
    groups, most = int(g_idx.max()) + 1, 2**bits - 1
    scales, zeros = np.zeros((groups, rows), np.float16), np.zeros((groups, rows), np.int64)
    for g in range(groups):
        part = w[:, g_idx == g]
        low, high = np.minimum(part.min(1), -1e-3), np.maximum(part.max(1), 1e-3)
        if symmetric:
            low, high = -np.maximum(-low, high), np.maximum(-low, high)
        scales[g] = ((high - low) / most).astype(np.float16)
        zeros[g] = 2 ** (bits - 1) if symmetric else np.clip(np.round(-low / scales[g].astype(np.float64)), 1, most)
    step, zero = scales.astype(np.float64)[g_idx].T, zeros[g_idx].T
    codes = np.clip(np.round(w / step) + zero, 0, most).astype(np.int64)
    value = torch.from_numpy(((codes - zero) * step).astype(np.float32))
    stored = zeros - 1 if v1 else zeros
    parts = {
        "qweight": torch.from_numpy(_words(codes.T, bits, 0)),
        "qzeros": torch.from_numpy(_words(stored, bits, 1)),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(g_idx.astype(np.int32)),
    }
    return parts, value


def awq(weight: Tensor, group: int) -> Encoded:
    """AutoAWQ's gemm layout."""
    w = weight.numpy().astype(np.float64)
    rows, columns = w.shape
    parts = w.reshape(rows, columns // group, group)
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    scales = ((high - low) / 15).astype(np.float16)
    zeros = np.clip(np.round(-low / scales.astype(np.float64)), 0, 15).astype(np.int64)
    step, zero = (np.repeat(x, group, 1) for x in (scales.astype(np.float64), zeros))
    codes = np.clip(np.round(w / step) + zero, 0, 15).astype(np.int64)
    value = torch.from_numpy(((codes - zero) * step).astype(np.float32))
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])

    def packed(numbers: np.ndarray) -> Tensor:
        dealt = numbers.reshape(len(numbers), -1, 8)[..., order]
        return torch.from_numpy(_words(dealt.reshape(len(numbers), -1), 4, 1))

    return {"qweight": packed(codes.T), "qzeros": packed(zeros.T), "scales": torch.from_numpy(scales.T.copy())}, value


def modelopt_nvfp4(weight: Tensor) -> Encoded:
    """ModelOpt's: e4m3 scales of 16 columns, times one fp32 number."""
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    rows, columns = weight.shape
    outer = np.float32(float(weight.abs().max()) / (6 * 448))
    blocks = weight.numpy().reshape(rows, -1, 16)
    scales = torch.from_numpy(np.abs(blocks).max(-1) / 6 / outer).to(torch.float8_e4m3fn)
    step = scales.float().numpy() * outer
    codes = np.abs((blocks / np.maximum(step, 1e-30)[..., None])[..., None] - table).argmin(-1)
    value = torch.from_numpy((table[codes].astype(np.float32) * step[..., None]).reshape(rows, columns))
    codes = codes.reshape(rows, columns)
    packed = torch.from_numpy((codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8))
    parts = {"weight": packed, "weight_scale": scales, "weight_scale_2": torch.tensor(outer)}
    return {**parts, "input_scale": torch.tensor(0.01)}, value


def compressed(weight: Tensor, weights: dict[str, Any], format_name: str, scale_dtype: torch.dtype) -> Encoded:
    """By compressed-tensors' own compressor and its own dequantisation, in fp32."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    args = QuantizationArgs(**weights)
    compressor = BaseCompressor.get_value_from_registry(format_name)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    state = {"weight": weight, **_parameters(weight, args, scale_dtype)}
    parts: dict[str, Tensor] = compressor.compress(state, scheme)
    if "weight_packed" in parts and parts["weight_packed"].dtype == torch.uint8:
        codes = unpack_fp4_from_uint8(parts["weight_packed"], *weight.shape, dtype=torch.float32)
        exponents = parts["weight_scale"]
        scales = exponents.float() if exponents.dtype != torch.uint8 else torch.exp2(exponents.float() - 127)
        outer = parts.get("weight_global_scale")
        return parts, dequantize(codes, scales, args=args, dtype=torch.float32, global_scale=outer)
    wide = {**parts, "weight_scale": parts["weight_scale"].float()}
    return parts, compressor.decompress(wide, scheme)["weight"].float()


def compressed_in_order(weight: Tensor, weights: dict[str, Any], seed: int) -> Encoded:
    """pack-quantized with `weight_g_idx`, which older releases of the library write: the codes of the columns' groups,
    each put back at its column."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    order = torch.from_numpy(np.random.default_rng(seed).permutation(weight.shape[1]))
    parts, value = compressed(weight[:, order], weights, "pack-quantized", torch.bfloat16)
    codes = torch.empty_like(weight, dtype=torch.int8)
    codes[:, order] = unpack_from_int32(parts["weight_packed"], weights["num_bits"], weight.shape)
    parts["weight_packed"] = pack_to_int32(codes, weights["num_bits"])
    parts["weight_g_idx"] = (order.argsort() // weights["group_size"]).int()
    return parts, value[:, order.argsort()]


def _parameters(weight: Tensor, args: Any, scale_dtype: torch.dtype) -> dict[str, Tensor]:
    """Scales and zero points as the library calculates them from extremes."""
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    rows, columns = weight.shape
    if args.strategy == "block":
        high, wide = args.block_structure
        low = torch.stack([torch.stack([b.min() for b in r.split(wide, 1)]) for r in weight.split(high)])
        top = torch.stack([torch.stack([b.max() for b in r.split(wide, 1)]) for r in weight.split(high)])
    elif args.strategy == "tensor":
        low, top = weight.min().view(1), weight.max().view(1)
    else:
        groups = weight.view(rows, -1, args.group_size or columns)
        low, top = groups.amin(-1), groups.amax(-1)
    outer = generate_gparam(weight.min(), weight.max()) if args.strategy == "tensor_group" else None
    scale, zero = calculate_qparams(low, top, args, global_scale=outer)
    found = {"weight_scale": scale.to(scale_dtype), "weight_zero_point": zero}
    return found if outer is None else {**found, "weight_global_scale": outer.view(1)}


def _words(numbers: np.ndarray, bits: int, axis: int) -> np.ndarray:
    """int32 words along an axis, the first number in the lowest bits."""
    per = 32 // bits
    moved = np.moveaxis(numbers, axis, -1).astype(np.uint64)
    grouped = moved.reshape(*moved.shape[:-1], -1, per)
    words = np.zeros(grouped.shape[:-1], np.uint64)
    for i in range(per):
        words |= (grouped[..., i] & np.uint64(2**bits - 1)) << np.uint64(bits * i)
    return np.ascontiguousarray(np.moveaxis(words.astype(np.uint32).view(np.int32), -1, axis))
