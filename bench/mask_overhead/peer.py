"""The baseline of the mask-overhead bench: Hugging Face's forward, XGrammar's LogitsProcessor, the same documents."""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

from bench.datasets.schema_sets import PROMPT, schema_set
from bench.harness.statistics import median
from bench.peers.hf_loop import HfLoop, LoopTimes
from bench.peers.hf_model import hf_model
from engine.model.loaded_model import LoadedModel


def peer_runs(loaded: LoadedModel, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The baseline loop over the same documents, on Hugging Face's forward of the same weights."""
    tokenizer, model = loaded.tokenizer, hf_model(loaded.name, loaded.revision, options.device)
    if model.device.type != loaded.runner.device.split(":")[0]:
        raise SystemExit(f"--peer: Hugging Face's {loaded.name} is on {model.device}, ours on {loaded.runner.device}")
    vocabulary = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    loop = HfLoop(model, vocabulary, tokenizer.stop_token_ids)
    prompt, runs = tokenizer.encode(PROMPT), []
    for batch, name in product(options.batches, [name for name in options.sets if name != "mix"]):
        schema, text = schema_set(name).pair(0)
        document = tokenizer.encode(text)
        bound, free = LoopTimes(), LoopTimes()
        for turn in range(options.repeats + 1):
            for times, mask in ((bound, schema), (free, None)):
                found = loop.run(prompt, document, batch, mask)
                times.step_ms += found.step_ms if turn else []
                times.mask_us += found.mask_us if turn else []
        runs.append(
            {"loop": "hf + xgrammar LogitsProcessor", "batch": batch, "schema_set": name} | _figures(bound, free)
        )
        print(f"peer batch {batch} {name}", file=sys.stderr, flush=True)
    return runs


def _figures(bound: LoopTimes, free: LoopTimes) -> dict[str, Any]:
    step, exposed = median(bound.step_ms), median(bound.mask_us)
    return {
        "overlap": False,
        "forced": "off",
        "ms_per_step": round(step, 4),
        "mask_hidden_us": 0.0,
        "mask_exposed_us": round(exposed, 2),
        "exposed_share": round(exposed / (step * 1e3), 6),
        "unconstrained_ms_per_step": round(median(free.step_ms), 4),
        "added_us": round((step - median(free.step_ms)) * 1e3, 2),
        "steps": len(bound.step_ms),
    }
