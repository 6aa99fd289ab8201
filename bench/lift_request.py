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
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.datasets.lift_documents import PROMPT_TOKENS, ir_schema, own_documents, prompt_of_length
from bench.harness.commandline import Options
from bench.harness.models import chosen_config
from bench.harness.record import emit, record
from bench.harness.tables import print_figures
from bench.replay.engine import ReplayedEngine, Tokens, with_stop
from engine import Constraint, EngineConfig, Result
from engine.model.loaded_model import LoadedModel
from engine.model.loader import load

DOCUMENT_TOKENS, QUICK_TOKENS = 150, 50
"""The instance nearest to this is taken; with the Qwen3 vocabulary it has about 148 tokens and the stop token."""
SHORTEST = 50
"""Tokens of the shortest instance that counts among all: below it a request is mostly its prefill."""
SIDES: dict[str, dict[str, Any]] = {
    "free": {"forced_runs": "off"},
    "free_in_step": {"forced_runs": "off", "launch_ahead": False},
    "stepwise": {"forced_runs": "off"},
    "drafted": {"launch_ahead": False},
    "drafted_ahead": {"launch_ahead": True},
}
"""How each side's engine differs; those that are called free decode without the schema."""
CONSTRAINT = Constraint.json_schema(ir_schema())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every side and print the figures."""
    parser = Options("lift_request", __doc__, "a tiny random model, a short prompt, one repeat")
    parser.add_model()
    parser.add(prompt_tokens=PROMPT_TOKENS, repeats=5)
    options = parser.read(arguments, prompt_tokens=64, repeats=1)
    with chosen_config(options, {"prefix_cache_bytes": 64 << 20}, max_batch=8, max_sequence=2048) as config:
        model = load(config, progress=lambda phase: print(f"loading: {phase}", file=sys.stderr))
        device = model.runner.device
        print(f"{device}, {model.runner.quantization}, load {model.phases}")
        figures = measure(config, model, options)
        model.runner.close()
    print_figures(figures)
    configuration = {name: str(value) for name, value in vars(options).items() if name != "out"}
    line = record("lift_request", figures, configuration=configuration, repeats=options.repeats, device=device)
    emit(line, options.out)
    return 0


def measure(config: EngineConfig, model: LoadedModel, options: argparse.Namespace) -> dict[str, Any]:
    """All sides in turn, `repeats` times, medians; eight at once; the shared prefix; then every other instance once."""
    documents = {text: with_stop(model.tokenizer, text) for text in own_documents()}
    wanted = QUICK_TOKENS if options.quick else DOCUMENT_TOKENS
    text = min(documents, key=lambda text: abs(len(documents[text]) - wanted))
    document = documents[text]
    *prompts, every, shared_one, many, first_one = (
        prompt_of_length(model.tokenizer, options.prompt_tokens, index) for index in range(options.repeats + 4)
    )
    alone = dataclasses.replace(config, prefix_cache_bytes=0)
    sides = {name: _side(dataclasses.replace(alone, **settings), model) for name, settings in SIDES.items()}
    for name, side in sides.items():
        side.run(first_one, document, _constraint(name))
    times: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for prompt in prompts:
        for name, side in sides.items():
            (result,), seconds = side.run(prompt, document, _constraint(name))
            times[name].append(seconds)
            results[name].append(result)
    if any(result.text != text for name in sides if _constraint(name) for result in results[name]):
        raise SystemExit(f"a replay left its document: {[(n, r[0].status, r[0].error) for n, r in results.items()]}")
    figures = {f"{name}_s": round(median(seconds), 4) for name, seconds in times.items()}
    figures |= _decode_figures(results)
    _, figures["eight_at_once_s"] = sides["drafted"].run(many, document, CONSTRAINT, at_once=8)
    shared = _side(dataclasses.replace(config, forced_runs="verify"), model)
    (first,), _ = shared.run(shared_one, document, CONSTRAINT)
    (second,), seconds = shared.run(shared_one[:-20] + " something else", document, CONSTRAINT)
    figures |= {
        "second_s": round(seconds, 4),
        "ttft_ms": first.timings_ms.prefill,
        "ttft_shared_ms": second.timings_ms.prefill,
    }
    figures |= _every_document(sides, list(documents.values()), every, 1 if options.quick else None)
    for side in (*sides.values(), shared):
        side.close()
    return {"document_tokens": len(document), "prompt_tokens": first.usage.prompt_tokens} | figures


def _side(config: EngineConfig, model: LoadedModel) -> ReplayedEngine:
    """An engine that knows the grammar; `warmup` would go on learning beside the measurement."""
    engine = ReplayedEngine(config, model)
    engine.grammars.submit(CONSTRAINT).result()
    return engine


def _constraint(side: str) -> Constraint | None:
    return None if side.startswith("free") else CONSTRAINT


def _decode_figures(results: dict[str, list[Result]]) -> dict[str, Any]:
    decode = {name: median(r.timings_ms.decode for r in found) for name, found in results.items()}
    usage = results["drafted"][0].usage
    exposed = median(r.timings_ms.mask_exposed for r in results["stepwise"])
    over = {"drafted_over": "drafted", "drafted_ahead_over": "drafted_ahead", "in_step_over_ahead": "free_in_step"}
    over["stepwise_over"] = "stepwise"
    return {
        **{f"{name}_decode_ms": round(ms, 2) for name, ms in decode.items()},
        **{f"{name}_free": round(decode[side] / decode["free"], 4) for name, side in over.items()},
        "forced_share": round(usage.forced_tokens / usage.completion_tokens, 4),
        "mask_exposed_share": round(exposed / decode["stepwise"], 6),
    }


def _every_document(
    sides: dict[str, ReplayedEngine], documents: list[Tokens], prompt: str, most: int | None
) -> dict[str, Any]:
    """Decode milliseconds of every instance from SHORTEST on (`most` of them), summed by side, against free text."""
    totals, forced, tokens = dict.fromkeys(sides, 0.0), 0, 0
    for document in sorted((one for one in documents if len(one) >= SHORTEST), key=len)[:most]:
        for name, side in sides.items():
            runs = [side.run(prompt, document, _constraint(name))[0][0] for _ in range(1 if most else 2)]
            result = min(runs, key=lambda run: run.timings_ms.decode)
            totals[name] += result.timings_ms.decode
        forced, tokens = forced + result.usage.forced_tokens, tokens + len(document)
    shares = {f"all_{name}_over_free": round(ms / totals["free"], 4) for name, ms in totals.items() if name != "free"}
    return {"all_tokens": tokens, "all_forced_share": round(forced / tokens, 4), **shares}


if __name__ == "__main__":
    sys.exit(main())
