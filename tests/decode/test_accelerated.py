"""The GPU's loader and runner behind the whole engine: here with the kernels' references, on a GPU with kernels."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Constraint, EngineConfig, Request, SamplingParams
from engine.decode.engine import Engine
from engine.model.checkpoint.checkpoint import save_checkpoint
from engine.model.cpu.cpu_cache import Span
from engine.model.cuda.cuda_loader import load_accelerated
from engine.model.files.settings import read_config
from engine.model.files.source import resolve
from engine.model.hf.random_weights import random_weights
from engine.model.loaded_model import Phases
from engine.model.loader import load
from tests.decode.fakes import ByteTokenizer, V
from tests.decode.test_identical import SCHEMA

TINY = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": V,
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "eos_token_id": 1,
}


def requests() -> list[Request]:
    return [
        Request(
            prompt=f"prompt {index} " + "word " * (30 * (index % 2)),
            constraint=Constraint.json_schema(SCHEMA) if index % 3 else None,
            sampling=SamplingParams(temperature=0.0, seed=index, max_tokens=30 + 5 * index, n=1 + (index == 5)),
        )
        for index in range(6)
    ]


def results(config: EngineConfig, loaded: Any) -> list[tuple[int, ...]]:
    loaded.tokenizer = ByteTokenizer()
    with Engine(config, loaded=loaded) as engine:
        futures = [engine.submit(request) for request in requests()]
        found = [future.result() for future in futures]
    assert all(result.status in ("complete", "closed", "length") for result in found), [r.error for r in found]
    return [result.token_ids for result in found]


def config_for(tmp_path: Path, quantization: str, **settings: Any) -> EngineConfig:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    tokenizer = {"tokenizer": str(tmp_path), "model": f"random:{path}", "quantization": quantization}
    common = {"max_batch": 3, "max_sequence": 512, "cache_dir": tmp_path / "cache", "prefill_chunk": 32}
    return EngineConfig(**{**common, **tokenizer, **settings})


@pytest.fixture(autouse=True)
def no_tokenizer_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The byte tokenizer stands in for the files that a real checkpoint has."""
    monkeypatch.setattr("engine.model.loaded_model.load_tokenizer", lambda *_, **__: ByteTokenizer())


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
def test_the_whole_engine_gives_the_same_tokens_on_either_runner(
    quantization: str, ahead: bool, tmp_path: Path
) -> None:
    config = config_for(tmp_path, quantization, launch_ahead=ahead)
    reference = load(config_for(tmp_path, quantization, device="cpu"))
    expected = results(config, reference)
    got = results(config, load_accelerated(config, resolve(config.model), "cpu", Phases(None)))
    for request, a, b in zip(requests(), expected, got, strict=True):
        assert a == b or near_tie(reference, request, a, b), f"{a} against {b}"


@pytest.mark.parametrize("accelerated", [False, True])
def test_a_cache_in_8_bits_gives_drafts_chunks_and_company_the_same_tokens(accelerated: bool, tmp_path: Path) -> None:
    def loaded(**settings: Any) -> tuple[EngineConfig, Any]:
        config = config_for(tmp_path, "nf4", device="cpu", **settings)
        source = resolve(config.model)
        return config, load_accelerated(config, source, "cpu", Phases(None)) if accelerated else load(config)

    half, wide = (loaded(kv_cache=kept)[1].runner.blocks.block_bytes for kept in ("fp8", "fp16"))
    assert wide * 33 == half * 32 * 4  # a CPU keeps fp32; a head has 32 numbers
    plain, other = loaded(kv_cache="fp8", forced_runs="off", max_batch=1), loaded(kv_cache="fp8", prefill_chunk=7)
    assert results(*plain) == results(*other)


def test_a_checkpoint_runs_in_its_own_format_where_none_is_named(tmp_path: Path) -> None:
    config = config_for(tmp_path, "nf4")
    made = random_weights(read_config(tmp_path / "config.json"), "int8", "cpu", 0)
    out = tmp_path / "checkpoint"
    save_checkpoint(out, made.tensors, made.manifest, extras={"config.json": tmp_path / "config.json"})
    config = replace(config, model=str(out), quantization=None)
    loaded = load_accelerated(config, resolve(config.model), "cpu", Phases(None))
    assert loaded.runner.quantization == "int8"


@pytest.mark.parametrize("quantization", ["nf4", "int8", "bf16"])
def test_the_files_of_a_checkpoint_do_not_stay_on_the_device(quantization: str, tmp_path: Path) -> None:
    config = config_for(tmp_path, quantization)
    made = random_weights(read_config(tmp_path / "config.json"), quantization, "cpu", 0)
    out = tmp_path / "checkpoint"
    save_checkpoint(out, made.tensors, made.manifest, extras={"config.json": tmp_path / "config.json"})
    config = replace(config, model=str(out))
    model = load_accelerated(config, resolve(config.model), "cpu", Phases(None)).runner._few.model  # type: ignore[attr-defined]
    kept = [part for part in leaves(model) if part.untyped_storage().nbytes() > 2 * part.nbytes + 4096]
    assert not kept, [tuple(part.shape) for part in kept]


def leaves(value: Any) -> list[torch.Tensor]:
    """Every tensor inside dataclasses, tuples and lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    if is_dataclass(value):
        return [part for field in fields(value) for part in leaves(getattr(value, field.name))]
    return [part for one in value for part in leaves(one)] if isinstance(value, list | tuple) else []


def near_tie(reference: Any, request: Request, a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether the first difference is between two tokens whose logits the reference has within 1e-3."""
    at = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    prompt = ByteTokenizer().chat([{"role": "user", "content": request.prompt}])
    tokens = torch.tensor(prompt + list(a[:at]))
    network = reference.runner._network
    logits = network.forward(tokens, [Span(0, 0, len(tokens), 0)], torch.tensor([len(tokens) - 1]))[0]
    return abs(float(logits[a[at]] - logits[b[at]])) < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("quantization", "kept"), [("bf16", "fp16"), ("int8", "fp16"), ("nf4", "fp16"), ("int4", "fp16"), ("nf4", "fp8")]
)
def test_the_whole_engine_runs_on_a_gpu(quantization: str, kept: str, tmp_path: Path) -> None:
    config = config_for(tmp_path, quantization, device="cuda", kv_cache=kept)
    assert all(results(config, load(config)))
