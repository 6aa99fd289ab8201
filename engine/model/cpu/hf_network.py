"""Hugging Face's own forward as a network: any architecture, one cache per slot, one row at a time. Slow and general.

The fallback for architectures that `decoder` does not compute, and the reference it is checked against.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from engine.errors import ModelError
from engine.model.cpu.cpu_cache import Span


@dataclass(frozen=True, slots=True)
class SavedCache:
    """A cropped copy of one slot's cache."""

    cache: Any
    nbytes: int


class HfNetwork:
    """One `DynamicCache` per slot, since what a layer keeps is the architecture's affair; rollback crops it."""

    position_bytes = 0

    def __init__(self, model: PreTrainedModel, *, slots: int, cache: str = "fp16") -> None:
        """ModelError where `cache`, `EngineConfig.kv_cache`, asks for what the architecture does not keep."""
        if cache != "fp16":
            raise ModelError(
                f"Hugging Face's forward of {model.config.model_type!r} has no {cache} cache: leave kv_cache out",
                param="kv_cache",
            )
        self._model = model.eval()
        self.vocab_size = int(model.get_output_embeddings().weight.shape[0])
        self._caches: list[Any] = [DynamicCache() for _ in range(slots)]

    def forward(self, tokens: Tensor, spans: Sequence[Span], wanted: Tensor) -> Tensor:
        """fp32 logits [R, V]; every row is a forward of its own."""
        rows = [self._row(tokens[span.start : span.stop], span) for span in spans]
        return torch.cat(rows)[wanted.to(rows[0].device)].float().cpu()

    def _row(self, tokens: Tensor, span: Span) -> Tensor:
        cache = self._caches[span.slot]
        if span.position == 0:
            cache = self._caches[span.slot] = DynamicCache()
        elif cache.get_seq_length() > span.position:
            _shorten(cache, span.position)
        ids = tokens.unsqueeze(0).to(self._model.device)
        positions = torch.arange(span.position, span.position + ids.shape[1], device=ids.device).unsqueeze(0)
        out = self._model(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
        logits: Tensor = out.logits[0]
        return logits

    def copy(self, source: int, target: int, count: int) -> None:
        """Nothing: entries lie by slots."""

    def save(self, slot: int, length: int) -> SavedCache:
        """A deep copy of the slot's cache, cropped."""
        cache = copy.deepcopy(self._caches[slot])
        _shorten(cache, length)
        layers = getattr(cache, "layers", [])
        return SavedCache(cache, sum(layer.keys.nbytes + layer.values.nbytes for layer in layers))

    def load(self, slot: int, saved: SavedCache, length: int) -> None:
        """Replace the slot's cache by a copy of what was saved."""
        self._caches[slot] = copy.deepcopy(saved.cache)
        _shorten(self._caches[slot], length)


def _shorten(cache: Any, length: int) -> None:
    """Keep the first `length` entries; transformers counts what to remove, as a negative number."""
    surplus = cache.get_seq_length() - length
    if surplus > 0:
        cache.crop(-surplus)
