"""The forward of up to 8 flattened tokens over fragment weights: six to nine launches a layer.

The same code runs with the Triton kernels and with their plain-torch references (`Operations`), which is how a machine
without a GPU checks it. Every buffer is made once, so that a step can be captured as a CUDA graph. Knows the order of
operations. Knows nothing of graphs, sampling or requests. Axis letters: see `kernels.attention` and `kernels.router`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.model.cuda.fragment_model import FragmentLayer, FragmentModel
from engine.model.kernels.attention import attend_few, attention, gating, joining
from engine.model.kernels.attention.attention import Cache, Step
from engine.model.kernels.delta import step as delta_step
from engine.model.kernels.delta.memory import Rates
from engine.model.kernels.delta.spans import LayerStates
from engine.model.kernels.device.fragments import FragmentWeight
from engine.model.kernels.products import experts, linear, strips, token
from engine.model.kernels.routing import router
from engine.model.kernels.routing.router import Pairs, Routes

FEW = 8
"""The most tokens of a step that goes through here."""
ALONE = {4: 2, 8: 2, 16: 2}
"""Up to so many tokens, by bits, each reads its experts alone: two share one of sixteen. Else a lone token does."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What the forward is made of; every field has the signature of the kernel of that name."""

    embed: Callable[..., None]
    linear: Callable[..., None]
    rope: Callable[..., None]
    attention: Callable[..., None]
    attend_few: Callable[..., None]
    router: Callable[..., None]
    route: Callable[..., None]
    experts_one: Callable[..., None]
    strips_product: Callable[..., None]
    combine: Callable[..., None]
    final_norm: Callable[..., None]
    head: Callable[..., None]
    gate: Callable[..., None]
    choose_each: Callable[..., None]
    delta_step: Callable[..., None]


KERNELS = Operations(
    token.embed, linear.linear, attention.rope, attention.attention, attend_few.attend_few,
    router.router, router.route, experts.experts_one, strips.strips_product, experts.combine, token.final_norm,
    token.head, gating.gate, router.choose_each, delta_step.delta_step,
)  # fmt: skip
REFERENCES = Operations(
    token.embed_reference, linear.linear_reference, attention.rope_reference, attention.attention_reference,
    attend_few.attend_few_reference, router.router_reference, router.route_reference,
    experts.experts_one_reference, strips.strips_product_reference, experts.combine_reference,
    token.final_norm_reference, token.head_reference, gating.gate_reference, router.choose_each_reference,
    delta_step.delta_step_reference,
)  # fmt: skip


class DecodeForward:
    """Buffers and order of one model's few-token forward. `cache` as `kv_cache.make_cache` gives it, and `table` int32
    [slots, M] says which of its blocks a slot has; `states` are those of layers that have no such cache; `rows` logits
    rows and as many tokens of attention are the most that wider forwards ask of it."""

    def __init__(
        self, model: FragmentModel, cache: Tensor, table: Tensor, last: Tensor, operations: Operations = KERNELS,
        rows: int = FEW, states: Sequence[LayerStates] = (),
    ) -> None:  # fmt: skip
        self.model = model
        self.operations = operations
        self.last = last
        self.caches = [Cache(layer[0], layer[1], table) for layer in cache]
        self.states = states
        self.turns = rope_tables(model, table.shape[1] * self.caches[0].sizes[1], cache.device)
        self.alone = ALONE.get(model.layers[0].gate_up.kind, 1) if model.experts > 1 else 1
        """Up to so many tokens each reads its experts alone."""
        self.depth = len(model.layers)
        """How many blocks `layers` runs."""
        self._buffers(FEW, rows, cache.device)

    def _buffers(self, tokens: int, rows: int, device: torch.device) -> None:
        model, shape = self.model, self.model.shape
        pairs = tokens * model.chosen
        kept = self.caches[0].keys.dtype  # fp32 with the references, to compare with an fp32 forward
        half = kept if kept.is_floating_point else torch.float16

        def make(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        self.x, self.half = make(tokens, shape.hidden), make(tokens, shape.hidden, dtype=half)
        self.normed = make(tokens, shape.hidden, dtype=half)
        self.keyed = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        """Columns of queries, keys and values."""
        self.qkv = make(tokens, max(layer.qkv.rows for layer in model.layers))
        self.query = make(tokens, shape.heads * shape.head_dim, dtype=half)
        self.mixed = make(tokens, shape.heads * shape.head_dim, dtype=half)
        kind = shape.delta_net
        self.read = make(0) if kind is None else make(tokens, kind.widths[2], dtype=half)
        self.inner = make(pairs, model.inner, dtype=half)
        self.parts = make(pairs, shape.hidden)
        integer = torch.int32
        self.routes = Routes(
            make(tokens, model.experts), make(pairs, dtype=integer), make(pairs) + 1, make(pairs, dtype=integer),
            make(3, 1, dtype=integer),
        )  # fmt: skip
        self._groups = {t: make(3, self._group_count(t), dtype=integer) for t in range(1, tokens + 1)}
        self._lone = {t: router.lone_pairs(t, model.chosen, device) for t in range(1, tokens + 1) if shape.shared}
        sizes = shape.heads, shape.kv_heads, shape.head_dim
        self.scratch = attention.make_scratch(rows, *sizes, device)
        self.parts_of_few = joining.make_parts(tokens, *sizes, device)
        self.everyone = torch.arange(tokens, dtype=integer, device=device)
        head = model.head
        self.final = make(rows, shape.hidden, dtype=half if isinstance(head, FragmentWeight) else head.dtype)

    @contextmanager
    def one_block(self) -> Iterator[None]:
        """Meanwhile a forward runs its first block alone: every kernel that it has, and a fraction of its launches."""
        before, self.depth = self.depth, 1
        try:
            yield
        finally:
            self.depth = before

    def layers(self, step: Step) -> None:
        """Enqueue all blocks for the step's T tokens; the residual stream is left in `x`."""
        count, model = step.tokens.shape[0], self.model
        assert count <= FEW, "longer steps go through the wide forward"
        first = model.layers[0].input_gain
        self.operations.embed(
            step.tokens, step.slots, self.last, model.embedding, first, self.x[:count], self.half[:count],
            self.normed[:count],
            eps=model.shape.eps,
        )  # fmt: skip
        gains = [layer.input_gain for layer in model.layers[1:]] + [model.final_gain]
        blocks = list(zip(model.layers, model.shape.places, gains, strict=True))
        for layer, place, gain in blocks[: self.depth]:
            self._mix(layer, place, step)
            self._mixture(layer, step, gain)

    def _mix(self, layer: FragmentLayer, place: int, step: Step) -> None:
        """Adds the mixer's output to x, and leaves its half copy."""
        count, op, eps = step.tokens.shape[0], self.operations, self.model.shape.eps
        x, half, qkv = self.x[:count], self.half[:count], self.qkv[:count, : layer.qkv.rows]
        mixed = (self.mixed if layer.delta is None else self.read)[:count]
        if count <= self.alone:
            op.linear(half, layer.qkv, qkv, gain=layer.input_gain, eps=eps)
        else:
            op.linear(self.normed[:count], layer.qkv, qkv)
        if layer.delta is None:
            self._attend(layer, self.caches[place], step, qkv, mixed)
        else:
            assert step.spans is not None
            assert layer.rates is not None
            rates = Rates(x, layer.input_gain, layer.rates, eps)
            op.delta_step(qkv, rates, layer.delta, step.spans.rows, self.states[place].memory, mixed)
        op.linear(mixed, layer.output, x, half=half)

    def _attend(self, layer: FragmentLayer, cache: Cache, step: Step, qkv: Tensor, mixed: Tensor) -> None:
        count, op = len(qkv), self.operations
        query, gates, qkv = self.query[:count], qkv[:, self.keyed :], qkv[:, : self.keyed]
        if self.model.shape.head_dim >= attend_few.LEAST_HEAD:
            op.attend_few(qkv, layer.head_norm, self.turns, step, cache, self.parts_of_few, query, mixed)
        else:
            op.rope(qkv, layer.head_norm, self.turns, step, query, cache)
            op.attention(query, cache, step, self.scratch, mixed)
        if gates.shape[1]:
            op.gate(mixed, gates)

    def _mixture(self, layer: FragmentLayer, step: Step, next_gain: Tensor) -> None:
        count, op, model = step.tokens.shape[0], self.operations, self.model
        x, half, normed = self.x[:count], self.half[:count], self.normed[:count]
        routes, chosen, eps = self._routes(count), model.chosen, model.shape.eps
        if layer.router is not None:
            op.router(x, layer.post_gain, layer.router, normed, routes.logits, eps=eps)
        else:
            op.final_norm(x, self.everyone[:count], layer.post_gain, normed, eps=eps)
        pairs = self._pairs(layer, step, routes) if model.shape.shared or count > self.alone else None
        if count <= self.alone:
            choice = {"chosen": chosen, "norm_topk": model.shape.norm_topk, "pairs": pairs}
            op.experts_one(normed, routes.logits, layer.gate_up, layer.down, self.inner, x, half, **choice)
            return
        parts = self.parts[: count * chosen]
        op.strips_product(normed, pairs, layer.gate_up, layer.down, self.inner, parts, chosen=chosen)
        op.combine(parts, x, half, next_gain, normed, step.live, chosen=chosen, eps=eps)

    def _pairs(self, layer: FragmentLayer, step: Step, routes: Routes) -> Pairs:
        """Who goes where, by the router's logits."""
        count, op, model = len(routes.logits), self.operations, self.model
        if model.shape.shared:  # of so many experts few tokens rarely share more than the one that all do
            pairs = self._lone[count]
            op.choose_each(routes.logits, step.live, pairs.ids, pairs.weights, pairs.groups[2], **model.choice)
            return pairs
        if layer.router is not None:
            op.route(routes, step.live, chosen=model.chosen, norm_topk=model.shape.norm_topk)
        else:
            routes.groups.copy_(self._dense_groups(step.live, count))
            routes.pairs.copy_(self.everyone[:count])
        return Pairs(routes.ids, routes.weights, routes.pairs, routes.groups, 8)

    def _group_count(self, count: int) -> int:
        if self.model.experts == 1:
            return -(-count // 8)
        return router.group_bound(count, self.model.chosen, self.model.experts)

    def _dense_groups(self, live: Tensor, count: int) -> Tensor:
        """All tokens on the one expert, by eights."""
        first = self.everyone[: -(-count // 8)] * 8
        return torch.stack((first * 0, first, (live - first).clamp(0, 8)))

    def _routes(self, count: int) -> Routes:
        pairs = count * self.model.chosen
        all_ = self.routes
        return Routes(
            all_.logits[:count],
            all_.ids[:pairs],
            all_.weights[:pairs],
            all_.pairs[:pairs],
            self._groups[count],
        )

    def logits(self, x: Tensor, wanted: Tensor, out: Tensor) -> None:
        """out fp32 [R, V]: final norm and head of the tokens `wanted` int32 [R] of the residual stream x."""
        count, model = wanted.shape[0], self.model
        final = self.final[:count]
        self.operations.final_norm(x, wanted, model.final_gain, final, eps=model.shape.eps)
        if isinstance(model.head, FragmentWeight):
            self.operations.linear(final, model.head, out)
        else:
            self.operations.head(final, model.head, out)


def rope_tables(model: FragmentModel, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, fp32 [S, D/2]; what is not rotated turns by nothing."""
    angles = model.shape.rope_angles(positions)
    angles = pad(angles, (0, model.shape.head_dim // 2 - angles.shape[1]))
    return angles.cos().to(device), angles.sin().to(device)
