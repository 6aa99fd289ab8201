"""Second moments: those that transformers' own forward would show, layer by layer; experts, seldom visited ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.errors import RequestError
from engine.model.files.settings import read_config
from engine.model.files.source_checkpoint import SourceCheckpoint
from engine.model.hf import calibration
from engine.model.hf.calibration import PRIOR_TOKENS, Calibration, Moments, windows_of
from engine.model.hf.quantized_model import empty_model
from tests.model import tiny_moe

WINDOWS = torch.randint(0, 512, (10, 24), generator=torch.Generator().manual_seed(0))


def calibrated(folder: Path) -> tuple[Calibration, list[str]]:
    shape = empty_model(read_config(folder))
    names = [name for name, _ in shape.named_parameters()]
    return Calibration(shape, SourceCheckpoint(folder, shape).read, WINDOWS, "cpu"), names


def mean(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs / len(inputs)


def test_moments_are_of_what_the_whole_model_shows(moe_folder: Path) -> None:
    seen: dict[str, Tensor] = {}
    model = tiny_moe.load(moe_folder)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.update({name: inputs[0].reshape(-1, inputs[0].shape[-1])})
            )
    model(WINDOWS)
    told, names = calibrated(moe_folder)
    compared = 0
    for name in names:
        moments, key = told.moments(name), name.removesuffix(".weight")
        if ".layers." not in name or "norm" in name or name.endswith("gate.weight"):
            assert moments is None, name
        elif key in seen:
            assert torch.allclose(moments, mean(seen[key]), atol=1e-5), name
            compared += 1
        else:
            assert moments.shape == (8, *2 * [64 if name.endswith("gate_up_proj") else 96])
    assert compared == 16


def test_layers_come_and_go(moe_folder: Path) -> None:
    told, _ = calibrated(moe_folder)
    told.moments("model.layers.2.self_attn.q_proj.weight")
    assert all(parameter.is_meta for parameter in told._model.parameters())
    assert not [module for module in told._model.modules() if hasattr(module, "seen") or module._forward_pre_hooks]


def test_an_expert_that_few_tokens_visit_keeps_to_what_all_see() -> None:
    often, seldom = torch.randn(4000, 6), torch.randn(3, 6) * 5
    moments = Moments()
    moments.add(often, 0)
    moments.add(seldom, 2)
    together = mean(torch.cat([often, seldom]))
    told = moments.of_experts(3, shared=True)
    assert torch.allclose(told[1], together, atol=1e-4)
    assert torch.allclose(told[0], mean(often), atol=0.05)
    expected = (seldom.T @ seldom + PRIOR_TOKENS * together) / (3 + PRIOR_TOKENS)
    assert torch.allclose(told[2], expected, atol=1e-4)


def test_columns_of_ones_own_have_no_direction_before_tokens_come() -> None:
    moments = Moments()
    moments.add(torch.randn(4000, 6) * torch.arange(1, 7), 0)
    unvisited = moments.of_experts(2, shared=False)[1]
    assert torch.allclose(unvisited, torch.eye(6) * unvisited[0, 0])


def test_windows_are_texts_and_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "WINDOW", 3)
    monkeypatch.setattr(calibration, "MOST_WINDOWS", 2)
    assert windows_of([[1, 2], [3]], 0).tolist() == [[1, 2, 0]]
    assert windows_of([[1, 2, 3], [4] * 20], 0).tolist() == [[1, 2, 3], [0, 4, 4]]
    assert windows_of([[1]], 0).tolist() == [[1, 0]]
    with pytest.raises(RequestError, match="no text"):
        windows_of([[]], 0)
