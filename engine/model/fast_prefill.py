"""The forward of many flattened tokens (prefill chunks, and steps too long for `FastForward`).

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

from engine.model.fast_forward import FastForward
from engine.model.fragment_model import FragmentLayer
from engine.model.kernels import prefill
from engine.model.kernels.attention import Cache, Step
from engine.model.kernels.prefill import Tiles, group_pairs, plane_order


@dataclass(frozen=True, slots=True)
class LongOperations:
    """Every field has the signature of the kernel of that name in `kernels.prefill`."""

    norm: Callable[..., None]
    product: Callable[..., None]
    experts_product: Callable[..., None]
    tile_attention: Callable[..., None]


LONG_KERNELS = LongOperations(prefill.norm, prefill.product, prefill.experts_product, prefill.tile_attention)
LONG_REFERENCES = LongOperations(
    prefill.norm_reference,
    prefill.product_reference,
    prefill.experts_product_reference,
    prefill.tile_attention_reference,
)


class LongForward:
    """Shares weights, cache and rotary tables with the few-token forward `few`."""

    def __init__(self, few: FastForward, operations: LongOperations = LONG_KERNELS) -> None:
        self._few = few
        self._operations = operations
        model = few.model
        order = plane_order(model.shape.hidden, few.x.device)
        self._routers = [
            None if layer.router is None else layer.router.to(few.normed.dtype)[:, order].contiguous()
            for layer in model.layers
        ]

    def layers(self, step: Step, tiles: Tiles, *, padded: bool = True) -> Tensor:
        """Enqueue all blocks; gives the residual stream fp32 [T, H]. Rows of the step lie in `tiles`;
        without `padded` every token is live."""
        few, shape = self._few, self._few.model.shape
        count = step.tokens.shape[0]
        x = torch.empty(count, shape.hidden, device=few.x.device)
        half, normed = (torch.empty(x.shape, dtype=few.half.dtype, device=x.device) for _ in range(2))
        gain = few.model.layers[0].input_gain
        few.operations.embed(
            step.tokens, step.slots, few.last, few.model.embedding, gain, x, half, normed, eps=shape.eps
        )
        alive = torch.arange(count, device=x.device) < step.live if padded else None
        for index, layer in enumerate(few.model.layers):
            self._attention(layer, few.caches[index], x, normed, step, tiles)
            self._mixture(layer, self._routers[index], x, normed, alive)
        return x

    def _attention(
        self, layer: FragmentLayer, cache: Cache, x: Tensor, normed: Tensor, step: Step, tiles: Tiles
    ) -> None:
        few, op, eps = self._few, self._operations, self._few.model.shape.eps
        op.norm(x, layer.input_gain, normed, eps=eps)
        qkv = torch.empty(x.shape[0], layer.qkv.rows, device=x.device)
        op.product(normed, layer.qkv, qkv)
        query = torch.empty(x.shape[0], layer.output.columns, dtype=normed.dtype, device=x.device)
        few.operations.rope(qkv, layer.head_norm, few.turns, step, query, cache)
        mixed = torch.empty_like(query)  # padding tokens are in no tile: what they hold stays in their own rows
        op.tile_attention(query, cache, step, tiles, mixed)
        op.product(mixed, layer.output, x, add=True)

    def _mixture(
        self, layer: FragmentLayer, router: Tensor | None, x: Tensor, normed: Tensor, alive: Tensor | None
    ) -> None:
        model, op = self._few.model, self._operations
        op.norm(x, layer.post_gain, normed, eps=model.shape.eps)
        tokens, chosen, experts = x.shape[0], model.chosen, model.experts
        if router is None:
            ids = torch.zeros(tokens, 1, dtype=torch.int64, device=x.device)
            weights = torch.ones(tokens, 1, device=x.device)
        else:
            ids, weights = self._routes(normed, router)
        if alive is not None:
            ids = torch.where(alive.unsqueeze(-1), ids, experts)
        pairs, groups = group_pairs(ids, experts, group_size(tokens * chosen, experts))
        inner = torch.empty(tokens * chosen, model.inner, dtype=normed.dtype, device=x.device)
        parts = torch.empty(tokens * chosen, x.shape[1], dtype=_parts_dtype(normed), device=x.device)
        op.experts_product(
            normed, pairs, weights.view(-1), groups, layer.gate_up, layer.down, inner, parts, chosen=chosen
        )
        found = parts.view(tokens, chosen, -1).sum(1, dtype=torch.float32)
        x += found if alive is None else torch.where(alive.unsqueeze(-1), found, 0.0)  # padding's parts are not written

    def _routes(self, normed: Tensor, router: Tensor) -> tuple[Tensor, Tensor]:
        """ids int64 and weights fp32 [T, C], in the order of ids."""
        shape = self._few.model.shape
        logits = (
            torch.mm(normed, router.t(), out_dtype=torch.float32)
            if normed.is_cuda
            else normed.float() @ router.float().t()
        )
        ids = logits.topk(shape.experts_per_token, dim=-1).indices.sort(-1).values
        weights = logits.softmax(-1).gather(-1, ids)
        return ids, weights / weights.sum(-1, keepdim=True) if shape.norm_topk else weights


def _parts_dtype(normed: Tensor) -> torch.dtype:
    return torch.float32 if normed.dtype == torch.float32 else torch.bfloat16


def group_size(pairs: int, experts: int) -> int:
    """Tokens of one group: about what an expert gets, between 16 and 128."""
    return min(128, max(16, 1 << max(0, pairs // experts - 1).bit_length()))
