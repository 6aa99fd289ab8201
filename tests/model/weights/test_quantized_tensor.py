"""Formats: bit for bit bitsandbytes' where it has them, error bounds everywhere, and hostile numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.errors import ModelError
from engine.model.weights.codebook import codebook, dynamic_map, nearest
from engine.model.weights.quantized_tensor import BLOCK, FORMATS, QuantizedTensor, empty_quantized, part_shapes
from engine.model.weights.rounding import quantize_slices, quantize_tensor

FOUR_BIT = ("nf4", "fp4", "int4")
CPU = torch.device("cpu")


def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    spread = torch.randn(64, 256) * torch.logspace(-12, 12, 64)[:, None]
    return {
        "normal": torch.randn(96, 320),
        "bf16": torch.randn(48, 256).bfloat16(),
        "fp16": torch.randn(48, 128).half(),
        "zero": torch.zeros(4, 128),
        "denormal": torch.randn(16, 128) * 1e-39,
        "around the smallest normal": torch.randn(16, 128) * 2e-38,
        "huge": torch.randn(16, 128).clamp(-3, 3) * 1e38,
        "constant": torch.full((8, 128), 0.37),
        "negative constant": torch.full((8, 128), -0.37),
        "spread over 24 decades": spread,
        "one outlier a block": torch.randn(16, 256) * 0.01 + torch.eye(16, 256) * 100,
    }


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
@pytest.mark.parametrize("name", list(weights()))
def test_packed_bytes_scales_and_values_are_bitsandbytes(name: str, quantization: str) -> None:
    bnb = pytest.importorskip("bitsandbytes.functional")
    weight = weights()[name]
    packed, state = bnb.quantize_4bit(weight, quant_type=quantization, blocksize=BLOCK)
    ours = quantize_tensor(weight, quantization)
    assert torch.equal(ours.packed.view(-1), packed.view(-1))
    assert torch.equal(ours.scale.view(-1), state.absmax)
    assert torch.equal(ours.codebook, state.code)
    assert torch.equal(ours.dequantize(weight.dtype), bnb.dequantize_4bit(packed, state))


@pytest.mark.parametrize("name", ["normal", "bf16", "one outlier a block", "constant"])
def test_nested_scales_follow_bitsandbytes(name: str) -> None:
    """Offset, block scales and map are equal; a code differs only near a tie, where bitsandbytes' CPU kernel may take
    the farther entry (seen: by 1e-5 of the range; its plain-torch kernel does not)."""
    bnb = pytest.importorskip("bitsandbytes.functional")
    weight = weights()[name].float()
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", blocksize=BLOCK, compress_statistics=True)
    ours = quantize_tensor(weight, "nf4-dq")
    assert ours.nested is not None
    assert torch.equal(ours.packed.view(-1), packed.view(-1))
    assert torch.equal(ours.nested.absmax, state.state2.absmax)
    assert torch.equal(ours.nested.offset, state.offset)
    assert torch.equal(dynamic_map(CPU), state.state2.code)
    if name != "constant":  # scales less their mean are all zero there, and any code of a zero block means zero
        centred = (quantize_tensor(weight, "nf4").scale.view(-1) - state.offset).double()
        wanted = centred / ours.nested.absmax.double().repeat_interleave(256)[: len(centred)]
        near, theirs = ((dynamic_map(CPU)[c.int()] - wanted).abs() for c in (ours.scale.view(-1), state.absmax))
        assert (near <= theirs + 1e-7).all()
        assert (theirs - near <= 1e-4).all()
    step = float(state.state2.absmax.max()) / 64
    assert torch.allclose(ours.dequantize(), bnb.dequantize_4bit(packed, state), rtol=0, atol=step)


def test_int8_is_bitsandbytes_row_quantiser() -> None:
    bnb = pytest.importorskip("bitsandbytes.functional")
    weight = weights()["fp16"]
    codes, absmax, _ = bnb.int8_vectorwise_quant(weight.clone())
    ours = quantize_tensor(weight, "int8")
    assert torch.equal(ours.packed, codes)
    assert torch.equal(ours.scale, absmax)


def test_quantising_needs_no_bitsandbytes() -> None:
    """The reference is a test dependency: nothing under engine/ imports it."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "import torch; from engine.model.weights.rounding import FORMATS, quantize_tensor\n"
        "[quantize_tensor(torch.ones(2, 64), f).dequantize() for f in FORMATS]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("quantization", FOUR_BIT)
def test_nearest_is_the_search_it_replaces_at_and_around_every_boundary(quantization: str) -> None:
    table = codebook(quantization, CPU).sort().values
    boundaries = (table[:-1] + table[1:]) / 2
    infinity = torch.tensor(math.inf)
    near = [boundaries, torch.nextafter(boundaries, infinity), torch.nextafter(boundaries, -infinity)]
    values = torch.cat([*near, table, torch.linspace(-1, 1, 20001), torch.tensor([0.0, -0.0, 1e-45, -1e-45])])
    values = values[values.abs() <= 1]
    assert torch.equal(nearest(values, quantization).int(), torch.bucketize(values, boundaries).int())


@settings(max_examples=40, deadline=None)
@given(
    quantization=st.sampled_from(FORMATS),
    rows=st.integers(1, 5),
    columns=st.integers(1, 200),
    experts=st.integers(0, 3),
    exponent=st.integers(-30, 30),
    seed=st.integers(0, 2**31),
)
def test_error_is_bounded_by_the_widest_gap(
    quantization: str, rows: int, columns: int, experts: int, exponent: int, seed: int
) -> None:
    shape = (*([experts] if experts else []), rows, columns)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    quantized = quantize_tensor(weight, quantization)
    values = quantized.dequantize()
    assert values.shape == weight.shape
    assert quantized.nbytes == sum(t.nbytes for t in empty_quantized(shape, quantization, "cpu").parts().values())
    assert (values - weight).abs().le(_bound(weight, quantized)).all()


def _bound(weight: Tensor, quantized: QuantizedTensor) -> Tensor:
    """Half the widest gap of the codebook times the block's absmax, and what a nested scale may be off by; nl4 clips
    where that serves the group."""
    if quantized.format == "int8":
        return weight.abs().amax(-1, keepdim=True) * (0.5001 / 127)
    if quantized.format == "nl4":
        return weight.abs().amax(-1, keepdim=True) / 3 + weight.abs().amax() / 4096
    table = quantized.codebook.sort().values
    gap = float(max((b - a for a, b in pairwise(table[table >= -1].tolist())))) / 2
    slack = 0.0 if quantized.nested is None else float(quantized.nested.absmax.max()) / 32
    return (weight.abs().amax(-1, keepdim=True)) * gap * 1.0001 + slack


@pytest.mark.parametrize("quantization", ["int8", *FOUR_BIT])
def test_quantising_again_changes_nothing(quantization: str) -> None:
    first = quantize_tensor(weights()["normal"], quantization)
    again = quantize_tensor(first.dequantize(), quantization)
    assert torch.allclose(first.scale, again.scale, rtol=2e-7, atol=0)  # int8 rounds absmax / 127 * 127
    assert torch.allclose(first.dequantize(), again.dequantize(), rtol=4e-7, atol=0)


def test_int4_is_symmetric_and_never_writes_code_zero() -> None:
    weight = torch.linspace(-1, 1, 15 * 64).reshape(15, 64)
    quantized = quantize_tensor(weight, "int4")
    codes = torch.stack([quantized.packed >> 4, quantized.packed & 15], -1).view(15, 64)
    assert int(codes.min()) >= 1
    mirrored = quantize_tensor(-weight.flip(-1), "int4")
    assert torch.allclose(mirrored.dequantize(), -quantized.dequantize().flip(-1))


@pytest.mark.parametrize("quantization", FORMATS)
def test_layout_is_as_documented(quantization: str) -> None:
    """Element 2i is in the high nibble; every part has its documented shape and dtype; K = 70 pads to 128 (nl4: 80)."""
    weight = torch.randn(2, 3, 70)
    quantized = quantize_tensor(weight, quantization)
    for name, (shape, dtype) in part_shapes((2, 3, 70), quantization).items():
        part = quantized.parts()[name]
        assert (tuple(part.shape), part.dtype) == (tuple(shape), dtype)
    if quantization == "int8":
        by_hand = quantized.packed.float() * (quantized.scale / 127)[..., None]
    else:
        codes = torch.stack([quantized.packed >> 4, quantized.packed & 15], -1).view(2, 3, -1)
        scales = quantized.scales().repeat_interleave(quantized.coding.group, -1)
        assert codes.shape[-1] == scales.shape[-1] == (80 if quantization == "nl4" else 128)
        by_hand = (quantized.codebook[codes.int()] * scales)[..., :70]
    assert torch.allclose(quantized.dequantize(), by_hand, rtol=1e-6, atol=0)


@pytest.mark.parametrize("quantization", FORMATS)
def test_experts_one_by_one_are_the_stacked_tensor(quantization: str) -> None:
    weight = torch.randn(5, 24, 96)
    whole = quantize_tensor(weight, quantization)
    sliced = quantize_slices(iter(weight), (5, 24, 96), quantization)
    for name, part in whole.parts().items():
        assert torch.equal(part, sliced.parts()[name]), name
    values = whole.dequantize()
    for expert in range(5):
        assert torch.equal(whole[expert].dequantize(), values[expert])
    assert torch.equal(whole.with_plain_scales().dequantize(), values)


@pytest.mark.parametrize("quantization", FORMATS)
def test_strides_do_not_matter(quantization: str) -> None:
    weight = torch.randn(128, 64).t()
    assert torch.equal(
        quantize_tensor(weight, quantization).dequantize(),
        quantize_tensor(weight.contiguous(), quantization).dequantize(),
    )


@pytest.mark.parametrize("quantization", FORMATS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(quantization: str, poison: float) -> None:
    weight = torch.randn(4, 128)
    weight[2, 77] = poison
    with pytest.raises(ModelError, match="infinity or NaN"):
        quantize_tensor(weight, quantization)


def test_an_overflowing_mean_of_scales_is_refused() -> None:
    with pytest.raises(ModelError, match="use nf4"):
        quantize_tensor(torch.full((8, 256), 3e38), "nf4-dq")


def test_unknown_format_and_wrong_slices_are_refused() -> None:
    with pytest.raises(ModelError, match="int8, nf4, nf4-dq, fp4, int4"):
        quantize_tensor(torch.ones(2, 64), "nf3")
    with pytest.raises(ValueError, match="rows"):
        quantize_slices([torch.ones(2, 64)], (2, 2, 64), "nf4")
    with pytest.raises(ValueError, match="shape"):
        quantize_slices([], (64,), "nf4")


@pytest.mark.parametrize(("quantization", "bits"), [("int8", 8 + 32 / 4096), ("nf4", 4.5), ("fp4", 4.5), ("int4", 4.5)])
def test_bits_per_weight_count_the_scales(quantization: str, bits: float) -> None:
    assert quantize_tensor(torch.randn(8, 4096), quantization).bits_per_weight == pytest.approx(bits)


def test_bits_per_weight_of_nested_scales() -> None:
    """4 + 8/64 + 32/(64 * 256), and one offset."""
    quantized = quantize_tensor(torch.randn(256, 1024), "nf4-dq")
    assert quantized.bits_per_weight == pytest.approx(4 + 8 / 64 + 32 / (64 * 256) + 32 / (256 * 1024))


def test_dequantising_rounds_once() -> None:
    quantized = quantize_tensor(torch.randn(16, 128), "nf4")
    assert torch.equal(quantized.dequantize(torch.bfloat16), quantized.dequantize().bfloat16())
