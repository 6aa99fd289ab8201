"""GGUF blocks: every type is worth what gguf-py makes of the same bytes, and weighs what it weighs in the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

from engine.model.formats.gguf_blocks import read_blocks
from engine.model.formats.gguf_file import TYPES

KINDS = [name for name, elements, _ in TYPES.values() if elements > 1]


def random_blocks(kind: str, rows: int, columns: int) -> np.ndarray:
    """Any bytes, but fp16 fields that are numbers of a sane size."""
    elements, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind.upper().replace("_k", "_K")]]
    blocks = np.random.default_rng(len(kind)).integers(0, 256, (rows, columns // elements, nbytes), dtype=np.uint8)
    places = {"q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "q4_1": (0, 2), "q5_1": (0, 2)}.get(kind, (0,))
    for at in places:
        numbers = np.random.default_rng(at).normal(0, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[..., at : at + 2] = numbers[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_random_blocks_are_worth_what_gguf_py_says(kind: str) -> None:
    blocks = random_blocks(kind, 24, 512)
    reference = torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind.upper()]))
    ours = read_blocks(torch.from_numpy(blocks), kind, 512)
    assert torch.equal(ours.dequantize(), reference)
    assert reference.std() > 1e-3
    assert ours.nbytes <= 1.05 * blocks.nbytes


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1"])
def test_what_gguf_py_quantises_is_read(kind: str) -> None:
    weight = np.random.default_rng(1).normal(size=(16, 96)).astype(np.float32)
    blocks = quantize(weight, GGMLQuantizationType[kind.upper()])
    ours = read_blocks(torch.from_numpy(blocks), kind, 96).dequantize()
    assert torch.equal(ours, torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind.upper()])))
    assert (ours - torch.from_numpy(weight)).abs().max() < 0.3
