"""The forward of up to 256 flattened tokens of many rows: what a step of a large batch, or of drafts, is.

Products are the prefill's (each weight is read and decoded once for all tokens of its tile or expert), attention is the
few-token one (each token over its own row's cache). Dense products leave the sums over stretches of their columns
apart, and what reads them next adds them up. Knows the order of operations; knows nothing of graphs, sampling or
requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.interfaces import RowInput
from engine.model.cuda.decode_forward import DecodeForward
from engine.model.cuda.fragment_model import FragmentLayer
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.delta.memory import Rates
from engine.model.kernels.device import plane
from engine.model.kernels.device.fragments import Beside, FragmentWeight
from engine.model.kernels.products import prefill, stream, strips
from engine.model.kernels.products.prefill import splits_of
from engine.model.kernels.routing import router
from engine.model.kernels.routing.groups import Groups, group_size
from engine.model.kernels.routing.router import Pairs

WIDE = 256
"""The most tokens of a step that goes through here."""
STRIPS = {4: 128, 8: 64, 16: 64}
"""Up to so many tokens, by bits, experts get so few each that a warp per strip of rows is the fastest; 64 in other
tools' formats."""

LARGE = 64
"""Tokens of a group of 16-bit experts that are no strips' work: what many tokens share is read fewer times."""


@dataclass(frozen=True, slots=True)
class WideOperations:
    """Every field has the signature of the kernel of that name."""

    norm: Callable[..., None]
    product_parts: Callable[..., None]
    router_logits: Callable[..., None]
    choose_each: Callable[..., None]
    sort_pairs: Callable[..., None]
    grouped_product: Callable[..., None]
    experts_product: Callable[..., None]
    combine: Callable[..., None]


WIDE_KERNELS = WideOperations(
    plane.norm, prefill.product_parts, router.router_logits, router.choose_each, router.sort_pairs,
    stream.grouped_product, prefill.experts_product, plane.combine,
)  # fmt: skip
WIDE_REFERENCES = WideOperations(
    plane.norm_reference, prefill.product_parts_reference, router.router_logits_reference,
    router.choose_each_reference, router.sort_pairs_reference, strips.strips_product_reference,
    prefill.experts_product_reference, plane.combine_reference,
)  # fmt: skip


def reads_much(row: RowInput) -> bool:
    """Whether a row's tokens should share the reading of its cache: here each of them reads it alone."""
    count = len(row.tokens)
    return count > 16 and row.position + count > 1024


class WideForward:
    """Shares weights, cache, rotary tables and attention with the few-token forward `few`."""

    def __init__(self, few: DecodeForward, operations: WideOperations = WIDE_KERNELS) -> None:
        self._few = few
        self._operations = operations

    def layers(self, step: Step, seen: Callable[[Tensor], object] = lambda _: None) -> Tensor:
        """Enqueue all blocks; gives the residual stream fp32 [T, H], and shows it to `seen` after each block."""
        few, eps = self._few, self._few.model.shape.eps
        layers = few.model.layers
        x = torch.empty(step.tokens.shape[0], few.model.shape.hidden, device=few.x.device)
        half = torch.empty(x.shape, dtype=few.half.dtype, device=x.device)
        normed = torch.empty_like(half, dtype=self._activations(len(x)))
        gain = layers[0].input_gain
        few.operations.embed(step.tokens, step.slots, few.last, few.model.embedding, gain, x, half, half, eps=eps)
        self._operations.norm(x, gain, normed, eps=eps)
        for index, layer in enumerate(layers[: few.depth]):
            following = layers[(index + 1) % len(layers)].input_gain
            self._mix(layer, few.model.shape.places[index], x, normed, step)
            self._mixture(layer, x, normed, step.live, following)
            seen(x)
        return x

    def _mix(self, layer: FragmentLayer, place: int, x: Tensor, normed: Tensor, step: Step) -> None:
        """Adds the mixer's output to x and leaves the experts' input in `normed`."""
        few, op = self._few, self._operations
        mixed = torch.empty(x.shape[0], layer.output.columns, dtype=normed.dtype, device=x.device)
        if layer.delta is None:
            self._attend(layer, few.caches[place], normed, step, mixed)
        else:
            assert step.spans is not None
            assert layer.rates is not None
            rates = Rates(x, layer.input_gain, layer.rates, few.model.shape.eps)
            qkv = self.parts_of(normed, layer.qkv, 1)[:, 0]
            states = few.states[place].memory
            few.operations.delta_step(qkv, rates, layer.delta, step.spans.rows, states, mixed, plane=True)
        parts = self.parts_of(mixed, layer.output)
        op.combine(
            parts.view(-1, x.shape[1]), x, layer.post_gain, normed, step.live, chosen=parts.shape[1],
            eps=few.model.shape.eps, plane=not self._by_strips(len(x)),
        )  # fmt: skip

    def _attend(self, layer: FragmentLayer, cache: Cache, normed: Tensor, step: Step, mixed: Tensor) -> None:
        few, qkv = self._few, self.parts_of(normed, layer.qkv)
        query = torch.empty_like(mixed, dtype=few.half.dtype)
        gates, qkv = qkv[:, :, few.keyed :], qkv[:, :, : few.keyed]
        few.operations.rope(qkv, layer.head_norm, few.turns, step, query, cache)
        few.operations.attention(query, cache, step, few.scratch, mixed, plane=True)
        if gates.shape[2]:
            few.operations.gate(mixed, gates, plane=True)

    def parts_of(self, x: Tensor, weight: FragmentWeight | Beside, splits: int | None = None) -> Tensor:
        """fp32 [T, S, N] whose sum over S is x W^T."""
        parts = torch.empty(x.shape[0], splits or splits_of(weight, x.shape[0]), weight.rows, device=x.device)
        self._operations.product_parts(x, weight, parts)
        return parts

    def _mixture(self, layer: FragmentLayer, x: Tensor, normed: Tensor, live: Tensor, following: Tensor) -> None:
        """Adds the experts' outputs to x and leaves the next layer's input in `normed`; `following` is its gain."""
        model, op, eps = self._few.model, self._operations, self._few.model.shape.eps
        logits = torch.empty(x.shape[0], model.experts, device=x.device)
        if layer.router is None:
            logits.zero_()
        else:
            op.router_logits(x, layer.post_gain, layer.router, logits, eps=eps)
        pairs = self.pairs_of(logits, live)
        parts = torch.empty(len(pairs.ids), x.shape[1], device=x.device)
        self.experts(normed, pairs, layer, parts)
        op.combine(parts, x, following, normed, live, chosen=model.chosen, eps=eps)

    def experts(self, normed: Tensor, pairs: Pairs, layer: FragmentLayer, parts: Tensor) -> None:
        """parts fp32 [P, H]: every pair's output, from normed [T, H] (in plane order where it is no strips' work)."""
        op, model = self._operations, self._few.model
        inner = torch.empty(len(pairs.ids), model.inner, dtype=normed.dtype, device=normed.device)
        if self._by_strips(len(normed)):
            op.grouped_product(normed, pairs, layer.gate_up, layer.down, inner, parts, chosen=model.chosen)
            return
        groups = Groups(pairs.groups[0], pairs.groups[1], pairs.groups[2], pairs.size)
        op.experts_product(
            normed, pairs.order, pairs.weights, groups, layer.gate_up, layer.down, inner, parts, chosen=model.chosen
        )

    def _activations(self, tokens: int) -> torch.dtype:
        """What all products of so many tokens take: bf16 where that is what all weights are in, but for strips."""
        half, layers = self._few.half, self._few.model.layers
        weights = (weight for layer in layers for weight in (layer.qkv, layer.output, layer.gate_up, layer.down))
        wanted = {half.dtype} if self._by_strips(tokens) else {prefill.activation_dtype(w, half) for w in weights}
        return wanted.pop() if len(wanted) == 1 else half.dtype

    def _by_strips(self, tokens: int) -> bool:
        """Whether the experts' products of so many tokens are strips' work, with activations in natural order."""
        return tokens <= STRIPS.get(self._few.model.layers[0].gate_up.kind, 64)

    def pairs_of(self, logits: Tensor, live: Tensor) -> Pairs:
        """Who goes where, by the router's logits [T, E]."""
        model, op = self._few.model, self._operations
        count, chosen, experts = len(logits), model.chosen, model.experts
        size = min(32, group_size(count * chosen, experts))
        if self._by_strips(count):
            size = min(size, 8 if count <= 64 else 16)
        elif self._few.model.layers[0].gate_up.bits == 16:
            size = LARGE
        pairs = router.make_pairs(count, chosen, experts, size, logits.device)
        op.choose_each(logits, live, pairs.ids, pairs.weights, **model.choice)
        op.sort_pairs(pairs, experts=experts)
        return pairs
