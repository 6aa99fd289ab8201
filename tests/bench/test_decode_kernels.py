"""The decode bench's table of kernels: what it takes of a step is the step, whatever the model's layers are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.decode.kernels import _bytes, calls_of, together
from bench.harness.models import TINY_EXPERTS
from engine.model.cuda.cuda_runner import CudaRunner
from engine.model.files.settings import read_config
from engine.model.hf.random_weights import random_weights
from tests.model import tiny_recurrent


def runner(folder: Path, recurrent: bool) -> CudaRunner:
    if recurrent:
        tiny_recurrent.save("qwen3_next", folder, **tiny_recurrent.SUITED)
    else:
        (folder / "config.json").write_text(json.dumps(TINY_EXPERTS))
    settings = read_config(folder / "config.json")
    tensors: Any = dict(random_weights(settings, "nf4", "cpu", 0).tensors)
    return CudaRunner(tensors, settings, max_batch=10, max_sequence=128, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 10])
def test_every_operation_of_a_step_is_a_row(recurrent: bool, batch: int, tmp_path: Path) -> None:
    made = runner(tmp_path, recurrent)
    few, wide = made._few, made._wide
    for slot in range(batch):
        made.blocks.reserve(slot, 0, 8)
    with torch.inference_mode():
        found = calls_of(few, wide, batch, 5)
        layers = few.model.layers
        experts = sized(found, ("experts_one", "strips_product", "grouped_product"))
        assert len(experts) == len(layers)
        assert len(sized(found, ("delta_step",))) == sum(layer.delta is not None for layer in layers)
        attention = sum(layer.delta is None for layer in layers)
        assert len(sized(found, ("attention", "attend_few"))) == attention
        weights = layers[0].gate_up.nbytes + layers[0].down.nbytes
        assert 0 < _bytes(experts[0], few, batch, 5) <= weights
        for calls in found.values():
            together(calls)()
    assert few.operations.linear.__module__.startswith("engine."), "the forward is as it was"


def sized(found: dict[str, list[Any]], names: Sequence[str]) -> list[Any]:
    return [call for name, calls in found.items() if name.split()[0] in names for call in calls]
