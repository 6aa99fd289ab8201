"""A decoder-only transformer over flattened tokens, in plain torch, of whatever blocks its shape names.

One forward serves prefill chunks, single tokens and drafts of many rows at once; rows never see each other. It computes
what Hugging Face's modules compute (checked against them layer by layer in the tests). Its KV cache is overwritten on
rollback; recurrent states are made again. Knows weights and positions. Knows nothing of sampling, grammars or requests.

Axis letters: T tokens of a step, H hidden size, N query heads, K key/value heads, D head size, S positions, V logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch program gives it
from torch import Tensor

from engine.model.architecture.shape import Attention, DeltaNet, Shape
from engine.model.cpu.cpu_cache import CpuCache, Span
from engine.model.cpu.layers import AttentionWeights, DeltaWeights, LayerReader, gain, mix_channels, rms_norm
from engine.model.recurrent.state_cache import SavedStates, StateCache

AGAIN = 512
"""Tokens that are fed again at once where a row goes back farther than what is kept of its states."""


class Decoder:
    """Weights, KV cache and recurrent states of one model: places for `slots` rows of `positions`. Not thread-safe."""

    def __init__(
        self, shape: Shape, weights: Mapping[str, Tensor], *, slots: int, positions: int, dtype: torch.dtype,
        cache: str = "fp16",
    ) -> None:  # fmt: skip
        """`cache`: see `EngineConfig.kv_cache`."""
        self.shape = shape
        self.embedding = weights["model.embed_tokens.weight"].to(dtype)
        head = weights.get("lm_head.weight")
        self.head = self.embedding if head is None or shape.tied else head.to(dtype)
        self.norm = gain(weights["model.norm.weight"], dtype, zero_centred=shape.zero_centred)
        self.layers = [LayerReader(shape, weights, index, dtype).layer() for index in range(shape.layers)]
        self.vocab_size = self.head.shape[0]
        self._places = shape.places
        self._cache = CpuCache(
            shape.caching, shape.kv_heads, shape.head_dim, slots=slots, positions=positions, dtype=dtype,
            coded=cache == "fp8",
        )  # fmt: skip
        self.position_bytes = self._cache.position_bytes
        taps = [layer.mixer.taps for layer in self.layers if isinstance(layer.mixer, DeltaWeights)]
        self.states = StateCache(shape.delta_net, torch.stack(taps), slots=slots) if shape.delta_net else None
        self._cos, self._sin = _rope_table(shape, positions, dtype)

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V] of the flattened token indices `wanted` [R] after feeding `tokens` [T]."""
        for span in spans:
            self._rewind(span)
        final = rms_norm(self._hidden(tokens, spans)[wanted], self.norm, self.shape.eps)
        return F.linear(final, self.head).float()

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the entries of `count` places, from `source` on, to those from `target` on."""
        self._cache.copy(source, target, count)

    def save(self, slot: int, length: int) -> SavedStates | None:
        """What the slot's recurrent states after `length` tokens are made of; keys and values are shared by place."""
        return None if self.states is None else self.states.save(slot, length)

    def load(self, slot: int, saved: SavedStates, length: int) -> None:
        """The reverse of `save`."""
        if self.states is not None:
            self.states.load(slot, saved, length)

    def _rewind(self, span: Span) -> None:
        """Let the recurrent states be those before the span, whatever the row has been fed."""
        if self.states is None:
            return
        reached = self.states.rewind(span.slot, span.position)
        missing = self.states.tokens(span.slot, reached, span.position)
        for at in range(0, len(missing), AGAIN):
            part = torch.tensor(missing[at : at + AGAIN])
            self._hidden(part, [span.earlier(reached + at, len(part))])

    def _hidden(self, tokens: Tensor, spans: Sequence[Span]) -> Tensor:
        """What the last layer gives for each token [T, H]."""
        positions = torch.cat([torch.arange(s.position, s.end) for s in spans])
        cos, sin = self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)  # [T, 1, R]
        if self.states is not None:
            for span in spans:
                self.states.begin(span.slot, span.position, tokens[span.start : span.stop].tolist())
        hidden = F.embedding(tokens, self.embedding)
        for index, (block, layer) in enumerate(zip(self.shape.blocks, self.layers, strict=True)):
            normed, place = rms_norm(hidden, layer.input_norm, self.shape.eps), self._places[index]
            if isinstance(block.mixer, Attention) and isinstance(layer.mixer, AttentionWeights):
                mixed = self._attention(place, block.mixer, layer.mixer, normed, cos, sin, spans)
            elif isinstance(block.mixer, DeltaNet) and isinstance(layer.mixer, DeltaWeights):
                mixed = self._delta_net(place, block.mixer, layer.mixer, normed, spans)
            hidden = hidden + mixed
            normed = rms_norm(hidden, layer.post_norm, self.shape.eps)
            hidden = hidden + mix_channels(block.channels, layer.channels, normed)
        if self.states is not None:
            for span in spans:
                self.states.end(span.slot)
        return hidden

    def _attention(
        self, place: int, kind: Attention, weights: AttentionWeights, normed: Tensor, cos: Tensor, sin: Tensor,
        spans: Sequence[Span],
    ) -> Tensor:  # fmt: skip
        parts = (kind.heads, kind.kv_heads, kind.kv_heads, kind.heads if kind.gated else 0)
        heads = F.linear(normed, weights.qkv, weights.qkv_bias).unflatten(-1, (sum(parts), kind.head_dim))
        q, k, v, gate = heads.split(parts, dim=1)  # [T, heads, D]
        if weights.q_norm is not None and weights.k_norm is not None:
            q, k = rms_norm(q, weights.q_norm, self.shape.eps), rms_norm(k, weights.k_norm, self.shape.eps)
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        mixed = torch.empty_like(q)
        for span in spans:
            rows = slice(span.start, span.stop)
            mixed[rows] = self._cache.attend(place, span, q[rows], k[rows], v[rows])
        return F.linear((mixed * gate.sigmoid() if kind.gated else mixed).flatten(1), weights.output)

    def _delta_net(
        self, place: int, kind: DeltaNet, weights: DeltaWeights, normed: Tensor, spans: Sequence[Span]
    ) -> Tensor:
        assert self.states is not None
        values, heads = kind.value_heads * kind.value_dim, kind.value_heads
        fed, z, b, a = F.linear(normed, weights.inputs).split((sum(kind.widths), values, heads, heads), dim=-1)
        rate, decay = b.sigmoid().float(), weights.decay * F.softplus(a.float() + weights.bias)
        read = torch.empty(len(normed), heads, kind.value_dim)
        for span in spans:
            rows = slice(span.start, span.stop)
            read[rows] = self.states.mix(place, span.slot, fed[rows], decay[rows], rate[rows])
        gated = rms_norm(read, weights.norm, self.shape.eps).flatten(1) * F.silu(z.float())
        return F.linear(gated.to(normed.dtype), weights.output)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864) of a head's first numbers, in the half-split form of Llama."""
    turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    half = turned.shape[-1] // 2
    turned = turned * cos + torch.cat((-turned[..., half:], turned[..., :half]), dim=-1) * sin
    return torch.cat((turned, kept), dim=-1) if kept.shape[-1] else turned


def _rope_table(shape: Shape, positions: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    angles = shape.rope_angles(positions)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)
