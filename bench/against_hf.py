"""One stream here: our loop against Hugging Face's forward with XGrammar's processor, same weights, same tokens.

    python -m bench.against_hf [--model M] [--set typical] [--repeats 3] [--quick] [--out DIR]

Both replay one document in fp32 on a CPU, free and constrained, in turn; ours also with forced runs verified, which is
what users get. `ms_per_token` is decode time over tokens, the prompt's forward left out, of the best round: what else
runs on a machine only ever adds. Ceiling: the bytes of the weights over the copy bandwidth measured here, since a token
at batch 1 reads every weight once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench.overhead_sets import SchemaSet, schema_set
from bench.peers.hf_loop import HfLoop
from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner
from bench.scorer import model_of
from bench.tables import print_table
from bench.tiny import tiny_config
from engine.config import EngineConfig
from engine.decode.engine import Engine
from engine.model.loader import load
from engine.request import Constraint, Request, SamplingParams

PROMPT = "Describe: "


class Ours:
    """Our engines over one model: step by step, and with forced runs."""

    def __init__(self, config: EngineConfig, chosen: SchemaSet) -> None:
        self.loaded = load(config)
        self._runner = ReplayRunner(self.loaded.runner)
        self.loaded.runner = self._runner
        modes = {"stepwise": "off", "drafted": "verify"}
        self._engines = {
            name: Engine(EngineConfig(model=config.model, forced_runs=mode, max_batch=1), loaded=self.loaded)  # type: ignore[arg-type]  # a str
            for name, mode in modes.items()
        }
        tokenizer = self.loaded.tokenizer
        self.document = (*tokenizer.encode(chosen.text), tokenizer.stop_token_ids[0])
        self.prompt = tokenizer.encode(PROMPT)
        self._constraint = Constraint.json_schema(chosen.schema)

    def run(self, kind: str) -> float:
        """Milliseconds per token of `free`, `constrained` (step by step) or `drafted`."""
        self._runner.recording = Recording(self.document, len(self.prompt))
        engine = self._engines["drafted" if kind == "drafted" else "stepwise"]
        mask = None if kind == "free" else self._constraint
        sampling = SamplingParams(temperature=0.0, max_tokens=len(self.document))
        result = engine.generate(Request(prompt=PROMPT, template="raw", constraint=mask, sampling=sampling))
        return result.timings_ms.decode / (len(self.document) - 1)

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._runner.inner.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both in turn, print the table and the JSON line."""
    options = _parse(arguments)
    with TemporaryDirectory() as folder:
        config = EngineConfig(model=options.model, device="cpu", max_batch=1)
        config = tiny_config(Path(folder), max_batch=1) if options.quick else config
        figures = measure(config, schema_set(options.set), options.repeats)
    ms = [figures[f"{name}_ms_per_token"] for name in NAMES]
    rows = zip(NAMES, ms, strict=True)
    print_table(["loop", "ms per token", "tokens/s"], [[name, f"{own:.3f}", f"{1e3 / own:.2f}"] for name, own in rows])
    configuration = {"model": "tiny random llama" if options.quick else options.model, "set": options.set}
    configuration |= {"threads": torch.get_num_threads(), "dtype": "fp32"}
    emit(record("against_hf", figures, configuration=configuration, repeats=options.repeats), options.out)
    return 0


NAMES = ("ours_free", "hf_free", "ours_constrained", "hf_constrained", "ours_drafted")


def measure(config: EngineConfig, chosen: SchemaSet, repeats: int) -> dict[str, Any]:
    """The best of `repeats` rounds for every loop; a warm-up first."""
    ours = Ours(config, chosen)
    model = model_of(config.model, None, "cpu")
    read = sum(parameter.nbytes for parameter in model.parameters())
    ceiling = read / copy_bytes_per_s() * 1e3
    print(f"ceiling: {ceiling:.2f} ms per token, {read / 1e6:.0f} MB of weights at the copy bandwidth", flush=True)
    tokenizer = ours.loaded.tokenizer
    vocabulary = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    hf = HfLoop(model, vocabulary, tokenizer.stop_token_ids)
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(repeats + 1):
        for name in NAMES if turn % 2 else NAMES[::-1]:
            who, kind = name.split("_")
            schema = None if kind == "free" else chosen.schema
            document = list(ours.document[:-1])
            found = (
                ours.run(kind) if who == "ours" else statistics.mean(hf.run(ours.prompt, document, 1, schema).step_ms)
            )
            times[name] += [found] if turn else []
        print(f"round {turn} of {repeats}", file=sys.stderr, flush=True)
    ours.close()
    ms = {name: min(found) for name, found in times.items()}
    return {
        "ceiling_ms_per_token": round(ceiling, 4),
        **{f"{name}_ms_per_token": round(value, 4) for name, value in ms.items()},
        "free_over_hf": round(ms["ours_free"] / ms["hf_free"], 4),
        "constrained_over_hf": round(ms["ours_constrained"] / ms["hf_constrained"], 4),
        "drafted_over_hf": round(ms["ours_drafted"] / ms["hf_constrained"], 4),
        "document_tokens": len(ours.document),
        "weight_bytes": read,
    }


def copy_bytes_per_s() -> float:
    """Bytes read and written by a copy of 64 MiB, the best of several."""
    source, target = torch.ones(1 << 26, dtype=torch.uint8), torch.empty(1 << 26, dtype=torch.uint8)
    times = []
    for _ in range(7):
        started = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(times)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.against_hf", description="Our loop against Hugging Face's")
    parser.add_argument("--model", default=EngineConfig().model)
    parser.add_argument("--set", default="typical", choices=("trivial", "typical", "hard"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny random model, the trivial schema, one repeat")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.set, options.repeats = "trivial", 1
    return options


if __name__ == "__main__":
    sys.exit(main())
