"""200 greedy steps on a GPU over every folder and file that other tools quantised, against the CPU's decoder in fp32.

The GPU rounds activations, and some products of weights and scales, to fp16. So its logits are compared within a bound,
at every position, and its first choice may differ only where the reference's two best are no further apart. Every
expert is chosen: where two are as good as each other, rounding decides which of them counts, and no bound holds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.interfaces import RowInput
from engine.model.cpu.cpu_cache import Span
from engine.model.cpu.cpu_loader import read_weights
from engine.model.cpu.decoder import Decoder, Shape
from engine.model.cuda import cuda_loader
from engine.model.files.source import resolve
from tests.model import foreign, gguf_writer
from tests.model.formats.test_foreign_folders import CASES, SUITED

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]  # fmt: skip
DEVICE, STEPS, BOUND = "cuda:0", 200, 2e-2
PROMPT = [(7 * i + 3) % 250 for i in range(20)]


@pytest.mark.parametrize("case", CASES)
def test_a_folder(case: str, tmp_path: Path) -> None:
    packed, _ = foreign.write_folder(tmp_path, *CASES[case](), **SUITED, num_experts_per_tok=8)
    check(EngineConfig(model=str(packed), max_batch=2, max_sequence=256))


@pytest.mark.parametrize(("kind", "architecture"), [
    ("q8_0", "qwen3moe"), ("q4_0", "qwen3moe"), ("q4_1", "qwen3moe"), ("q4_k", "qwen3moe"), ("q5_k", "qwen3moe"),
    ("q6_k", "qwen3moe"), ("q4_k_m", "qwen3moe"), ("q4_k_m", "qwen3"), ("q4_k_m", "qwen2"), ("q4_k_m", "llama"),
])  # fmt: skip
def test_a_gguf_file(kind: str, architecture: str, tmp_path: Path) -> None:
    others = gguf_writer.Q4_K_M if kind == "q4_k_m" else None
    path = gguf_writer.write(tmp_path / "model.gguf", architecture, kind.removesuffix("_m"), others=others, chosen=4)
    check(EngineConfig(model=str(path), cache_dir=tmp_path / "cache", max_batch=2, max_sequence=256))


def check(config: EngineConfig) -> None:
    tokens, found = steps_on(DEVICE, config)
    reference = of_the_cpu(config, [*PROMPT, *tokens[:-1]])
    distance = (found - reference).norm(dim=-1) / reference.norm(dim=-1)
    assert float(distance.max()) < BOUND, int(distance.argmax())
    lead = reference.max(-1).values - reference.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
    assert bool((lead <= 2 * (found - reference).abs().max(-1).values).all())


def steps_on(device: str, config: EngineConfig) -> tuple[list[int], Tensor]:
    """Tokens drawn greedily, and the logits each was drawn from [steps, vocabulary]."""
    runner = cuda_loader._runner(config, cuda_loader._read(config, resolve(config.model), device), device)
    fed, position, tokens, logits = list(PROMPT), 0, [], []
    for _ in range(STEPS):
        runner.forward([RowInput(1, fed, position)])
        if device != "cpu":
            torch.cuda.synchronize()
        logits.append(runner._logits[0].to("cpu", torch.float32, copy=True))
        position, fed = position + len(fed), [int(logits[-1].argmax())]
        tokens.append(fed[0])
    return tokens, torch.stack(logits)


def of_the_cpu(config: EngineConfig, tokens: list[int]) -> Tensor:
    """Logits in fp32 behind the prompt and behind each token after it."""
    found = read_weights(config, resolve(config.model))
    assert found.tensors is not None
    decoder = Decoder(Shape.from_config(found.settings), found.tensors, slots=1, positions=256, dtype=torch.float32)
    with torch.inference_mode():
        wanted = torch.arange(len(PROMPT) - 1, len(tokens))
        return decoder.forward(torch.tensor(tokens), [Span(0, 0, len(tokens), 0)], wanted).float()
