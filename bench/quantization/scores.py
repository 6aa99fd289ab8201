"""One variant against the reference on the same tokens under the same masks, summed per prompt, then as ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.harness.statistics import ratio
from bench.quantization.divergence import Sums, compare, surprise
from bench.quantization.documents import Replayed
from bench.quantization.scorer import Scorer
from bench.replay.engine import unpack

MEANS = ("kl_all", "kl_legal", "kl_mass", "flips_free", "flips_legal", "mass", "mass_shift", "mass_distance")


@dataclass(slots=True)
class PromptScore:
    """One prompt's sums; `surprise_*` are of the expected document."""

    sums: Sums
    gold_tokens: int
    surprise_free: float
    surprise_legal: float


class Replay:
    """Every prompt's document and expected document, with the reference's logits. Memory: 4 V bytes a token."""

    def __init__(self, prompts: Sequence[Replayed], reference: Scorer) -> None:
        self._prompts = [(one, *_logits(reference, one)) for one in prompts]

    def own_scores(self) -> list[PromptScore]:
        """The reference against itself: zeros, and how much the expected document surprises it."""
        return [_compare(one, logits, logits, gold) for one, logits, gold in self._prompts]

    def scores(self, scorer: Scorer) -> list[PromptScore]:
        """The weights that the scorer holds now."""
        return [_compare(one, logits, *_logits(scorer, one)) for one, logits, _ in self._prompts]


def _logits(scorer: Scorer, one: Replayed) -> Sequence[Tensor]:
    """Of the document and of the expected one, which a text has only one of."""
    if one.document == one.gold:
        return scorer.logits(one.prompt, [one.document]) * 2
    return scorer.logits(one.prompt, [one.document, one.gold])


def _compare(one: Replayed, reference: Tensor, ours: Tensor, gold: Tensor) -> PromptScore:
    width = reference.shape[-1]
    sums = compare(reference, ours, unpack(one.document_masks, width))
    return PromptScore(sums, len(one.gold), *surprise(gold, torch.tensor(one.gold), unpack(one.gold_masks, width)))


def kl_of(scores: Sequence[PromptScore], base: Sequence[PromptScore], seed: int) -> list[float]:
    """The divergence over all tokens as a share of another variant's, `[value, low, high]`."""
    return ratio([one.sums.kl_all for one in scores], [one.sums.kl_all for one in base], seed=seed)


def figures_of(scores: Sequence[PromptScore], seed: int) -> dict[str, Any]:
    """Means per token and ratios, each `[value, low, high]`; counts as numbers."""

    def column(name: str) -> list[float]:
        return [getattr(one.sums, name) for one in scores]

    def share(name: str, of: str) -> list[float]:
        return ratio(column(name), column(of), seed=seed)

    figures: dict[str, Any] = {name: share(name, "tokens") for name in MEANS}
    figures["legal_share"] = share("kl_legal", "kl_all")
    figures["flip_share"] = share("flips_legal", "flips_free")
    figures["flips_open"] = share("flips_legal", "open")
    gold = [float(one.gold_tokens) for one in scores]
    for name in ("free", "legal"):
        surprise_per_token = ratio([getattr(one, f"surprise_{name}") for one in scores], gold, seed=seed)
        figures[f"ppl_{name}"] = [float(value) for value in np.exp(surprise_per_token)]
    return {**figures, "tokens": int(sum(column("tokens"))), "open_tokens": int(sum(column("open")))}
