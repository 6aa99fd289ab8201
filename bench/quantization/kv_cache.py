"""What keys and values in 8 bits cost, beside what 4-bit weights do: divergence over windows of a text.

    python -m bench.quantization.kv_cache --text FILE [MODEL] [--against nf4] [--limit 64] [--seed 0] [--quick]
                                          [--out DIR]

Every variant goes through the engine's own decoder on a CPU, in fp32, windows of 256 tokens each in one forward, which
reads keys and values from the cache as decoding does. The reference is the same model with its cache in fp32; `kl_all`
is KL(reference || variant) in nats a token, `flips_free` the share of tokens whose first choice differs. Intervals are
bootstrapped over windows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.statistics import ratio
from bench.harness.tables import interval, print_table
from bench.quantization.divergence import compare
from bench.quantization.text import WINDOW, read_windows
from engine.config import EMBEDDED_MODEL, EngineConfig
from engine.model.cpu.cpu_cache import Span
from engine.model.loader import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Score both variants; a table on stdout, the JSON line last."""
    options = _options(arguments)
    with chosen_config(options, {"device": "cpu"}, max_batch=1, max_sequence=WINDOW) as config:
        variants = {"fp8 cache": {"kv_cache": "fp8"}, options.against: {"quantization": options.against}}
        reference, figures = _logits(config, options), {}
        for name, changed in variants.items():
            figures[name] = _divergence(reference, _logits(replace(config, **changed), options), options.seed)
        model = "tiny random model" if options.quick else config.model
    rows = [[name, *(interval(values, 5) for values in found.values())] for name, found in figures.items()]
    print_table(["variant", "kl_all", "flips_free"], rows)
    configuration = {"model": model, "windows": len(reference), "against": options.against, "quick": options.quick}
    line = {"variants": figures}
    emit(record("kv_cache", line, configuration=configuration, seeds=[options.seed], data=[options.text]), options.out)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("quantization.kv_cache", __doc__, "a tiny random model, two windows of this file")
    parser.add_argument("model", nargs="?", default=EMBEDDED_MODEL, help="any that our own decoder computes")
    parser.add_argument("--text", type=Path, default=Path(__file__), help="what is scored")
    parser.add(against="nf4", limit=64, seed=0)
    return parser.read(arguments, text=Path(__file__), limit=2)


def _logits(config: EngineConfig, options: argparse.Namespace) -> list[Tensor]:
    """fp32 [T, V] of every window."""
    loaded = load(config)
    network: Any = loaded.runner._network  # type: ignore[attr-defined]  # one forward of a whole window, which no request is
    found = []
    with torch.inference_mode():
        for window in read_windows(options.text, loaded.tokenizer, options.limit):
            tokens = torch.tensor([*window.prompt, *window.document])
            found.append(network.forward(tokens, [Span(0, 0, len(tokens), 0)], torch.arange(len(tokens))))
    loaded.runner.close()
    return found


def _divergence(reference: Sequence[Tensor], variant: Sequence[Tensor], seed: int) -> dict[str, list[float]]:
    everything = [
        compare(ours, theirs, torch.ones_like(ours, dtype=torch.bool))
        for ours, theirs in zip(reference, variant, strict=True)
    ]
    tokens = [sums.tokens for sums in everything]
    names = ("kl_all", "flips_free")
    return {name: ratio([getattr(sums, name) for sums in everything], tokens, seed=seed) for name in names}


if __name__ == "__main__":
    sys.exit(main())
