"""A model's weights as the kernels want them: linear layers and experts as fragment units, stacked where one product
serves.

Takes weights by Hugging Face's names, quantised or floating, on the device where they shall live, and lets go of each
as
soon as it is laid out, so that two copies of one layer's experts are the most there ever is. Knows names and layouts.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.architecture.shape import Shape
from engine.model.cuda.packed_layout import alike, formed_stack, is_formed
from engine.model.kernels.attention.attention import HeadNorm
from engine.model.kernels.device.fragments import (
    Beside,
    FragmentWeight,
    fragment_bytes,
    fragment_codes,
    fragment_halves,
    fragment_scales,
    interleave_gate_up,
    pair_table,
)
from engine.model.weights.inventory import AnyWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight

Weights = MutableMapping[str, AnyWeight]
_EXPERTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class FragmentLayer:
    """One block. A dense block is one expert that every token visits."""

    input_gain: Tensor
    """fp16 [H], as `post_gain`."""
    qkv: FragmentWeight | Beside
    head_norm: HeadNorm
    output: FragmentWeight
    post_gain: Tensor
    router: Tensor | None
    """[E, H]; None for a dense block."""
    gate_up: FragmentWeight
    """[E, 2I, H], gate and up rows interleaved by eights."""
    down: FragmentWeight
    """[E, H, I]."""


@dataclass(frozen=True, slots=True)
class FragmentModel:
    """Everything the fast forward reads."""

    shape: Shape
    embedding: Tensor
    layers: list[FragmentLayer]
    final_gain: Tensor
    head: Tensor | FragmentWeight

    @property
    def experts(self) -> int:
        return self.layers[0].down.words.shape[0]

    @property
    def inner(self) -> int:
        return self.layers[0].down.columns

    @property
    def chosen(self) -> int:
        return max(1, self.shape.experts_per_token)


def fragment_model(weights: Weights, shape: Shape) -> FragmentModel:
    """Lay out every weight; empties `weights`. ModelError names a weight whose size no unit of 16 x 64 divides."""
    layers = []
    for index in range(shape.layers):
        try:
            layers.append(_layer(weights, f"model.layers.{index}.", shape))
        except ValueError as error:
            raise ModelError(f"layer {index} does not suit the GPU kernels: {error}", param="model") from None
    embedding = weights.pop("model.embed_tokens.weight")
    head = weights.pop("lm_head.weight", None)
    floats = _half(embedding)
    if head is None or shape.tied:
        head = embedding if isinstance(embedding, QuantizedTensor) else floats
    final = _gain(weights.pop("model.norm.weight"))
    packed = isinstance(head, QuantizedTensor) and head.shape[0] % 16 == 0
    return FragmentModel(shape, floats, layers, final, _fragment([head], "lm_head") if packed else _half(head))


def _half(weight: AnyWeight) -> Tensor:
    """Embedding or head in 16 bits; fp16 where it is neither that nor bf16."""
    if not isinstance(weight, Tensor):
        return weight.dequantize(torch.float16)
    return _floating(weight.half() if weight.dtype == torch.float32 and weight.is_cuda else weight)


def _layer(weights: Weights, prefix: str, shape: Shape) -> FragmentLayer:
    def take(*names: str) -> list[AnyWeight]:
        return [weights.pop(prefix + name) for name in names]

    def gain(name: str) -> Tensor | None:
        found = weights.pop(prefix + name, None)
        return None if found is None else _gain(found)

    sparse = prefix + "mlp.gate.weight" in weights
    biases = [weights.pop(f"{prefix}self_attn.{part}_proj.bias", None) for part in "qkv"]
    bias = None if biases[0] is None else torch.cat([_floating(part).float() for part in biases if part is not None])
    return FragmentLayer(
        input_gain=_gain(*take("input_layernorm.weight")),
        qkv=_beside(take(*(f"self_attn.{part}_proj.weight" for part in "qkv")), f"{prefix}self_attn"),
        head_norm=HeadNorm(gain("self_attn.q_norm.weight"), gain("self_attn.k_norm.weight"), bias, shape.eps),
        output=_fragment(take("self_attn.o_proj.weight"), f"{prefix}self_attn.o_proj"),
        post_gain=_gain(*take("post_attention_layernorm.weight")),
        router=_floating(*take("mlp.gate.weight")) if sparse else None,
        gate_up=_experts(
            take("mlp.experts.gate_up_proj") if sparse else take("mlp.gate_proj.weight", "mlp.up_proj.weight"),
            True,
            f"{prefix}mlp.gate and up",
        ),
        down=_experts(take("mlp.experts.down_proj" if sparse else "mlp.down_proj.weight"), False, f"{prefix}mlp.down"),
    )


def _gain(value: AnyWeight) -> Tensor:
    return _floating(value).to(torch.float16)


def _floating(value: AnyWeight) -> Tensor:
    """The tensor in memory of its own: a view would keep the whole file that it was read with."""
    assert isinstance(value, Tensor), "norms, routers, biases and embeddings are never quantised"
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def _fragment(parts: list[AnyWeight], name: str) -> FragmentWeight:
    """One matrix of the stacked rows of `parts` [N_i, K]."""
    return _experts(parts if any(map(is_formed, parts)) else [_whole(parts)], False, name, squeeze=True)


def _beside(parts: list[AnyWeight], name: str) -> FragmentWeight | Beside:
    """The same, or each alone where their formats differ."""
    pieces = [piece for part in parts for piece in (part.pieces if isinstance(part, StackedWeight) else (part,))]
    if not any(map(is_formed, parts)) or alike(pieces):
        return _fragment(parts, name)
    return Beside(tuple(_fragment([part], name) for part in parts))


def _whole(parts: Sequence[AnyWeight]) -> Tensor | QuantizedTensor:
    """Rows of several weights as one; they share columns and format."""
    if len(parts) == 1 and not isinstance(parts[0], StackedWeight):
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat([_floating(part) for part in parts], -2)
    plain = [part.with_plain_scales() for part in parts if isinstance(part, QuantizedTensor)]
    if len({part.format for part in plain}) != 1 or len(plain) != len(parts):
        raise ModelError("weights that are multiplied together are in different formats")
    axis = -1 if plain[0].format == "int8" else -2
    rows = sum(part.shape[-2] for part in plain)
    shape = (*plain[0].shape[:-2], rows, plain[0].shape[-1])
    packed, absmax = torch.cat([p.packed for p in plain], -2), torch.cat([p.scale for p in plain], axis)
    return QuantizedTensor(packed, absmax, plain[0].codebook, shape, plain[0].coding)


def _experts(parts: list[AnyWeight], interleave: bool, name: str, *, squeeze: bool = False) -> FragmentWeight:
    """Experts [E, N, K], or one matrix as one expert, some at a time: unpacking takes eight times the packed bytes."""
    if any(map(is_formed, parts)):
        return _formed(parts, interleave, name, squeeze)
    weight = _whole(parts)
    if isinstance(weight, QuantizedTensor):
        weight = weight.with_plain_scales()
    if len(weight.shape) == 2:
        weight = _unsqueezed(weight)
    pieces = [
        _lay_out(weight, slice(at, at + _EXPERTS_AT_ONCE), interleave)
        for at in range(0, weight.shape[0], _EXPERTS_AT_ONCE)
    ]
    words, scales = (torch.cat([piece[k] for piece in pieces]) if len(pieces) > 1 else pieces[0][k] for k in (0, 1))
    table = (
        pair_table(weight.codebook)
        if isinstance(weight, QuantizedTensor) and len(weight.codebook) == 16
        else scales.new_zeros(256, dtype=torch.int32)
    )
    bits = 16 if isinstance(weight, Tensor) else 8 if weight.format == "int8" else 4
    if squeeze:
        words, scales = words[0], scales[0]
    return FragmentWeight(words, scales, table, weight.shape[-2], weight.shape[-1], bits)


def _formed(parts: list[AnyWeight], interleave: bool, name: str, squeeze: bool) -> FragmentWeight:
    """The same of other tools' formats and nl4."""
    weight = parts[0]
    if len(parts) > 1:
        pieces = [piece for part in parts for piece in (part.pieces if isinstance(part, StackedWeight) else (part,))]
        weight = StackedWeight(tuple(pieces), (sum(part.shape[-2] for part in parts), parts[0].shape[-1]))
    assert not isinstance(weight, Tensor)
    made = formed_stack(weight, name, interleave=interleave)
    return replace(made, words=made.words[0], scales=made.scales[0]) if squeeze else made


def _unsqueezed(weight: Tensor | QuantizedTensor) -> Tensor | QuantizedTensor:
    if isinstance(weight, Tensor):
        return weight.unsqueeze(0)
    return QuantizedTensor(
        weight.packed.unsqueeze(0), weight.scale.unsqueeze(0), weight.codebook, (1, *weight.shape), weight.coding
    )


def _lay_out(weight: Tensor | QuantizedTensor, part: slice, interleave: bool) -> tuple[Tensor, Tensor]:
    """words and scales of some experts."""
    if isinstance(weight, Tensor):
        values = weight[part]
        return fragment_halves(interleave_gate_up(values) if interleave else values), values.new_zeros(
            len(values), 1, dtype=torch.float32
        )
    packed, absmax = weight.packed[part], weight.scale[part]
    if weight.format == "int8":
        steps = (absmax * weight.codebook[0]).unsqueeze(-1)
        if interleave:
            packed, steps = interleave_gate_up(packed), interleave_gate_up(steps)
        return fragment_bytes(packed), steps.squeeze(-1).contiguous()
    if interleave:
        packed, absmax = interleave_gate_up(packed), interleave_gate_up(absmax)
    codes = torch.stack((packed >> 4, packed & 15), -1).view(*packed.shape[:-1], packed.shape[-1] * 2)
    return fragment_codes(codes), fragment_scales(absmax)
