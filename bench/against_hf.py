"""One stream here: our loop against Hugging Face's forward with XGrammar's processor, same weights, same tokens.

    python -m bench.against_hf [--model M] [--set typical] [--repeats 3] [--quick] [--out DIR]

Both replay one document in fp32 on a CPU, free and constrained, in turn; ours also with forced runs verified, which is
what users get. `ms_per_token` is decode time over tokens, the prompt's forward left out, of the best round: what else
runs on a machine only ever adds. Ceiling: the bytes of the weights over the copy bandwidth measured here, since a token
at batch 1 reads every weight once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

import torch

from bench.datasets.schema_sets import PROMPT, SINGLE, SchemaSet, schema_set
from bench.harness.bandwidth import copy_bytes_per_s
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.peers.hf_loop import HfLoop
from bench.peers.hf_model import hf_model
from bench.replay.engine import ReplayedEngine, with_stop
from engine.config import EngineConfig
from engine.model.loader import load
from engine.request import Constraint

NAMES = ("ours_free", "hf_free", "ours_constrained", "hf_constrained", "ours_drafted")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both in turn, print the table and the JSON line."""
    parser = Options("against_hf", __doc__, "a tiny random model, the trivial schema, one repeat")
    parser.add_model("model", model=EngineConfig().model)
    parser.add_argument("--set", default="typical", choices=SINGLE)
    parser.add(repeats=3)
    options = parser.read(arguments, set="trivial", repeats=1)
    with chosen_config(options, {"max_batch": 1}, device="cpu", max_batch=1) as config:
        figures = measure(config, schema_set(options.set), options.repeats)
    ms = {name: figures[f"{name}_ms_per_token"] for name in NAMES}
    print_table(["loop", "ms per token", "tokens/s"], [[n, f"{own:.3f}", f"{1e3 / own:.2f}"] for n, own in ms.items()])
    configuration = {"model": model_name(options), "set": options.set, "threads": torch.get_num_threads()}
    configuration["dtype"] = "fp32"
    emit(record("against_hf", figures, configuration=configuration, repeats=options.repeats), options.out)
    return 0


def measure(config: EngineConfig, chosen: SchemaSet, repeats: int) -> dict[str, Any]:
    """The best of `repeats` rounds for every loop; a warm-up first."""
    loaded = load(config)
    tokenizer, (schema, text) = loaded.tokenizer, chosen.pair(0)
    document, prompt, constraint = with_stop(tokenizer, text), tokenizer.encode(PROMPT), Constraint.json_schema(schema)
    stepwise, drafted = (
        ReplayedEngine(EngineConfig(model=config.model, forced_runs=mode, max_batch=1), loaded)  # type: ignore[arg-type]  # a str
        for mode in ("off", "verify")
    )
    model = hf_model(config.model, None, "cpu")
    read = sum(parameter.nbytes for parameter in model.parameters())
    ceiling = read / copy_bytes_per_s("cpu") * 1e3
    print(f"ceiling: {ceiling:.2f} ms per token, {read / 1e6:.0f} MB of weights at the copy bandwidth", flush=True)
    hf = HfLoop(
        model, [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)], tokenizer.stop_token_ids
    )

    def ours(engine: ReplayedEngine, mask: Constraint | None) -> float:
        return engine.run(PROMPT, document, mask)[0][0].timings_ms.decode / (len(document) - 1)

    def theirs(mask: Any) -> float:
        return mean(hf.run(prompt, list(document[:-1]), 1, mask).step_ms)

    loops: dict[str, Callable[[], float]] = {
        "ours_free": lambda: ours(stepwise, None), "hf_free": lambda: theirs(None),
        "ours_constrained": lambda: ours(stepwise, constraint), "hf_constrained": lambda: theirs(schema),
        "ours_drafted": lambda: ours(drafted, constraint),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(repeats + 1):
        for name in NAMES if turn % 2 else NAMES[::-1]:
            found = loops[name]()
            times[name] += [found] if turn else []
        print(f"round {turn} of {repeats}", file=sys.stderr, flush=True)
    for engine in (stepwise, drafted):
        engine.close()
    loaded.runner.close()
    ms = {name: min(found) for name, found in times.items()}
    return {
        "ceiling_ms_per_token": round(ceiling, 4),
        **{f"{name}_ms_per_token": round(value, 4) for name, value in ms.items()},
        "free_over_hf": round(ms["ours_free"] / ms["hf_free"], 4),
        "constrained_over_hf": round(ms["ours_constrained"] / ms["hf_constrained"], 4),
        "drafted_over_hf": round(ms["ours_drafted"] / ms["hf_constrained"], 4),
        "document_tokens": len(document),
        "weight_bytes": read,
    }


if __name__ == "__main__":
    sys.exit(main())
