"""The forward of many flattened tokens (prefill chunks, and steps too long for `DecodeForward`).

Products decode weights inside the tensor-core loop, so nothing is dequantised to memory; tokens are sorted by expert
with
tensor operations that never synchronise. Runs with kernels or with their references. Knows the order of operations;
knows nothing of graphs, sampling or requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.model.cuda.decode_forward import DecodeForward
from engine.model.cuda.fragment_model import FragmentLayer
from engine.model.cuda.kv_cache import CODES
from engine.model.kernels.attention import tile_attention
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.attention.expanding import wide_of
from engine.model.kernels.attention.tile_attention import Tiles
from engine.model.kernels.delta import chunk
from engine.model.kernels.delta.chunks import ChunkScratch, make_chunk_scratch
from engine.model.kernels.delta.memory import Kept
from engine.model.kernels.device import plane
from engine.model.kernels.device.plane import plane_order
from engine.model.kernels.products import prefill
from engine.model.kernels.routing import groups


@dataclass(frozen=True, slots=True)
class LongOperations:
    """Every field has the signature of the kernel of that name."""

    norm: Callable[..., None]
    product: Callable[..., None]
    group: Callable[..., groups.Sorted]
    experts_product: Callable[..., None]
    combine: Callable[..., None]
    tile_attention: Callable[..., None]
    delta_chunk: Callable[..., None]


LONG_KERNELS = LongOperations(
    plane.norm, prefill.product, groups.group, prefill.experts_product, plane.combine, tile_attention.tile_attention,
    chunk.delta_chunk,
)  # fmt: skip
LONG_REFERENCES = LongOperations(
    plane.norm_reference, prefill.product_reference, groups.group_reference, prefill.experts_product_reference,
    plane.combine_reference, tile_attention.tile_attention_reference, chunk.delta_chunk_reference,
)  # fmt: skip


class PrefillForward:
    """Shares weights, cache and rotary tables with the few-token forward `few`."""

    def __init__(self, few: DecodeForward, operations: LongOperations = LONG_KERNELS) -> None:
        self._few = few
        self._operations = operations
        model = few.model
        self._wide = wide_of(few.caches[0]) if few.caches and few.caches[0].keys.dtype == CODES else None
        order = plane_order(model.shape.hidden, few.x.device)

        def planes(weight: Tensor | None) -> Tensor | None:
            if weight is None:
                return None
            return pad(weight.to(few.normed.dtype)[:, order], (0, 0, 0, -len(weight) % 8)).contiguous()

        # rows by eights: of others the library's product takes three times as long
        self._routers = [planes(layer.router) for layer in model.layers]
        self._rates = [planes(layer.rates) for layer in model.layers]

    def layers(self, step: Step, tiles: Tiles) -> Tensor:
        """Enqueue all blocks; gives the residual stream fp32 [T, H]. Rows of the step lie in `tiles`."""
        few, shape = self._few, self._few.model.shape
        layers = few.model.layers
        x = torch.empty(step.tokens.shape[0], shape.hidden, device=few.x.device)
        half = torch.empty(x.shape, dtype=few.half.dtype, device=x.device)
        wanted = {prefill.activation_dtype(layer.qkv, half) for layer in layers}
        normed = torch.empty(x.shape, dtype=wanted.pop() if len(wanted) == 1 else half.dtype, device=x.device)
        gain = layers[0].input_gain
        few.operations.embed(step.tokens, step.slots, few.last, few.model.embedding, gain, x, half, half, eps=shape.eps)
        self._operations.norm(x, gain, normed, eps=shape.eps)
        scratch = None if step.spans is None else make_chunk_scratch(len(step.spans.chunks.row), few.states[0].memory)
        for index, layer in enumerate(layers[: few.depth]):
            following = layers[(index + 1) % len(layers)].input_gain
            place = shape.places[index]
            if layer.delta is None:
                self._attention(layer, few.caches[place], x, normed, step, tiles)
            else:
                self._delta_net(layer, index, x, normed, step, scratch)
            self._mixture(layer, self._routers[index], x, half, normed, step.live, following)
        return x

    def _attention(
        self, layer: FragmentLayer, cache: Cache, x: Tensor, normed: Tensor, step: Step, tiles: Tiles
    ) -> None:
        few, op = self._few, self._operations
        qkv = torch.empty(x.shape[0], layer.qkv.rows, device=x.device)
        op.product(normed, layer.qkv, qkv)
        query = torch.empty(x.shape[0], layer.output.columns, dtype=few.half.dtype, device=x.device)
        gates, qkv = qkv[:, few.keyed :], qkv[:, : few.keyed]
        few.operations.rope(qkv, layer.head_norm, few.turns, step, query, cache)
        # padding tokens are in no tile: what they hold stays in their own rows
        mixed = torch.empty_like(query, dtype=prefill.activation_dtype(layer.output, query))
        op.tile_attention(query, cache, step, tiles, mixed, self._wide)
        if gates.shape[1]:
            few.operations.gate(mixed, gates, plane=True)
        op.product(mixed, layer.output, x, add=True)

    def _delta_net(
        self, layer: FragmentLayer, index: int, x: Tensor, normed: Tensor, step: Step, scratch: ChunkScratch | None
    ) -> None:
        few, op, spans, rates = self._few, self._operations, step.spans, self._rates[index]
        assert spans is not None
        assert rates is not None
        memory, kept = few.states[few.model.shape.places[index]]
        projected = torch.empty(x.shape[0], layer.qkv.rows, device=x.device)
        op.product(normed, layer.qkv, projected)
        ba = _logits(normed.to(rates.dtype), rates)
        mixed = torch.empty(
            x.shape[0], layer.output.columns, dtype=prefill.activation_dtype(layer.output, few.half), device=x.device
        )
        op.delta_chunk(
            projected, ba, layer.delta, spans.rows, spans.chunks, memory, scratch, mixed, plane=True,
            kept=Kept(kept, spans.places),
        )  # fmt: skip
        op.product(mixed, layer.output, x, add=True)

    def _mixture(
        self, layer: FragmentLayer, router: Tensor | None, x: Tensor, half: Tensor, normed: Tensor, live: Tensor,
        following: Tensor,
    ) -> None:  # fmt: skip
        """Adds the experts' outputs to x and leaves the next layer's input in `normed`; `following` is its gain."""
        model, op, eps = self._few.model, self._operations, self._few.model.shape.eps
        wanted = prefill.activation_dtype(layer.gate_up, half)  # the router's stays as exact as it is
        source = half if wanted == half.dtype else torch.empty_like(half, dtype=wanted)
        op.norm(x, layer.post_gain, half, None if source is half else source, eps=eps)
        chosen, pairs = model.chosen, x.shape[0] * model.chosen
        logits = torch.zeros(x.shape[0], 1, device=x.device) if router is None else _logits(half, router)
        logits = logits[:, : model.experts]
        size = prefill.experts_group(half, pairs, logits.shape[1], layer.gate_up, layer.down)
        found = op.group(logits, live, **model.choice, size=size)
        inner = torch.empty(pairs, model.inner, dtype=prefill.activation_dtype(layer.down, half), device=x.device)
        parts = torch.empty(pairs, x.shape[1], dtype=_parts_dtype(half), device=x.device)
        op.experts_product(
            source, found.pairs, found.weights, found.groups, layer.gate_up, layer.down, inner, parts, chosen=chosen
        )
        op.combine(parts, x, following, normed, live, chosen=chosen, eps=eps)


def _logits(normed: Tensor, router: Tensor) -> Tensor:
    """fp32 [T, E]."""
    if normed.is_cuda:
        return torch.mm(normed, router.t(), out_dtype=torch.float32)
    return normed.float() @ router.float().t()


def _parts_dtype(normed: Tensor) -> torch.dtype:
    return torch.float32 if normed.dtype == torch.float32 else torch.bfloat16
