"""Z and entropies as float64 has them, beside those that a trace recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.datasets.schema_sets import PROMPT, Pair
from bench.replay.engine import ReplayedEngine, legal_masks, unpack, with_stop
from engine.interfaces import StepRecord
from engine.request import Constraint


def distances(engine: ReplayedEngine, pair: Pair, records: Sequence[StepRecord], model: Any) -> dict[str, Any]:
    """Largest distance of the recorded Z and entropies from those of a forward in float64 under the same masks."""
    document = with_stop(engine.tokenizer, pair[1])
    ids = [*engine.tokenizer.encode(PROMPT), *document[:-1]]
    with torch.inference_mode():
        out = model.double().eval()(input_ids=torch.tensor([ids]), logits_to_keep=len(document))
    free = out.logits[0].log_softmax(-1)
    legal = unpack(legal_masks(engine, Constraint.json_schema(pair[0]), document), free.shape[-1])
    bound = free.masked_fill(~legal, -torch.inf).log_softmax(-1)
    wanted = {"mass": free.exp().masked_fill(~legal, 0.0).sum(-1), "entropy_free": _entropy(free)}
    wanted["entropy"] = _entropy(bound)
    kept = sorted(records, key=lambda one: one.position)[: len(document)]
    if len(kept) != len(document):
        raise SystemExit(f"{len(kept)} records of {len(document)} tokens")
    figures = {}
    for name, values in wanted.items():
        far = max(abs(getattr(one, name) - value) for one, value in zip(kept, values.tolist(), strict=True))
        figures[f"{name}_from_float64"] = float(f"{far:.3g}")
    return figures


def _entropy(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Nats per row, float64."""
    return -torch.special.xlogy(log_probabilities.exp(), log_probabilities.exp()).sum(-1)
