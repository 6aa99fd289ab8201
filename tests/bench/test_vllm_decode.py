"""The rows of vLLM's bench against a module of that name whose clock is the tokens it was asked for."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.harness.models import TINY_EXPERTS
from bench.peers import vllm_decode

FAKE = '''
import json, sys, time, types

__version__ = "0.test"
clock = 0.0
time.perf_counter = lambda: clock


def SamplingParams(**told):
    return told


class StructuredOutputsParams:
    def __init__(self, json):
        assert json["type"] == "object"


sampling_params = types.SimpleNamespace(StructuredOutputsParams=StructuredOutputsParams)


class LLM:
    """A step takes 2 ms and one more for each row, a token of an unseen prompt 1 ms."""

    def __init__(self, model, max_num_seqs, **told):
        with open(model + "/config.json") as file:
            form = json.load(file).get("quantization_config", {}).get("quant_method", "bf16")
        if form == "FAILS":
            raise ValueError("no such kernel")
        assert max_num_seqs == max(told["compilation_config"]["cudagraph_capture_sizes"])
        self.seen = set()

    def generate(self, prompts, sampling, use_tqdm):
        global clock
        texts = {tuple(prompt["prompt_token_ids"]) for prompt in prompts}
        clock += sum(map(len, texts - self.seen)) * 1e-3
        self.seen |= texts
        clock += sampling["max_tokens"] * (2 + len(prompts)) * 1e-3
        answer = types.SimpleNamespace(token_ids=[0] * sampling["max_tokens"])
        return [types.SimpleNamespace(outputs=[answer]) for _ in prompts]
'''


@pytest.fixture
def told(tmp_path: Path) -> argparse.Namespace:
    (tmp_path / "config.json").write_text(json.dumps(TINY_EXPERTS))
    return argparse.Namespace(
        config=tmp_path / "config.json", tokenizer="folder", batches=[1, 4], prefill=[16], prompt=8, steps=5, repeats=2
    )


def rows(told: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> list[dict[str, Any]]:
    (tmp_path / "vllm.py").write_text(FAKE.replace("FAILS", fails))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return vllm_decode.measure(sys.executable, told, tmp_path)


@pytest.mark.parametrize("together", [False, True])
def test_steps_prefills_and_requests_of_every_form(
    told: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    told.together = together
    found = rows(told, tmp_path, monkeypatch, "nothing")
    assert {row["peer"] for row in found} == {"vLLM 0.test"}
    for form in ("GPTQ int4", "bf16"):
        mine = [row for row in found if row["form"] == form]
        assert {row["batch"]: row["ms_per_step"] for row in mine if "batch" in row} == {1: 3.0, 4: 6.0}
        assert [row["ms"] for row in mine if "prefill" in row] == [16 + 3]
        requests = {(row["request"], row["at_once"]): row["s"] for row in mine if "request" in row}
        for way in ("free", "structured"):
            assert requests[f"1079 + 150, {way}", 1] == pytest.approx(1.079 + 0.45)
            assert requests[f"1079 + 150, {way}", 8] == pytest.approx(8 * 1.079 + 1.5)


def test_a_form_that_fails_is_a_row_with_the_reason(
    told: argparse.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(told, tmp_path, monkeypatch, "gptq")
    assert [row["skipped"] for row in found if row["form"] == "GPTQ int4"] == [
        "exit code 1: ValueError: no such kernel"
    ]
    assert len([row for row in found if row["form"] == "bf16"]) == 1 + 2 + 1 + 4
