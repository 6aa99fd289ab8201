"""A model's weights as the kernels want them: linear layers and experts as fragment units, stacked where one product
serves.

Takes weights by Hugging Face's names, quantised or floating, on the device where they shall live, and lets go of each
as
soon as it is laid out, so that two copies of one layer's experts are the most there ever is. Knows names and layouts.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.architecture.row_order import halves, queries_and_gates, unfused
from engine.model.architecture.shape import Attention, DeltaNet, Experts, Shape
from engine.model.cuda.packed_layout import alike, formed_stack, is_formed, same_order, with_inputs_in_place
from engine.model.kernels.attention.attention import HeadNorm
from engine.model.kernels.delta.memory import DeltaWeights
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
    """One block. A dense block is one expert that every token visits; an expert that all tokens share is the last."""

    input_gain: Tensor
    """fp16 or fp32 [H], as `post_gain`."""
    qkv: FragmentWeight | Beside
    """What the mixer reads of its input: queries, keys, values, and behind them gates where it has any."""
    head_norm: HeadNorm
    output: FragmentWeight
    post_gain: Tensor
    router: Tensor | None
    """[E, H], of the shared expert its gate; None for a dense block."""
    gate_up: FragmentWeight
    """[E, 2I, H], gate and up rows interleaved by eights."""
    down: FragmentWeight
    """[E, H, I]."""
    delta: DeltaWeights | None = None
    """Where the mixer is gated DeltaNet."""
    rates: Tensor | None = None
    """16 bits [2 VH, H], of such a mixer: what gives b and a."""


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
        """Experts that a token visits."""
        return max(1, self.shape.experts_per_token) + self.shape.shared

    @property
    def choice(self) -> dict[str, Any]:
        """How they are chosen: what `choice.choose` is told."""
        return {"chosen": self.chosen, "norm_topk": self.shape.norm_topk, "shared": self.shape.shared}


def fragment_model(weights: Weights, shape: Shape) -> FragmentModel:
    """Lay out every weight; empties `weights`. ModelError names a weight whose size no unit of 16 x 64 divides."""
    layers = []
    for index in range(shape.layers):
        try:
            layers.append(_Layer(weights, shape, index).laid_out())
        except ValueError as error:
            raise ModelError(f"layer {index} does not suit the GPU kernels: {error}", param="model") from None
    embedding = weights.pop("model.embed_tokens.weight")
    head = weights.pop("lm_head.weight", None)
    floats = _half(embedding)
    if head is None or shape.tied:
        head = embedding if isinstance(embedding, QuantizedTensor) else floats
    final = _gain(weights.pop("model.norm.weight"), shape)
    packed = isinstance(head, QuantizedTensor) and head.shape[0] % 16 == 0
    return FragmentModel(shape, floats, layers, final, _fragment([head], "lm_head") if packed else _half(head))


def _half(weight: AnyWeight) -> Tensor:
    """Embedding or head in 16 bits; fp16 where it is neither that nor bf16."""
    if not isinstance(weight, Tensor):
        return weight.dequantize(torch.float16)
    return _floating(weight.half() if weight.dtype == torch.float32 and weight.is_cuda else weight)


class _Layer:
    """Takes one layer's weights and lays them out."""

    def __init__(self, weights: Weights, shape: Shape, index: int) -> None:
        self._weights, self._shape, self._prefix = weights, shape, f"model.layers.{index}."
        self._block = shape.blocks[index]

    def laid_out(self) -> FragmentLayer:
        kind = self._block.mixer
        mixer = self._delta_net(kind) if isinstance(kind, DeltaNet) else self._attention(kind)
        input_gain, post_gain = (
            _gain(self._take(f"{name}_layernorm.weight"), self._shape) for name in ("input", "post_attention")
        )
        return FragmentLayer(input_gain=input_gain, post_gain=post_gain, **mixer, **self._channels())

    def _has(self, name: str) -> bool:
        return self._prefix + name in self._weights

    def _take(self, name: str) -> AnyWeight:
        return self._weights.pop(self._prefix + name)

    def _attention(self, kind: Attention) -> dict[str, Any]:
        at, order = "self_attn.", halves(kind)
        parts = [self._take(f"{at}{part}_proj.weight") for part in "qkv"]
        if kind.gated:
            queries, gates = queries_and_gates(kind)
            heads = queries.view(-1, kind.head_dim)[:, order].flatten()
            keys = torch.arange(kind.kv_heads * kind.head_dim).view(-1, kind.head_dim)[:, order].flatten()
            parts = [_rows(parts[0], heads), _rows(parts[1], keys), parts[2], _rows(parts[0], gates)]
        norms = [self._take(f"{at}{p}_norm.weight") if self._has(f"{at}{p}_norm.weight") else None for p in "qk"]
        first, second = (None if norm is None else _gain(norm, self._shape)[order] for norm in norms)
        biases = [self._weights.pop(f"{self._prefix}{at}{part}_proj.bias", None) for part in "qkv"]
        bias = None if biases[0] is None else torch.cat([_floating(b).float() for b in biases if b is not None])
        return {
            "qkv": _beside(parts, f"{self._prefix}self_attn"),
            "head_norm": HeadNorm(first, second, bias, self._shape.eps),
            "output": _fragment([self._take(f"{at}o_proj.weight")], f"{self._prefix}self_attn.o_proj"),
        }

    def _delta_net(self, kind: DeltaNet) -> dict[str, Any]:
        if kind.key_dim != kind.value_dim:
            raise ValueError(f"keys of {kind.key_dim} numbers and values of {kind.value_dim} have no kernel")
        at = "linear_attn."
        if self._has(f"{at}in_proj_qkvz.weight"):
            orders = zip(("qkvz", "ba"), unfused(kind), strict=True)
            inputs, rates = (_rows(self._take(f"{at}in_proj_{part}.weight"), order) for part, order in orders)
            parts = [inputs]
        else:
            parts = [self._take(f"{at}in_proj_{part}.weight") for part in ("qkv", "z")]
            rates = torch.cat([_floating(self._take(f"{at}in_proj_{part}.weight")) for part in "ba"])
        taps = _floating(self._take(f"{at}conv1d.weight")).squeeze(1).t().contiguous()
        rate, bias, gain = (_floating(self._take(at + name)).float() for name in ("A_log", "dt_bias", "norm.weight"))
        return {
            "qkv": _beside(parts, f"{self._prefix}linear_attn"),
            "head_norm": HeadNorm(None, None, None, self._shape.eps),
            "output": _fragment([self._take(f"{at}out_proj.weight")], f"{self._prefix}linear_attn.out_proj"),
            "delta": DeltaWeights(taps, rate, bias, gain, self._shape.eps),
            "rates": _floating(rates),
        }

    def _channels(self) -> dict[str, Any]:
        if not isinstance(self._block.channels, Experts):
            dense = self._experts(["mlp.gate_proj.weight", "mlp.up_proj.weight"], "mlp.down_proj.weight")
            return {"router": None, **dense}
        router = _floating(self._take("mlp.gate.weight"))
        made = self._experts(["mlp.experts.gate_up_proj"], "mlp.experts.down_proj")
        if self._block.channels.shared:
            at = "mlp.shared_expert"
            router = torch.cat((router, _floating(self._take(f"{at}_gate.weight"))))
            shared = self._experts([f"{at}.{part}_proj.weight" for part in ("gate", "up")], f"{at}.down_proj.weight")
            made = {name: _with_shared(made[name], shared[name], f"{self._prefix}mlp {name}") for name in made}
        return {"router": router, **made}

    def _experts(self, gate_up: list[str], down: str) -> dict[str, FragmentWeight]:
        before, behind = _in_order([self._take(name) for name in gate_up], self._take(down))
        return {
            "gate_up": _experts(before, True, f"{self._prefix}mlp.gate and up"),
            "down": _experts([behind], False, f"{self._prefix}{down}"),
        }


def _in_order(gate_up: list[AnyWeight], down: AnyWeight) -> tuple[list[AnyWeight], AnyWeight]:
    """The same experts, gate and up with rows as down wants its inputs, where it has its columns in another order."""
    behind = _pieces([down])
    if all(isinstance(piece, Tensor) or piece.order is None for piece in behind):
        return gate_up, down
    before, behind = with_inputs_in_place(_pieces(gate_up), behind)
    rows = sum(part.shape[-2] for part in gate_up)
    shape = (*gate_up[0].shape[:-2], rows, gate_up[0].shape[-1])
    return [StackedWeight(tuple(before), shape)], StackedWeight(tuple(behind), tuple(down.shape))


def _pieces(parts: list[AnyWeight]) -> list[Tensor | QuantizedTensor]:
    """Matrices, or weights that lie in one."""
    return [piece for part in parts for piece in (part.pieces if isinstance(part, StackedWeight) else (part,))]


def _rows(weight: AnyWeight, order: Tensor) -> AnyWeight:
    """A matrix with its rows in another order, or some of them."""
    if isinstance(weight, StackedWeight):
        raise ValueError("rows of a weight in pieces cannot be put in another order")
    index = order.to(weight.device)
    if isinstance(weight, Tensor):
        return weight[index]
    if weight.coding.rows > 1:  # each row gets the scale that it shared
        scale = weight.scale.repeat_interleave(weight.coding.rows, -2)[: weight.shape[0]]
        weight = replace(weight, scale=scale, coding=replace(weight.coding, rows=1))
    return weight.with_plain_scales().rows(index)


def _with_shared(experts: FragmentWeight, shared: FragmentWeight, name: str) -> FragmentWeight:
    """The shared expert behind the others."""
    sizes = [(weight.rows, weight.columns, weight.kind) for weight in (experts, shared)]
    if sizes[0] != sizes[1] or not torch.equal(experts.table[:256], shared.table[:256]):
        raise ModelError(
            f"{name}: the shared expert is in another size or format than the others, which no GPU kernel multiplies "
            "together; run it on the CPU (--device cpu)", param="device",
        )  # fmt: skip
    words, scales = (torch.cat((getattr(experts, part), getattr(shared, part))) for part in ("words", "scales"))
    orders = [weight.order for weight in (experts, shared)]
    order = None
    if any(found is not None for found in orders):
        own = torch.arange(experts.columns, dtype=torch.int32, device=words.device)
        lead = (len(experts.words), 1)
        order = torch.cat([own.repeat(n, 1) if o is None else o for o, n in zip(orders, lead, strict=True)])
    table = torch.cat((experts.table, shared.table[256:]))
    return replace(experts, words=words, scales=scales, table=table, order=order)


def _gain(value: AnyWeight, shape: Shape) -> Tensor:
    """fp16, or fp32 of zero-centred norms: what a norm multiplies by."""
    gain = _floating(value)
    return 1.0 + gain.float() if shape.zero_centred else gain.to(torch.float16)


def _floating(value: AnyWeight) -> Tensor:
    """The tensor in memory of its own: a view would keep the whole file that it was read with."""
    assert isinstance(value, Tensor), "norms, routers, biases and embeddings are never quantised"
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def _fragment(parts: list[AnyWeight], name: str) -> FragmentWeight:
    """One matrix of the stacked rows of `parts` [N_i, K]."""
    return _experts(parts if any(map(is_formed, parts)) else [_whole(parts)], False, name, squeeze=True)


def _beside(parts: list[AnyWeight], name: str) -> FragmentWeight | Beside:
    """The same, or each alone where their formats differ."""
    pieces = _pieces(parts)
    if not any(map(is_formed, parts)) or (alike(pieces) and same_order(pieces)):
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
        weight = StackedWeight(tuple(_pieces(parts)), (sum(part.shape[-2] for part in parts), parts[0].shape[-1]))
    assert not isinstance(weight, Tensor)
    made = formed_stack(weight, name, interleave=interleave)
    if not squeeze:
        return made
    order = None if made.order is None else made.order[0]
    return replace(made, words=made.words[0], scales=made.scales[0], order=order)


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
