"""vLLM beside ours: a config's shape with dummy weights, in GPTQ int4 and bf16, by vLLM's own defaults.

    python bench/peers/vllm_decode.py --config FILE [--tokenizer FOLDER] [--forms int4,bf16] [--batches 1,8,32,64,128]
                                      [--prefill 128,1024,8192] [--prompt 512] [--steps 48] [--repeats 3] [--together]
                                      [--lean]

Needs vLLM and the standard library; `bench.decode --vllm PYTHON` calls it with the interpreter that has vLLM and keeps
its rows beside our own. A step is (generate of 8 + steps tokens - generate of 8) / steps, prompts of random tokens that
the prefix cache holds after a warm-up (by default not those of a model with recurrent layers: both runs then begin with
the prefill), tokens drawn at temperature 1. A prefill is generate() of one token for a prompt never seen. A request is
LIFT's shape: 1,079 tokens never seen and 150 answered, free and, where a tokenizer is named, held to `--schema`;
`--lean` leaves them out. All are the caller's seconds around generate(). Not vLLM's defaults: CUDA graphs are captured
for `--batches` alone, the cache is as large as the rows need, and without FlashInfer recurrent layers' prefill is
Triton's. `--together` starts the engines at once (where the memory holds both) and lets each measure while the other
waits. Codes are as vLLM's dummy loader leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORMS: dict[str, dict[str, Any]] = {
    "int4": {
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
    },
    "bf16": {},
}
NAMES = {"int4": "GPTQ int4", "bf16": "bf16"}
SCHEMA = Path(__file__).resolve().parents[2] / "schemas" / "lift_ir.json"
REQUEST, ANSWER = 1079, 150
"""LIFT's longest instruction, and a document of its usual length."""
AT_ONCE = (1, 8)
FIRST = 8
"""Tokens of the shorter of the two runs whose difference is the steps."""
SLACK = 64
ROW, READY = "vllm_decode row: ", "vllm_decode ready"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every form's rows; 1 when one of them could not be measured."""
    options = _options(arguments)
    if options.child:
        return _child(options)
    with TemporaryDirectory() as folder:
        rows = measure(sys.executable, options, Path(folder))
    for row in rows:
        print(json.dumps(row), flush=True)
    return int(any("skipped" in row for row in rows))


def measure(python: str, options: argparse.Namespace, logs: Path) -> list[dict[str, Any]]:
    """Rows of every form, each from a child process of its own; a form that fails is a row with the reason.

    Reads of `options`: config, tokenizer, batches, prefill, prompt, steps, and where present forms, schema, repeats,
    together.
    """
    options = argparse.Namespace(**{**vars(_options(["--config", "-"])), **vars(options)})
    groups = [options.forms] if options.together else [[form] for form in options.forms]
    rows: list[dict[str, Any]] = []
    for group in groups:
        children = [(form, _start(python, options, form, logs), logs / f"vllm_{form}.log") for form in group]
        try:
            for _, process, log in children:
                _wait_for(READY, process, log)
            for form, process, log in children:
                process.communicate(b"go\n")
                rows += _rows(form, log, process.returncode)
        finally:
            for _, process, _ in children:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    return rows


def _start(python: str, options: argparse.Namespace, form: str, logs: Path) -> Any:
    words = [python, __file__, "--child", form, "--config", options.config, "--schema", options.schema]
    words += ["--tokenizer", options.tokenizer] if options.tokenizer else []
    words += ["--lean"] if options.lean else []
    for name in ("batches", "prefill"):
        words += [f"--{name}", ",".join(map(str, getattr(options, name)))]
    for name in ("prompt", "steps", "repeats"):
        words += [f"--{name}", getattr(options, name)]
    with (logs / f"vllm_{form}.log").open("wb") as log:
        return subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait_for(mark: str, process: Any, log: Path) -> None:
    while process.poll() is None and mark not in log.read_text(errors="replace"):
        time.sleep(0.2)


def _rows(form: str, log: Path, code: int) -> list[dict[str, Any]]:
    lines = log.read_text(errors="replace").splitlines()
    rows = [json.loads(line.removeprefix(ROW)) for line in lines if line.startswith(ROW)]
    if code:
        last = next((line for line in reversed(lines) if "Error" in line), "nothing on the log")
        rows.append({"peer": "vLLM", "form": NAMES[form], "skipped": f"exit code {code}: {last.strip()[:300]}"})
    return rows


def _child(options: argparse.Namespace) -> int:
    """Start vLLM, say so, wait for a line, measure; rows are lines on stdout, between vLLM's own."""
    import vllm

    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        engine = _engine(vllm, options, folder)
        started_s = round(time.perf_counter() - started, 1)
        head = {"peer": f"vLLM {vllm.__version__}", "form": NAMES[options.child]}
        print(f"\n{READY}", flush=True)
        sys.stdin.readline()
        for row in [{"start_s": started_s}, *_measured(vllm, engine, options)]:
            print(f"\n{ROW}{json.dumps({**head, **row})}", flush=True)
    return 0


def _engine(vllm: Any, options: argparse.Namespace, folder: str) -> Any:
    config = json.loads(Path(options.config).read_text(encoding="utf-8"))
    Path(folder, "config.json").write_text(json.dumps({**config, **FORMS[options.child]}), encoding="utf-8")
    longest = max(*options.prefill, options.prompt + options.steps, REQUEST + ANSWER) + SLACK
    return vllm.LLM(
        model=folder, load_format="dummy", tokenizer=options.tokenizer, skip_tokenizer_init=options.tokenizer is None,
        max_model_len=longest, max_num_seqs=max(options.batches), gpu_memory_utilization=0.1,
        kv_cache_memory_bytes=_cache_bytes(config, options, longest),
        compilation_config={"cudagraph_capture_sizes": sorted(options.batches)},
        additional_config={} if find_spec("flashinfer") else {"gdn_prefill_backend": "triton"},
    )  # fmt: skip


def _cache_bytes(config: dict[str, Any], options: argparse.Namespace, longest: int) -> int:
    """As if every layer kept keys and values and, where some are recurrent, states in fp32 too, with pages as large."""
    heads, size, layers = (config[name] for name in ("num_key_value_heads", "head_dim", "num_hidden_layers"))
    tokens = max(options.batches) * (options.prompt + options.steps + SLACK) + longest * max(AT_ONCE)
    state = 4 * config.get("linear_num_value_heads", 0) * config.get("linear_value_head_dim", 0) ** 2
    return int(layers * (tokens * 2 * heads * size * 2 + 2 * max(options.batches) * state))


def _measured(vllm: Any, engine: Any, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    vocabulary = json.loads(Path(options.config).read_text(encoding="utf-8"))["vocab_size"]
    draw = random.Random(0)

    def prompts(count: int, length: int) -> list[dict[str, Any]]:
        return [{"prompt_token_ids": [draw.randrange(vocabulary) for _ in range(length)]} for _ in range(count)]

    def timed(told: list[dict[str, Any]], tokens: int, **settings: Any) -> tuple[float, list[int]]:
        """Seconds, and how many tokens each prompt got."""
        sampling = vllm.SamplingParams(temperature=1.0, max_tokens=tokens, **settings)
        started = time.perf_counter()
        outputs = engine.generate(told, sampling, use_tqdm=False)
        return time.perf_counter() - started, [len(output.outputs[0].token_ids) for output in outputs]

    free = {"ignore_eos": True, "detokenize": False}
    for batch in options.batches:
        told = prompts(batch, options.prompt)
        for _ in range(2):  # once unseen, once from the prefix cache: each is a shape that vLLM compiles for
            timed(told, FIRST + options.steps, **free)
        found = []
        for _ in range(options.repeats):
            short, long = (timed(told, tokens, **free)[0] for tokens in (FIRST, FIRST + options.steps))
            found.append((long - short) / options.steps * 1e3)
        spread = [round(min(found), 4), round(max(found), 4)]
        yield {"batch": batch, "ms_per_step": round(statistics.median(found), 4), "ms_spread": spread}
    for length in options.prefill:
        found = [timed(prompts(1, length), 1, **free)[0] * 1e3 for _ in range(options.repeats + 1)][1:]
        yield {"prefill": length, "ms": round(statistics.median(found), 3)}
    if not options.lean:
        yield from _requests(vllm, options, prompts, timed)


def _requests(vllm: Any, options: argparse.Namespace, prompts: Any, timed: Any) -> Iterator[dict[str, Any]]:
    """LIFT's shape, alone and several at once, free and structured, the first of each not counted."""
    schema = json.loads(Path(options.schema).read_text(encoding="utf-8"))
    ways = {"free": lambda: {"ignore_eos": True}}
    if options.tokenizer:
        structured = vllm.sampling_params.StructuredOutputsParams
        ways["structured"] = lambda: {"structured_outputs": structured(json=schema)}
    for way, settings in ways.items():
        for count in AT_ONCE:
            found = [timed(prompts(count, REQUEST), ANSWER, **settings()) for _ in range(options.repeats + 1)][1:]
            seconds, answered = zip(*found, strict=True)
            yield {
                "request": f"{REQUEST} + {ANSWER}, {way}", "at_once": count, "s": round(statistics.median(seconds), 4),
                "fewest_tokens": min(map(min, answered)),
            }  # fmt: skip


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--tokenizer", help="folder; without it nothing structured is measured")
    parser.add_argument("--schema", type=Path, default=SCHEMA)
    parser.add_argument("--forms", type=lambda text: text.split(","), default=list(FORMS))
    for name, default in (("batches", [1, 8, 32, 64, 128]), ("prefill", [128, 1024, 8192])):
        parser.add_argument(f"--{name}", type=lambda text: [int(part) for part in text.split(",")], default=default)
    for name, number in (("prompt", 512), ("steps", 48), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--together", action="store_true", help="start all engines at once")
    parser.add_argument("--lean", action="store_true", help="no requests")
    parser.add_argument("--child", choices=list(FORMS), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
