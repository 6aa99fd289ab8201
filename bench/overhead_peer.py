"""The baseline of the mask-overhead bench: Hugging Face's forward, XGrammar's LogitsProcessor, the same documents."""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

from bench.overhead_sets import PROMPT, schema_set
from bench.replayed import median
from engine.model.loaded_model import LoadedModel


def peer_runs(loaded: LoadedModel, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The baseline loop over the same documents, on Hugging Face's forward of the same weights."""
    from bench.peers.hf_loop import HfLoop
    from bench.peers.hf_model import hf_model

    tokenizer = loaded.tokenizer
    vocabulary = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    loop = HfLoop(hf_model(options.model, loaded.revision, options.device), vocabulary, tokenizer.stop_token_ids)
    prompt, runs = tokenizer.encode(PROMPT), []
    for batch, name in product(options.batches, [name for name in options.sets if name != "mix"]):
        chosen = schema_set(name)
        document = tokenizer.encode(chosen.text)
        step, free, mask = [], [], []
        for turn in range(options.repeats + 1):
            bound, unbound = loop.run(prompt, document, batch, chosen.schema), loop.run(prompt, document, batch, None)
            if turn:
                step += bound.step_ms
                free += unbound.step_ms
                mask += bound.mask_us
        runs.append(_peer_figures(batch, name, step, free, mask))
        print(f"peer batch {batch} {name}", file=sys.stderr, flush=True)
    return runs


def _peer_figures(batch: int, name: str, step: list[float], free: list[float], mask: list[float]) -> dict[str, Any]:
    exposed = median(mask)
    return {
        "loop": "hf + xgrammar LogitsProcessor",
        "batch": batch,
        "schema_set": name,
        "overlap": False,
        "forced": "off",
        "ms_per_step": round(median(step), 4),
        "mask_hidden_us": 0.0,
        "mask_exposed_us": round(exposed, 2),
        "exposed_share": round(exposed / (median(step) * 1e3), 6),
        "unconstrained_ms_per_step": round(median(free), 4),
        "added_us": round((median(step) - median(free)) * 1e3, 2),
        "steps": len(step),
    }
