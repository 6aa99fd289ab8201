"""Qwen3-Next and the text part of Qwen3.5-MoE from their folders: what transformers computes, wherever rows go back."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.errors import ModelError
from engine.model.architecture.shape import RECURRENT, Shape
from engine.model.cpu.cpu_cache import Span
from engine.model.cpu.cpu_loader import load_cpu, read_weights
from engine.model.cpu.decoder import Decoder
from engine.model.cpu.read_weights import ReadWeights
from engine.model.cuda.cuda_loader import load_accelerated
from engine.model.files.source import resolve
from engine.model.loaded_model import Phases
from engine.model.quantize import quantize
from engine.model.recurrent import state_cache, trail
from tests.model import tiny_recurrent

LENGTH = 260
ROLLBACKS = 25


@pytest.fixture(scope="module", params=tiny_recurrent.NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recurrent.save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def read(folder: Path) -> ReadWeights:
    return read_weights(EngineConfig(model=str(folder)), resolve(str(folder)))


@pytest.fixture(scope="module")
def told(folder: Path) -> tuple[Tensor, Tensor]:
    """Tokens and transformers' logits after each."""
    tokens = torch.randint(0, tiny_recurrent.VOCAB, (LENGTH,), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return tokens, tiny_recurrent.load(folder)(tokens[None]).logits[0]


def decoder_of(read: ReadWeights) -> Decoder:
    assert read.tensors is not None
    shape = Shape.from_config(read.settings)
    return Decoder(shape, read.tensors, slots=2, positions=512, dtype=torch.float32)


@torch.inference_mode()
def feed(decoder: Decoder, tokens: Tensor, start: int, stop: int, slot: int = 0) -> Tensor:
    """Logits after each of the tokens from `start` up to `stop`."""
    part = tokens[start:stop]
    return decoder.forward(part, [Span(slot, 0, len(part), start)], torch.arange(len(part)))


def agree(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(got.argmax(-1), expected.argmax(-1))


def test_200_greedy_tokens_are_transformers_own(folder: Path, read: ReadWeights) -> None:
    decoder, tokens = decoder_of(read), torch.tensor([11, 7, 200, 31])
    logits = feed(decoder, tokens, 0, 4)
    for length in range(4, 204):
        tokens = torch.cat((tokens, logits[-1:].argmax(-1)))
        logits = feed(decoder, tokens, length, length + 1)
    with torch.inference_mode():
        expected = tiny_recurrent.load(folder)(tokens[None]).logits[0].argmax(-1)
    assert torch.equal(tokens[4:], expected[3:-1])
    assert len(tokens.unique()) > 40


@pytest.mark.parametrize("sizes", [(260,), (70, 1, 1, 5, 64, 119), (65, 64, 63, 68)], ids=str)
def test_prefill_in_chunks_equals_one_go(read: ReadWeights, told: tuple[Tensor, Tensor], sizes: Any) -> None:
    decoder, at = decoder_of(read), 0
    for size in sizes:
        agree(feed(decoder, told[0], at, at + size), told[1][at : at + size])
        at += size
    assert at == LENGTH


@pytest.mark.parametrize("kept", [512, 24], ids=["by what tokens fed", "by tokens too"])
def test_going_back_equals_never_having_gone_there(
    read: ReadWeights, told: tuple[Tensor, Tensor], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (trail, state_cache):
        monkeypatch.setattr(module, "FED", kept)
    decoder, dice, at = decoder_of(read), random.Random(kept), LENGTH
    assert decoder.states is not None
    feed(decoder, told[0], 0, LENGTH)
    again, rewind = [], decoder.states.rewind
    monkeypatch.setattr(decoder.states, "rewind", lambda slot, at: again.append(at - (to := rewind(slot, at))) or to)
    for _ in range(ROLLBACKS):
        at = dice.randint(max(0, at - 100), min(at, LENGTH - 1))
        stop = min(LENGTH, at + dice.choice((1, 1, 2, 9, 80)))
        wrong = torch.randint(0, tiny_recurrent.VOCAB, (LENGTH,))
        feed(decoder, wrong, at, dice.randint(at + 1, LENGTH))  # what is taken back
        agree(feed(decoder, told[0], at, stop), told[1][at:stop])
        at = stop
    assert any(again) == (kept < 100)


def test_a_saved_prefix_is_the_state_at_any_of_its_places(read: ReadWeights, told: tuple[Tensor, Tensor]) -> None:
    decoder = decoder_of(read)
    feed(decoder, told[0], 0, 150)
    feed(decoder, told[0], 150, 200)
    saved = decoder.save(0, 200)
    assert saved is not None
    assert saved.nbytes > 0
    feed(decoder, torch.flip(told[0], (0,)), 0, 200)
    for length in (200, 199, 150, 131, 90, 16):
        feed(decoder, told[0], 0, length, slot=1)  # keys and values, which are shared by place
        decoder.load(1, saved, length)
        agree(feed(decoder, told[0], length, length + 20, slot=1), told[1][length : length + 20])


def test_what_is_not_read_and_what_states_take_is_told(folder: Path) -> None:
    config = EngineConfig(model=str(folder), max_batch=2, max_sequence=256)
    loaded = load_cpu(config, resolve(str(folder)), Phases(None))
    loaded.runner.close()
    lines = loaded.inventory.splitlines()
    seen = "not read: " if folder.name.startswith("qwen3_next") else "weights of vision and "
    assert seen in lines[0]
    assert "1 weights of multi-token prediction; text alone" in lines[0]
    assert lines[1].startswith("recurrent state: ")
    assert "2 rows: " in lines[1]


def test_sizes_that_no_gpu_kernel_takes_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="layer 0 does not suit the GPU kernels"):
        load_accelerated(EngineConfig(model=str(folder)), resolve(str(folder)), "cpu", Phases(None))


def test_large_matrices_are_quantised_and_gates_and_convolutions_stay(folder: Path) -> None:
    read = read_weights(EngineConfig(model=str(folder), quantization="nf4"), resolve(str(folder)))
    formats = {tuple(line.split()[:2]) for line in read.inventory.splitlines()}
    floats = {(kind, "fp32") for kind in ("head", "embedding", "router", "norm", "convolution", "gates")}
    assert floats | {(kind, "nf4") for kind in ("experts", "attention", "mlp")} <= formats


def test_a_checkpoint_of_it_has_the_values_of_quantising_while_loading(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    quantize(str(folder), "nf4", tmp_path / "out", notice=lines.append)
    made = read_weights(EngineConfig(model=str(tmp_path / "out")), resolve(str(tmp_path / "out")))
    expected = read_weights(EngineConfig(model=str(folder), quantization="nf4"), resolve(str(folder)))
    assert made.tensors is not None
    assert expected.tensors is not None
    assert made.settings.model_type in RECURRENT
    assert made.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(made.tensors[name], weight) for name, weight in expected.tensors.items())
    assert any("of multi-token prediction" in line for line in lines)


def test_a_step_that_failed_leaves_what_was_before_it(
    read: ReadWeights, told: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = decoder_of(read)
    feed(decoder, told[0], 0, 100)
    with monkeypatch.context() as patched:
        patched.setattr(decoder, "_attention", lambda *_: 1 / 0)  # behind three recurrent layers
        with pytest.raises(ZeroDivisionError):
            feed(decoder, told[0], 100, 110)
    agree(feed(decoder, told[0], 100, 120), told[1][100:120])


def test_in_16_bits_it_errs_no_more_than_transformers_does(
    folder: Path, read: ReadWeights, told: tuple[Tensor, Tensor]
) -> None:
    assert read.tensors is not None
    shape, (tokens, expected) = Shape.from_config(read.settings), told
    decoder = Decoder(shape, read.tensors, slots=1, positions=512, dtype=torch.bfloat16)
    with torch.inference_mode():
        theirs = tiny_recurrent.load(folder).bfloat16()(tokens[None]).logits[0]
    ours = feed(decoder, tokens, 0, LENGTH)
    errors = [(logits - expected).norm(dim=-1).median() for logits in (ours, theirs)]  # few tokens choose other experts
    assert errors[0] < 1.25 * errors[1], errors
