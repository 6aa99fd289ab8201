"""The engine's output is what the naive loop gives: Hugging Face's forward, one token a step, the mask, the argmax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeTextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from engine import Constraint, EngineConfig, Request, SamplingParams
from engine.decode.engine import Engine
from engine.grammar import BitmaskBuffer
from engine.interfaces import RowInput
from engine.model.architecture.shape import Shape, is_supported
from engine.model.cpu.cpu_runner import CpuRunner
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.hf_network import HfNetwork
from engine.model.loaded_model import LoadedModel
from tests.decode.fakes import ByteTokenizer, V

COMMON: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
RECURRENT: dict[str, Any] = {
    **EXPERTS,
    "head_dim": 16,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "shared_expert_intermediate_size": 24,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**COMMON)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**COMMON, head_dim=16)),
    "qwen3_moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig(**COMMON, head_dim=16, **EXPERTS),
    ),
    "qwen3_next": (Qwen3NextForCausalLM, Qwen3NextConfig(**COMMON, **RECURRENT)),
    "qwen3_5_moe": (Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig(**COMMON, **RECURRENT)),
}
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["alpha", "beta"]},
        "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "note": {"type": "string"},
    },
    "required": ["kind", "items", "note"],
    "additionalProperties": False,
}


def tiny(name: str) -> Any:
    torch.manual_seed(5)
    kind, config = MODELS[name]
    return kind(config).eval().float()


def engine_for(model: Any, tmp_path: Path, *, hf: bool = False, **settings: Any) -> Engine:
    config = EngineConfig(**{"max_batch": 4, "max_sequence": 512, "cache_dir": tmp_path, **settings})
    if hf:
        network: Any = HfNetwork(model, slots=4)
    else:
        assert is_supported(model.config)
        shape = Shape.from_config(model.config)
        network = Decoder(shape, model.state_dict(), slots=4, positions=512, dtype=torch.float32)
    runner = CpuRunner(network, max_batch=4, max_sequence=512, quantization="fp32")
    return Engine(config, loaded=LoadedModel("tiny", None, runner, ByteTokenizer()))  # type: ignore[arg-type]


@torch.inference_mode()
def naive(model: Any, engine: Engine, prompt: str, constraint: Constraint | None, max_tokens: int) -> list[int]:
    """No cache, no batch, no draft: the specification."""
    tokens = engine.tokenizer.chat([{"role": "user", "content": prompt}])
    matcher = engine.grammars.compile(constraint).matcher() if constraint else None
    masks, output = BitmaskBuffer(1, V), []
    for _ in range(max_tokens):
        logits = model(torch.tensor([tokens + output])).logits[0, -1].numpy()
        if matcher is not None:
            matcher.fill(masks.array, 0)
            row = masks.array[0]
        else:
            row = engine.grammars.vocabulary.free_row
        legal = np.unpackbits(row.view(np.uint8), bitorder="little")[:V].astype(bool)
        output.append(int(np.where(legal, logits, -np.inf).argmax()))
        if matcher is not None:
            assert matcher.accept(output[-1])
        if output[-1] in engine.tokenizer.stop_token_ids:
            break
    return output


@pytest.mark.parametrize("name", MODELS)
def test_greedy_engine_equals_the_naive_loop_token_by_token(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    with engine_for(model, tmp_path) as engine:
        for prompt in ("one", "another prompt"):
            for constraint in (None, Constraint.json_schema(SCHEMA)):
                request = Request(
                    prompt=prompt, constraint=constraint, sampling=SamplingParams(temperature=0, max_tokens=60)
                )
                result = engine.generate(request)
                expected = naive(model, engine, prompt, constraint, 60)
                kept = len(result.token_ids) if result.status != "closed" else _common(result.token_ids, expected)
                assert list(result.token_ids[:kept]) == expected[:kept]
                assert kept >= 20 or result.status == "complete"


def _common(a: Any, b: Any) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_hugging_faces_in_chunks_batches_and_after_rollback(name: str, tmp_path: Path) -> None:
    from engine.model.cpu.cpu_cache import Span

    model = tiny(name)
    decoder = Decoder(Shape.from_config(model.config), model.state_dict(), slots=2, positions=64, dtype=torch.float32)
    a, b = torch.randint(0, 250, (17,)), torch.randint(0, 250, (9,))
    with torch.inference_mode():
        expected_a, expected_b = model(a[None]).logits[0], model(b[None]).logits[0]
        decoder.forward(a[:10], [Span(0, 0, 10, 0)], torch.tensor([9]))
        decoder.forward(torch.tensor([1, 2, 3]), [Span(0, 0, 3, 10)], torch.tensor([2]))  # rolled back below
        mixed = torch.cat([a[10:], b])
        got = decoder.forward(mixed, [Span(0, 0, 7, 10), Span(1, 7, 16, 0)], torch.arange(16))
    torch.testing.assert_close(got[:7], expected_a[10:], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(got[7:], expected_b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("own", [True, False], ids=["blocks", "slots"])
def test_a_saved_prefix_gives_the_same_logits_in_another_slot(own: bool) -> None:
    model = tiny("qwen3")
    shape, sizes = Shape.from_config(model.config), {"slots": 3, "positions": 64, "dtype": torch.float32}
    network: Any = Decoder(shape, model.state_dict(), **sizes) if own else HfNetwork(model, slots=3)
    runner = CpuRunner(network, max_batch=3, max_sequence=64, quantization="fp32")
    tokens = torch.randint(0, 250, (12,)).tolist()
    logits = []
    runner.forward([RowInput(0, tokens, 0)])
    logits.append(runner._logits.result())  # type: ignore[union-attr]  # a forward has been asked for
    prefix = runner.save_prefix(0, 12)
    runner.forward([RowInput(0, [1] * 12, 0)])
    runner.load_prefix(1, prefix, 8)
    runner.forward([RowInput(1, tokens[8:], 8)])
    logits.append(runner._logits.result())  # type: ignore[union-attr]
    runner.close()
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-4)


def test_batched_rows_equal_solo_runs_under_greedy(tmp_path: Path) -> None:
    model = tiny("qwen3_moe")
    requests = [
        Request(
            prompt=f"prompt number {i}",
            constraint=Constraint.json_schema(SCHEMA) if i % 2 else None,
            sampling=SamplingParams(temperature=0, max_tokens=30 + i),
        )
        for i in range(8)
    ]
    with engine_for(model, tmp_path) as engine:
        solo = [engine.generate(request).token_ids for request in requests]
        together = [future.result().token_ids for future in [engine.submit(request) for request in requests]]
    assert together == solo


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
@pytest.mark.parametrize("mode", ["off", "verify"])
def test_drafts_overlap_and_launching_ahead_do_not_change_sampled_output(
    mode: str, ahead: bool, tmp_path: Path
) -> None:
    model = tiny("llama")
    requests = [
        Request(
            prompt="x" * (1 + i),
            constraint=Constraint.json_schema(SCHEMA) if i % 3 else None,
            sampling=SamplingParams(temperature=0.9, top_p=0.95, seed=4 + i, max_tokens=25 + 9 * i),
        )
        for i in range(7)
    ]
    with engine_for(model, tmp_path, forced_runs="off", overlap=False, launch_ahead=False) as plain:
        expected = [plain.generate(request) for request in requests]
    with engine_for(model, tmp_path, forced_runs=mode, launch_ahead=ahead, prefill_chunk=16) as engine:
        together = [future.result() for future in [engine.submit(request) for request in requests]]
    assert [r.token_ids for r in together] == [r.token_ids for r in expected]
    assert [r.status for r in together] == [r.status for r in expected]
    assert (mode == "verify") == any(r.usage.forced_tokens for r in together)


def test_an_architecture_we_do_not_compute_runs_through_hugging_face(tmp_path: Path) -> None:
    model = tiny("llama")
    request = Request(
        prompt="x", constraint=Constraint.json_schema(SCHEMA), sampling=SamplingParams(temperature=0, max_tokens=50)
    )
    with engine_for(model, tmp_path) as ours, engine_for(model, tmp_path, hf=True) as theirs:
        expected, general = ours.generate(request), theirs.generate(request)
    assert general.error is None
    assert general.token_ids == expected.token_ids
