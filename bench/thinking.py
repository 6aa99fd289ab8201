"""How far does the grammar push the model, at once and after it has thought?

    python -m bench.thinking [--model M] [--prompts FILE] [--limit N] [--samples 4] [--characters 0,120,480]
                             [--batch 16] [--seed 0] [--quick] [--out DIR]

Every prompt of `bench/data/prompts.jsonl` is answered at temperature 1 under the grammar of a signature: at once, and
behind a text of the model's own that `</think>` ends, as a structural tag. The cost of a document is the sum of
-log Z_t over its tokens, Z_t being the share of the model that was legal. Over documents drawn so, the mean cost is the
divergence KL(masked || model), in nats: the projection tax of arXiv 2603.03305. Arms that think differ in the most
characters that they may write; with 0 the marker stands there alone. Means over prompts carry 95 % bootstrap intervals,
and so do the differences from the first arm with the marker. Ceiling: a cost of 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.datasets.signatures import PROMPTS, SCHEMA, Task, check_signature, read_tasks
from bench.harness.commandline import Options
from bench.harness.models import chosen_config, model_name
from bench.harness.record import emit, record
from bench.harness.statistics import mean
from bench.harness.tables import interval, print_table
from engine import Constraint, Engine, EngineConfig, Request, Result, SamplingParams
from engine.decode.requests.prompt import SCHEMA_SENTENCE
from engine.interfaces import Tokenizer

MAX_TOKENS = 400
"""Of a document: more than nearly all drawn ones need. One that is closed counts with what was drawn of it."""
MARKER = "</think>\n"
THINK = f" First think in a few words, then write {MARKER.strip()}, then the document."
SCORES = ("cost", "cost_a_token", "name", "complete", "tokens", "thought")


def main(arguments: Sequence[str] | None = None) -> int:
    """0; the figures are for people to judge."""
    parser = Options("thinking", __doc__, "a tiny random model, two prompts")
    parser.add_model("model", "device", model=EngineConfig().model)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--limit", type=int, help="only the first N prompts")
    parser.add(samples=4, characters=(0, 120, 480), batch=16, seed=0)
    options = parser.read(arguments, limit=2, samples=2, characters=[0, 20])
    tasks = read_tasks(options.prompts)[: options.limit]
    print(f"ceiling: a cost of 0 nats; {len(tasks)} prompts, {options.samples} documents of each", flush=True)
    with chosen_config(options, {}, max_batch=options.batch, max_sequence=2048) as config, Engine(config) as engine:
        arms = [_arm(engine, tasks, characters, options) for characters in (None, *options.characters)]
        device, revision = engine.loaded.runner.device, engine.loaded.revision
    rows = [_row(arm, arms[1], options.seed) for arm in arms]
    for suffix in ("", "_gain"):
        print("\n" + ("less the first arm with the marker, prompt by prompt" if suffix else "means over prompts"))
        print_table(
            ["thinks", *SCORES], [[row["thinks"], *(interval(row[n + suffix]) for n in SCORES)] for row in rows]
        )
    configuration = {"model": model_name(options), "prompts": len(tasks), "samples": options.samples, "temperature": 1}
    line = record(
        "thinking", {"arms": rows}, configuration=configuration, seeds=[options.seed], model_revision=revision,
        data=[options.prompts], device=device,
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _arm(engine: Engine, tasks: Sequence[Task], characters: int | None, options: Any) -> dict[str, Any]:
    """Per prompt the means of SCORES over its documents, by name; `characters` of None: at once."""
    told = "" if characters is None else THINK
    requests = [
        Request(
            prompt=task.prompt + told, system=SCHEMA_SENTENCE.format(schema=_DOCUMENT.source),
            constraint=_constraint(characters),
            sampling=SamplingParams(
                temperature=1.0, max_tokens=MAX_TOKENS + 2 * (characters or 0), n=options.samples, logprobs=0,
                seed=options.seed + index,
            ),
        )
        for index, task in enumerate(tasks)
    ]  # fmt: skip
    means: list[dict[str, float]] = []
    for result, task in zip(engine.generate_batch(requests), tasks, strict=True):
        scores = [_scores(sample, task, engine.tokenizer) for sample in result.samples or [result]]
        means.append({name: sum(one[name] for one in scores) / len(scores) for name in scores[0]})
    thinks = "at once" if characters is None else f"up to {characters} characters"
    print(thinks, file=sys.stderr, flush=True)
    return {"thinks": thinks, "means": means}


def _constraint(characters: int | None) -> Constraint:
    if characters is None:
        return _DOCUMENT
    thought = {"type": "regex", "pattern": f"[^<]{{0,{characters}}}"}
    marker = {"type": "const_string", "value": MARKER}
    document = {"type": "json_schema", "json_schema": SCHEMA}
    return Constraint.structural_tag({"format": {"type": "sequence", "elements": [thought, marker, document]}})


_DOCUMENT = Constraint.json_schema(SCHEMA)


def _scores(result: Result, task: Task, tokenizer: Tokenizer) -> dict[str, float]:
    """Of one document: what it cost in nats, and what of SCORES it got right."""
    thought, _, text = result.text.rpartition(MARKER)
    drawn = _of_document(result, len(text.encode()), tokenizer)
    cost = sum(entry["constrained"] - entry["raw"] for entry in drawn)
    right = check_signature(result.value if text == result.text else json.loads(text), task.expect)
    return {
        "cost": cost, "cost_a_token": cost / max(1, len(drawn)), "complete": float(result.status == "complete"),
        "tokens": float(len(drawn)), "thought": float(len(thought)), "name": float(right["name"]),
    }  # fmt: skip


def _of_document(result: Result, size: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The drawn tokens that wrote the last `size` bytes of the text, with the one that ends it."""
    entries, start = list(result.logprobs or ()), len(result.token_ids)
    while size > 0:
        start -= 1
        size -= len(tokenizer.token_bytes(result.token_ids[start]) or b"")
    return entries[start:]


def _row(arm: Mapping[str, Any], base: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Means with intervals, and differences from the arm `base`, prompt by prompt."""
    row: dict[str, Any] = {"thinks": arm["thinks"]}
    for name in SCORES:
        pairs = [(one[name], other[name]) for one, other in zip(arm["means"], base["means"], strict=True)]
        row[name] = mean([one for one, _ in pairs], seed=seed)
        row[f"{name}_gain"] = mean([one - other for one, other in pairs], seed=seed)
    return row


if __name__ == "__main__":
    sys.exit(main())
