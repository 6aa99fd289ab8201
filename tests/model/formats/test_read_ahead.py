"""Weights taken apart where their bytes arrive are those that a CPU reads from mapped files, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.checkpoint import parallel_read
from engine.model.checkpoint.read_ahead import ReadAhead
from engine.model.cpu.packed_weights import Opened, open_folder, open_gguf
from engine.model.formats.gguf_file import read_gguf
from engine.model.formats.schemes import scheme_of
from engine.model.weights.inventory import AnyWeight
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.stacked import StackedWeight
from tests.model import foreign, gguf_writer
from tests.model.formats.test_foreign_folders import CASES, DEVICES

TYPES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k")


def write(case: str, folder: Path) -> Path:
    if case in TYPES:
        return gguf_writer.write(folder / "model.gguf", "qwen3moe", case)
    packed, _ = foreign.write_folder(folder, *CASES[case]())
    return packed


def opened(path: Path) -> Opened:
    if path.is_file():
        return open_gguf(read_gguf(path))
    scheme = scheme_of(path)
    assert scheme is not None
    return open_folder(path, scheme)


def parts_of(weight: AnyWeight) -> list[Tensor]:
    if isinstance(weight, StackedWeight):
        return [part for piece in weight.pieces for part in parts_of(piece)]
    return [*weight.parts().values(), weight.codebook] if isinstance(weight, QuantizedTensor) else [weight]


def assert_read_as_mapped(path: Path, device: str) -> None:
    model = opened(path)
    mapped = {name: model.checkpoint.read_weight(name) for name in model.names}
    weights = ReadAhead(model.checkpoint, model.names, device)
    with torch.inference_mode():
        taken = {name: weights.pop(name) for name in reversed(model.names)}
    assert len(weights) == 0
    assert weights.told.keys() == mapped.keys()
    for name, weight in mapped.items():
        assert taken[name].shape == weight.shape
        for found, expected in zip(parts_of(taken[name]), parts_of(weight), strict=True):
            assert found.device == torch.device(device)
            assert found.dtype == expected.dtype
            assert torch.equal(as_bytes(found.cpu()), as_bytes(expected)), name


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [*CASES, *TYPES])
def test_what_arrives_is_what_is_mapped(case: str, device: str, tmp_path: Path) -> None:
    assert_read_as_mapped(write(case, tmp_path), device)


def test_pieces_gaps_and_layers_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of 1,000 bytes, no bytes between tensors read along."""
    monkeypatch.setattr("engine.model.checkpoint.read_ahead.HASH_CHUNK", 1000)
    monkeypatch.setattr("engine.model.checkpoint.read_ahead._GAP", 0)
    assert_read_as_mapped(write("gptq-4 v2 act-order", tmp_path), "cpu")


def test_other_threads_may_write_to_what_an_inference_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pieces for a GPU are written: by an operation of torch, in a thread."""

    class Copied(parallel_read._Place):
        def __init__(self, target: Tensor) -> None:
            self._host, self._target = torch.empty_like(target), target
            super().__init__(self._host)

        def release(self) -> None:
            self._target.copy_(self._host)

    class Elsewhere:
        def take(self, target: Tensor) -> Copied:
            return Copied(target)

    monkeypatch.setattr(parallel_read, "_InPlace", Elsewhere)
    assert_read_as_mapped(write("q4_k", tmp_path), "cpu")


@pytest.mark.parametrize("case", [*CASES, *TYPES])
def test_a_device_is_asked_for_nothing_while_weights_are_taken_apart(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On meta: a number that were looked at, or a tensor left on the CPU, would raise."""
    monkeypatch.setattr("engine.model.formats.packed_checkpoint.settle", lambda modules: None)
    model = opened(write(case, tmp_path))
    for name in model.names:
        mapped = model.checkpoint.read_weight(name)
        places = model.checkpoint.places(name)
        model.checkpoint.held |= {
            key: torch.empty(place.shape, dtype=place.dtype, device="meta") for key, place in places.items()
        }
        weight: Any = model.checkpoint.read_weight(name)
        shapes = [[(part.shape, part.dtype) for part in parts_of(held)] for held in (mapped, weight)]
        assert shapes[0] == shapes[1]
        assert all(part.is_meta for part in parts_of(weight))
        assert not model.checkpoint.held


@pytest.mark.parametrize("case", ["fp8 blocks", "q4_k"])
def test_a_file_that_is_cut_short_is_named(case: str, tmp_path: Path) -> None:
    path = write(case, tmp_path)
    model = opened(path)
    file = path if path.is_file() else path / "model.safetensors"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 100)
    with pytest.raises(ModelError, match=rf"{file.name}.*(cut short|shorter while it was read).*download"):
        [weights.pop(name) for weights in [ReadAhead(model.checkpoint, model.names, "cpu")] for name in list(weights)]
