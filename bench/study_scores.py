"""One variant against the reference on the same tokens under the same masks, summed per prompt, then as ratios.

Knows documents, masks and a scorer. Knows nothing of formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.bootstrap import Interval, ratio
from bench.divergence import Sums, compare, surprise, unpack
from bench.scorer import Scorer
from bench.signature import Task
from bench.study_documents import Written, document_ids


@dataclass(slots=True)
class Replayed:
    """What every variant is scored on for one prompt: its own document's logits by the reference, and the masks."""

    prompt: list[int]
    document: list[int]
    gold: list[int]
    reference: Tensor
    """fp32 [T, V]."""
    document_masks: Tensor
    gold_masks: Tensor
    """int32 [T, W]."""
    own: PromptScore | None = None
    """The reference against itself: zeros, and how much the expected document surprises it."""


Replay = list[Replayed]


@dataclass(slots=True)
class PromptScore:
    """One prompt's sums; `surprise_*` are of the expected document."""

    sums: Sums
    gold_tokens: int
    surprise_free: float
    surprise_legal: float


def replays(reference: Written, tasks: Sequence[Task], scorer: Scorer) -> Replay:
    """The reference's documents with its logits at every token. Memory: 4 V bytes a token."""
    out = []
    for index, _ in enumerate(tasks):
        gold = reference.golds[index]
        document = document_ids(reference.results[index], gold[-1])
        prompt = reference.prompts[index]
        logits, gold_logits = scorer.logits(prompt, [document, gold])
        one = Replayed(prompt, document, gold, logits, *reference.masks[index])
        one.own = _compare(one, logits, gold_logits)
        out.append(one)
    return out


def score(scorer: Scorer, replay: Replay) -> list[PromptScore]:
    """The weights that the scorer holds now, on every prompt."""
    return [_score_one(scorer, one) for one in replay]


def _score_one(scorer: Scorer, one: Replayed) -> PromptScore:
    return _compare(one, *scorer.logits(one.prompt, [one.document, one.gold]))


def own_scores(replay: Replay) -> list[PromptScore]:
    """The reference's own row."""
    return [one.own for one in replay if one.own is not None]


def _compare(one: Replayed, ours: Tensor, gold: Tensor) -> PromptScore:
    width = one.reference.shape[-1]
    sums = compare(one.reference, ours, unpack(one.document_masks, width))
    free, legal = surprise(gold, torch.tensor(one.gold), unpack(one.gold_masks, width))
    return PromptScore(sums, len(one.gold), free, legal)


def figures_of(scores: Sequence[PromptScore], seed: int) -> dict[str, Any]:
    """Means per token and ratios, each `[value, low, high]`; counts as numbers."""
    tokens = [one.sums.tokens for one in scores]
    names = ("kl_all", "kl_legal", "kl_mass", "flips_free", "flips_legal", "mass", "mass_shift", "mass_distance")
    column: Callable[[str], list[float]] = lambda name: [getattr(one.sums, name) for one in scores]  # noqa: E731 - used once, below
    figures: dict[str, Any] = {name: ratio(column(name), tokens, seed=seed).to_list() for name in names}
    figures["legal_share"] = ratio(column("kl_legal"), column("kl_all"), seed=seed).to_list()
    figures["flip_share"] = ratio(column("flips_legal"), column("flips_free"), seed=seed).to_list()
    figures["flips_open"] = ratio(column("flips_legal"), column("open"), seed=seed).to_list()
    gold = [float(one.gold_tokens) for one in scores]
    figures["ppl_free"] = _exp(ratio([one.surprise_free for one in scores], gold, seed=seed))
    figures["ppl_legal"] = _exp(ratio([one.surprise_legal for one in scores], gold, seed=seed))
    return {**figures, "tokens": int(sum(tokens)), "open_tokens": int(sum(column("open")))}


def _exp(interval: Interval) -> list[float]:
    return [float(value) for value in np.exp(interval.to_list())]
