"""How fast tokens come, against what the memory allows.

    python -m bench.decode [--config FILE] [--quantizations nf4,int8,bf16] [--batches 1,8,32,64,128]
                           [--prefill 128,1024,8192] [--positions 8192,32000] [--cache fp16] [--steps 48]
                           [--back 8,500] [--sequence 2112] [--repeats 5] [--kernels] [--peer]
                           [--vllm PYTHON [--tokenizer FOLDER] [--together]] [--lean] [--quick] [--out DIR]
                           [--as sm_80 [--greedy 200]]

Measures the copy ceiling first. Then, per quantisation, with random weights of the config's shape made on the device:
milliseconds a step for every batch, constrained (a random mask of half the vocabulary) and not, interleaved, every row
its own random prompt and tokens drawn at temperature 1, so that experts differ; sampling alone; prefill; memory.
`bytes_per_step` counts what a step must read once: attention, distinct experts (expected number), head, cache.
`--positions` adds rows of so long contexts, of batches up to 8, over a random cache; `--cache fp8` keeps keys and
values in 8 bits. `--back` adds how much longer a step takes that begins so many tokens before the end of each row.
`--sequence`: positions that a row has room for, where that is more than is used. Names of other tools' formats, and
nl4, stand for their forms with random codes (random_forms.py). `--kernels` adds a table per kernel. `--peer` runs
Hugging Face's generate() of the same shape in the same call, `--lean` prepares only the graphs that are timed and
leaves sampling out (for many formats in one call), `--vllm` runs vLLM before our own, by an interpreter that has it
(bench/peers/vllm_decode.py). Time is the wall clock of a loop that launches the next forward before it reads the tokens
of the last, as the engine does.

`--as` measures another card's code beside this card's own instead: PTX made for that card and assembled for this one
(other_card.py), its greedy tokens and logits against the own code's, times, and the list of all kernels with what the
other card would hold of them (compared.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness.commandline import Options, listed
from bench.harness.models import PRODUCT_CONFIG


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.code:  # imports of 8 s that a wrong option does without
        from bench.decode.compared import run as compare

        return compare(options)
    from bench.decode.measured import run

    run(options)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("decode", __doc__, "a tiny model on a CPU, in seconds")
    parser.add_argument("--config", type=Path, default=PRODUCT_CONFIG)
    parser.add(quantizations=("nf4", "int8", "bf16"), batches=(1, 8, 32, 64, 128), prefill=(128, 1024, 8192))
    parser.add_argument("--positions", type=listed(int), default=[])
    parser.add_argument("--back", type=listed(int), default=[])
    parser.add_argument("--sequence", type=int, default=0)
    parser.add_argument("--cache", choices=("fp16", "fp8"), default="fp16")
    parser.add(prompt=512, steps=48, repeats=5, device="cuda:0")
    parser.add_argument("--kernels", action="store_true", help="a table per kernel")
    parser.add_argument("--peer", action="store_true", help="Hugging Face's generate() of the same shape")
    parser.add_argument("--lean", action="store_true", help="prepare only what is timed, no sampling alone")
    parser.add_argument("--vllm", metavar="PYTHON", help="an interpreter that has vLLM: its figures for the same shape")
    parser.add_argument("--tokenizer", help="folder, for vLLM's structured requests")
    parser.add_argument("--together", action="store_true", help="vLLM's engines start at once")
    parser.add_argument("--as", dest="code", choices=("sm_80", "sm_86", "sm_89"), help="another card's code beside")
    parser.add(greedy=200)
    options = parser.read(
        arguments, device="cpu", quantizations=["nf4"], batches=[1, 2], prefill=[16], prompt=8, steps=2, repeats=1,
        positions=[40], back=[3], greedy=3,
    )  # fmt: skip
    if not options.quick and not options.config.is_file():
        parser.error(f"no model configuration at {options.config}; name one with --config, or run --quick")
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"torch sees no CUDA device for --device {options.device}; run --quick, or --device cpu")
    return options


if __name__ == "__main__":
    sys.exit(main())
