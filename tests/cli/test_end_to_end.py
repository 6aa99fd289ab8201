"""The embedded model through the command: a valid document, Ctrl-C in the middle of one (processes), draws (here)."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest

from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]
MASKLOOP = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main(sys.argv[1:]))"]

pytestmark = pytest.mark.slow


def test_a_prompt_becomes_a_valid_ir_and_stderr_tells_how(tmp_path: Path) -> None:
    trace = tmp_path / "t.jsonl"
    ran = subprocess.run(
        [
            *MASKLOOP, "generate", "--schema", "schemas/lift_ir.json",
            "--prompt", "Write a function that adds two integers",
            "--temperature", "0", "--max-tokens", "90", "--report", "--show-prompt", "--trace", str(trace),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["status"] in ("complete", "closed"), report["valid"]) == (True, True)
    schema = json.loads((ROOT / "schemas" / "lift_ir.json").read_text())
    assert jsonschema_rs.validator_for(schema).is_valid(json.loads(report["text"]))
    assert report["usage"]["completion_tokens"] <= 90
    assert "<|im_start|>user\nWrite a function that adds two integers<|im_end|>" in ran.stderr
    for told in (
        r"weights: [\d.]+ s",
        r"first token after [\d.]+ s",
        r"[\d.]+ tokens/s",
        r"% of that time",
    ):
        assert re.search(told, ran.stderr), told
    steps = [line for line in map(json.loads, trace.read_text().splitlines()) if line.get("kind") == "step"]
    assert len(steps) == report["usage"]["completion_tokens"]


@pytest.mark.parametrize("method", [("smc", "--particles", "4"), ("rejection",)], ids=lambda method: method[0])
def test_a_text_is_drawn_from_the_models_own_distribution(maskloop: Run, method: tuple[str, ...]) -> None:
    ran = maskloop(
        "generate", "--choice", "yes", "--choice", "no", "--prompt", "Yes or no?", "--seed", "3", "--report",
        "--max-tokens", "8", "--method", *method,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert (report["status"], report["valid"]) == ("complete", True)
    assert report["text"] in ("yes", "no")
    assert report["log_evidence"] < 0


def test_a_batch_draws_by_every_method(maskloop: Run, tmp_path: Path) -> None:
    yes_or_no = {"prompt": "Yes or no?", "choice": ["yes", "no"], "max_tokens": 8, "seed": 3}
    methods = [{"id": "s", "method": "smc"}, {"id": "r", "method": "rejection"}, {"id": "m"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({**yes_or_no, **each}) + "\n" for each in methods))
    ran = maskloop("batch", str(tmp_path / "in.jsonl"), "--max-sequence", "512")
    assert ran.code == 0, ran.err
    lines = {line["id"]: line for line in map(json.loads, ran.out.splitlines())}
    assert {(line["status"], line["text"] in ("yes", "no")) for line in lines.values()} == {("complete", True)}
    assert lines["s"]["effective_samples"] > 1
    assert lines["r"]["log_evidence"] < 0
    assert "log_evidence" not in lines["m"]


def test_ctrl_c_while_decoding_ends_at_once_with_nothing_on_stdout(heed_interrupts: Callable[[], None]) -> None:
    child = subprocess.Popen(
        [*MASKLOOP, "generate", "--prompt", "Count to a thousand", "--max-tokens", "4000"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    watchdog = threading.Timer(240, child.kill)
    watchdog.start()
    assert child.stderr is not None
    seen = []
    for line in child.stderr:
        seen.append(line)
        if line.startswith("first token"):
            break
    asked = time.monotonic()
    child.send_signal(signal.SIGINT)
    out, rest = child.communicate(timeout=60)
    watchdog.cancel()
    assert (child.returncode, out) == (130, ""), "".join(seen) + rest
    assert rest.splitlines() == ["maskloop: interrupted"]
    assert time.monotonic() - asked < 20
