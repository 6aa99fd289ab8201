"""One LIFT-shaped request, end to end: 1,079 prompt tokens, a document of about 150 tokens, replayed.

    python -m bench.lift_request [--model random:CONFIG.json] [--tokenizer FOLDER] [--quantization nf4] [--device cuda]
                                 [--prompt-tokens 1079] [--repeats 5] [--quick] [--out DIR]

Ceiling: the prefill of the prompt plus one decode step a token that is not forced. The document comes from our own
schema instances; the model computes as ever and what it samples is replaced, so masks, drafts, verification and
endings run as they would with a model that agrees. Interleaved: free text of the same number of tokens, constrained
with drafts off, constrained with drafts; then eight at once, and a second request with the same instruction.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.record import emit, record
from bench.replayed import Recording, ReplayRunner
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineConfig, Request, Result, SamplingParams
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load

SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "lift_ir.json"
WANTED_TOKENS = 150
"""The instance nearest to this is taken; with the Qwen3 vocabulary it has about 148 tokens and the stop token."""


class Side:
    """One configuration of the engine over the shared model, with the document it replays."""

    def __init__(self, config: EngineConfig, model: LoadedModel, document: tuple[int, ...], *, free: bool) -> None:
        self.runner = ReplayRunner(model.runner)
        self.engine = Engine(config, loaded=dataclasses.replace(model, runner=self.runner))  # type: ignore[arg-type]  # a Runner
        self.document = document
        self.constraint = None if free else Constraint.json_schema(SCHEMA.read_text())
        if self.constraint is not None:
            # `warmup` would go on learning beside the measurement
            self.engine.grammars.submit(self.constraint).result()

    def request(self, prompt: str) -> Request:
        sampling = SamplingParams(temperature=0, max_tokens=len(self.document))
        return Request(prompt=prompt, template="raw", constraint=self.constraint, sampling=sampling)

    def run(self, prompt: str, at_once: int = 1) -> tuple[list[Result], float]:
        """Wall seconds from the first submit to the last answer."""
        self.runner.recording = Recording(self.document, len(self.engine.tokenizer.encode(prompt)))
        started = time.perf_counter()
        futures = [self.engine.submit(self.request(prompt)) for _ in range(at_once)]
        return [future.result() for future in futures], time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.quick:
        options.prompt_tokens, options.repeats = 64, 1
    with tempfile.TemporaryDirectory() as folder:
        config = _config(options, Path(folder))
        model = load(config, progress=lambda phase: print(f"loading: {phase}", file=sys.stderr))
        print(f"{model.runner.device}, {model.runner.quantization}, load {model.phases}")
        figures = measure(config, model, options)
        model.runner.close()
    for name, value in figures.items():
        print(f"{name:26} {value}")
    configuration = {name: str(value) for name, value in vars(options).items() if name != "out"}
    line = record(
        "lift_request", figures, configuration=configuration, repeats=options.repeats, device=model.runner.device
    )
    emit(line, options.out)
    return 0


def measure(config: EngineConfig, model: LoadedModel, options: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn, `repeats` times, medians; eight at once; the shared prefix; then every other instance once."""
    wanted = 50 if options.quick else WANTED_TOKENS
    document, text = min(_documents(model), key=lambda pair: abs(len(pair[0]) - wanted))
    prompts = [_prompt(model, options.prompt_tokens, index) for index in range(3 * options.repeats + 4)]
    alone = dataclasses.replace(config, prefix_cache_bytes=0)
    sides = {
        "free": Side(dataclasses.replace(alone, forced_runs="off"), model, document, free=True),
        "free_in_step": Side(
            dataclasses.replace(alone, forced_runs="off", launch_ahead=False), model, document, free=True
        ),
        "stepwise": Side(dataclasses.replace(alone, forced_runs="off"), model, document, free=False),
        "drafted": Side(dataclasses.replace(alone, launch_ahead=False), model, document, free=False),
        "drafted_ahead": Side(dataclasses.replace(alone, launch_ahead=True), model, document, free=False),
    }
    for side in sides.values():
        side.run(prompts[-1])
    times: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for repeat in range(options.repeats):
        for name, side in sides.items():
            (result,), seconds = side.run(prompts[repeat])
            times[name].append(seconds)
            results[name].append(result)
    if any(result.text != text for name in ("stepwise", "drafted", "drafted_ahead") for result in results[name]):
        raise SystemExit(f"a replay left its document: {[(n, r[0].status, r[0].error) for n, r in results.items()]}")
    figures = {f"{name}_s": round(statistics.median(seconds), 4) for name, seconds in times.items()}
    figures |= _decode_figures(results)
    _, figures["eight_at_once_s"] = sides["drafted"].run(prompts[-2], at_once=8)
    shared = Side(dataclasses.replace(config, forced_runs="verify"), model, document, free=False)
    (first,), _ = shared.run(prompts[-3])
    (second,), seconds = shared.run(prompts[-3][:-20] + " something else")
    figures |= {
        "second_s": round(seconds, 4),
        "ttft_ms": first.timings_ms.prefill,
        "ttft_shared_ms": second.timings_ms.prefill,
    }
    figures |= _every_document(model, sides, prompts[-4], 1 if options.quick else None)
    for side in (*sides.values(), shared):
        side.engine.close()
    return {"document_tokens": len(document), "prompt_tokens": first.usage.prompt_tokens} | figures


def _decode_figures(results: dict[str, list[Result]]) -> dict[str, Any]:
    decode = {name: statistics.median(r.timings_ms.decode for r in found) for name, found in results.items()}
    drafted = results["drafted"][0]
    exposed = statistics.median(r.timings_ms.mask_exposed for r in results["stepwise"])
    return {
        **{f"{name}_decode_ms": round(ms, 2) for name, ms in decode.items()},
        "drafted_over_free": round(decode["drafted"] / decode["free"], 4),
        "drafted_ahead_over_free": round(decode["drafted_ahead"] / decode["free"], 4),
        "in_step_over_ahead_free": round(decode["free_in_step"] / decode["free"], 4),
        "stepwise_over_free": round(decode["stepwise"] / decode["free"], 4),
        "forced_share": round(drafted.usage.forced_tokens / drafted.usage.completion_tokens, 4),
        "mask_exposed_share": round(exposed / decode["stepwise"], 6),
    }


def _config(options: argparse.Namespace, folder: Path) -> EngineConfig:
    if options.quick or not options.model:
        return tiny_config(folder, prefix_cache_bytes=64 << 20)
    return EngineConfig(
        model=options.model,
        tokenizer=options.tokenizer,
        quantization=options.quantization,
        device=options.device,
        max_batch=8,
        max_sequence=2048,
        cache_dir=folder / "cache",
    )


def _documents(model: LoadedModel) -> list[tuple[tuple[int, ...], str]]:
    """Our own valid instances, compact, in tokens with the stop token, and as text."""
    lines = SCHEMA.with_suffix(".valid.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) for line in lines if line.strip()]
    return [((*model.tokenizer.encode(text), model.tokenizer.stop_token_ids[0]), text) for text in texts]


def _every_document(model: LoadedModel, sides: dict[str, Side], prompt: str, most: int | None) -> dict[str, Any]:
    """Decode milliseconds of every instance from 50 tokens on (`most` of them), summed by side, against free text."""
    totals, forced, tokens = dict.fromkeys(sides, 0.0), 0, 0
    documents = sorted((document for document, _ in _documents(model) if len(document) >= 50), key=len)
    for document in documents[:most]:
        for name, side in sides.items():
            side.document = document
            runs = [side.run(prompt)[0] for _ in range(1 if most else 2)]
            (result,) = min(runs, key=lambda run: run[0].timings_ms.decode)
            totals[name] += result.timings_ms.decode
        forced, tokens = forced + result.usage.forced_tokens, tokens + len(document)
    shares = {f"all_{name}_over_free": round(ms / totals["free"], 4) for name, ms in totals.items() if name != "free"}
    return {"all_tokens": tokens, "all_forced_share": round(forced / tokens, 4), **shares}


def _prompt(model: LoadedModel, tokens: int, index: int) -> str:
    """A prompt of that many tokens that shares no prefix with another index."""
    text = (
        f"{index} is the number of this request. " + "State what the function does and name its parameters. " * tokens
    )
    return model.tokenizer.decode(model.tokenizer.encode(text)[:tokens])


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="bench.lift_request", description=__doc__, formatter_class=layout)
    parser.add_argument("--model", help="random:CONFIG.json or any model name; default: a tiny random model")
    parser.add_argument("--tokenizer")
    parser.add_argument("--quantization", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompt-tokens", type=int, default=1079)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tiny random model, a short prompt, one repeat")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
