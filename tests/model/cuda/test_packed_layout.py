"""Other tools' formats and nl4 as fragments: the values that they hold, and the products of kernels in the interpreter.

Bounds: elements and scales are rounded to fp16 (2^-11 each, and minima: 2e-3 of the largest weight); kernels compute
what `unfragment` tells, with sums in another order (1e-6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import ModelError
from engine.model.cuda.packed_layout import formed_stack, with_inputs_in_place
from engine.model.formats.floats import read_bytes, read_fp4
from engine.model.formats.gguf_blocks import read_blocks
from engine.model.formats.integers import read_awq, read_gptq
from engine.model.formats.stored import Stored
from engine.model.kernels.device.forms import Form
from engine.model.kernels.device.fragments import Beside, FragmentWeight, interleave_gate_up, unfragment
from engine.model.kernels.products import experts, linear, prefill, strips
from engine.model.kernels.routing import router
from engine.model.weights.quantized_tensor import QuantizedTensor
from engine.model.weights.rounding import quantize_tensor
from engine.model.weights.stacked import StackedWeight
from tests.kernels.conftest import remembered_builtins  # noqa: F401 - a fixture
from tests.kernels.weights import distance
from tests.model import foreign
from tests.model.gguf_writer import blocks

N, K = 128, 256


def stored(parts: dict[str, Tensor]) -> Stored:
    return Stored(("m.weight",), parts)


def floats() -> Tensor:
    return torch.randn(N, K) * 0.03


def fp8(block: tuple[int, int] | None, dtype: torch.dtype) -> QuantizedTensor:
    codes, scales, _ = foreign.fp8(floats(), block)
    return read_bytes(stored({"weight": codes, "scale": scales.to(dtype)}), "scale", block, "fp8")


def fp8_tensor() -> QuantizedTensor:
    weight = floats()
    scale = weight.abs().max() / 448
    parts = {"weight": (weight / scale).to(torch.float8_e4m3fn), "scale": scale.view(1)}
    return read_bytes(stored(parts), "scale", None, "fp8")


def gptq(bits: int, group: int, order: int | None = None) -> QuantizedTensor:
    parts = foreign.gptq(floats(), bits, group, v1=True, act_order=order)[0]
    return read_gptq(stored(parts), bits, group, True, f"gptq-{bits}")


def mxfp4() -> QuantizedTensor:
    codes = torch.randint(0, 256, (N, K // 2), dtype=torch.uint8)
    scales = torch.randint(110, 123, (N, K // 32), dtype=torch.uint8)
    return read_fp4(stored({"weight_packed": codes, "weight_scale": scales}), "weight_packed", None, False, "mxfp4")


def nvfp4() -> QuantizedTensor:
    return read_fp4(stored(foreign.modelopt_nvfp4(floats())[0]), "weight", "weight_scale_2", False, "nvfp4")


def gguf(kind: str) -> QuantizedTensor:
    raw = torch.from_numpy(blocks(kind, (N, K), np.random.default_rng(3)))
    return read_blocks(raw.reshape(N, -1), kind, K)


MADE: dict[str, Callable[[], QuantizedTensor]] = {
    "fp8 blocks fp32": lambda: fp8((128, 128), torch.float32),
    "fp8 blocks bf16": lambda: fp8((128, 128), torch.bfloat16),
    "fp8 rows": lambda: fp8(None, torch.float32),
    "fp8 tensor": fp8_tensor,
    **{f"gptq-{b} {g}": lambda b=b, g=g: gptq(b, g) for b, g in ((4, 128), (4, 32), (4, -1), (8, 64), (8, -1))},
    **{f"gptq-{bits} act-order": lambda bits=bits: gptq(bits, 64, order=1) for bits in (4, 8)},
    "awq": lambda: read_awq(stored(foreign.awq(floats(), 128)[0]), 128, "awq-4"),
    "nvfp4": nvfp4,
    "mxfp4": mxfp4,
    **{kind: lambda kind=kind: gguf(kind) for kind in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"]},
    "nl4": lambda: quantize_tensor(floats(), "nl4"),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def matrix(weight: QuantizedTensor) -> FragmentWeight:
    made = formed_stack(weight, "m", interleave=False)
    order = None if made.order is None else made.order[0]
    return replace(made, words=made.words[0], scales=made.scales[0], order=order)


@pytest.mark.parametrize("name", MADE)
def test_a_formed_weight_holds_the_files_values_in_as_many_bytes(name: str) -> None:
    weight = MADE[name]()
    made, value = matrix(weight), weight.dequantize()
    assert float((unfragment(made) - value).abs().max() / value.abs().max()) < 2e-3
    assert distance(unfragment(made), value) < 6e-4
    assert made.nbytes <= 1.05 * weight.nbytes


@pytest.mark.parametrize("name", MADE)
def test_products(name: str) -> None:
    made = matrix(MADE[name]())
    x = torch.randn(3, K).half()
    out, expected = (torch.full((3, N), float("nan")) for _ in range(2))
    linear.linear(x, made, out)
    linear.linear_reference(x, made, expected)
    assert distance(out, expected) < 1e-6
    out.fill_(float("nan"))
    prefill.product(x, made, out)
    prefill.product_reference(x, made, expected)
    assert distance(out, expected) < 1e-6
    whole = torch.empty(N, K, dtype=torch.float16)
    prefill.expand(made, whole)
    natural = torch.empty_like(whole)
    natural[:, prefill.plane_order(K, x.device)] = whole
    assert distance(natural, unfragment(replace(made, order=None))) < 5e-4


@pytest.mark.parametrize("name", ["fp8 blocks fp32", "gptq-4 128", "gptq-4 -1", "gptq-8 -1", "nvfp4", "q6_k"])
def test_experts_of_pieces(name: str) -> None:
    """Gate and up lie in a piece each, and are interleaved with their own scales."""
    pieces = [MADE[name]() for _ in range(6)]
    joined = StackedWeight(tuple(pieces[:4]), (2, 2 * N, K))
    gate_up = formed_stack(joined, "g", interleave=True)
    whole = interleave_gate_up(joined.dequantize())
    assert distance(unfragment(gate_up), whole) < 6e-4
    down = formed_stack(StackedWeight((*pieces[4:],), (2, N, K)), "d", interleave=False)
    assert distance(unfragment(down), torch.stack([piece.dequantize() for piece in pieces[4:]])) < 6e-4


@pytest.mark.parametrize(("kind", "tokens"), [("fp8", 3), ("nl4", 9)])
def test_a_mixture_for_one_token_and_for_several(kind: str, tokens: int) -> None:
    hidden, inner, count = 256, 128, 4
    if kind == "nl4":
        gate_up = quantize_tensor(torch.randn(count, 2 * inner, hidden) * 0.05, "nl4")
        down = quantize_tensor(torch.randn(count, hidden, inner) * 0.05, "nl4")
    else:
        gate_up, down = (
            StackedWeight(tuple(piece(rows, columns) for _ in range(count * times)), (count, rows * times, columns))
            for times, rows, columns in ((2, inner, hidden), (1, hidden, inner))
        )
    weights = formed_stack(gate_up, "g", interleave=True), formed_stack(down, "d", interleave=False)
    x, logits = torch.randn(1, hidden).half(), torch.randn(1, count)
    results = []
    for function in (experts.experts_one, experts.experts_one_reference):
        scratch, out, half = torch.empty(2, inner).half(), torch.ones(1, hidden), torch.empty(1, hidden).half()
        function(x, logits, *weights, scratch, out, half, chosen=2, norm_topk=True)
        results.append(out)
    assert distance(*results) < 1e-4
    x, logits = torch.randn(tokens, hidden).half(), torch.randn(tokens, count)
    pairs = router.make_pairs(tokens, 2, count, 8, x.device)
    live = torch.tensor([tokens], dtype=torch.int32)
    router.choose_each_reference(logits, live, pairs.ids, pairs.weights, chosen=2, norm_topk=True)
    router.sort_pairs_reference(pairs, experts=count)
    results = []
    for function in (strips.strips_product, strips.strips_product_reference):
        scratch, parts = torch.empty(2 * tokens, inner).half(), torch.empty(2 * tokens, hidden)
        function(x, pairs, *weights, scratch, parts, chosen=2)
        results.append(parts)
    assert distance(*results) < 1e-4


def piece(rows: int, columns: int) -> QuantizedTensor:
    codes, scales, _ = foreign.fp8(torch.randn(rows, columns) * 0.05, (128, 128))
    return read_bytes(stored({"weight": codes, "scale": scales}), "scale", (128, 128), "fp8")


def test_weights_of_several_formats_lie_beside_each_other() -> None:
    beside = Beside((matrix(gguf("q4_k")), matrix(gguf("q6_k"))))
    x = torch.randn(3, K).half()
    expected = x.float() @ unfragment(beside).t()
    out = torch.full((3, 2 * N), float("nan"))
    linear.linear(x, beside, out)
    assert distance(out, expected) < 1e-6
    natural = x[:, prefill.plane_order(K, x.device)].contiguous()
    out.fill_(float("nan"))
    prefill.product(natural, beside, out)
    assert distance(out, expected) < 1e-6
    parts = torch.full((3, 2, 2 * N), float("nan"))
    prefill.product_parts(natural, beside, parts)
    assert distance(parts.sum(1), expected) < 1e-6


def test_pieces_of_two_formats_or_orders_are_refused_by_name() -> None:
    mixed = StackedWeight((gguf("q4_k"), gguf("q6_k")), (1, 2 * N, K))
    with pytest.raises(ModelError, match=r"^layer 3 gate and up has pieces in q4_k and q6_k.*--device cpu"):
        formed_stack(mixed, "layer 3 gate and up", interleave=True)
    for other in (None, 2):
        apart = StackedWeight((gptq(4, 64, 1), gptq(4, 64, other)), (1, 2 * N, K))
        with pytest.raises(ModelError, match=r"^layer 3 gate and up of one expert have .* different orders.*cpu"):
            formed_stack(apart, "layer 3 gate and up", interleave=True)


@pytest.mark.parametrize("orders", [(1, 2), (1, None)])
def test_experts_have_orders_of_their_own_and_rows_in_that_of_downs_columns(orders: tuple[int | None, ...]) -> None:
    """Gate and up of an expert share an input, and so an order; `None`: columns in place."""
    gate_up = [gptq(4, 64, order) for order in orders for _ in range(2)]
    down = [square(order) for order in reversed(orders)]
    rows, behind = with_inputs_in_place(gate_up, down)
    made = formed_stack(StackedWeight(tuple(rows), (2, 2 * N, K)), "g", interleave=True)
    assert made.order is not None
    assert made.order.shape == (2, K)
    lying = formed_stack(StackedWeight(tuple(behind), (2, N, N)), "d", interleave=False)
    assert lying.order is None
    x = torch.randn(K)
    for expert, (gate, up) in enumerate(zip(gate_up[::2], gate_up[1::2], strict=True)):
        both = (unfragment(made)[expert] @ x).view(-1, 2, 8)
        inner = both[:, 0].flatten() * both[:, 1].flatten()
        expected = down[expert].dequantize() @ ((gate.dequantize() @ x) * (up.dequantize() @ x))
        assert distance(unfragment(lying)[expert] @ inner, expected) < 2e-3


def square(order: int | None) -> QuantizedTensor:
    parts = foreign.gptq(torch.randn(N, N) * 0.03, 4, 32, v1=True, act_order=order)[0]
    return read_gptq(stored(parts), 4, 32, True, "gptq-4")


@pytest.mark.parametrize("form", [
    Form(8, 1, 2, e4m3=True, units=2), Form(4, 4, 3, table=True), Form(6, 4, 6, 0, True, signed=True),
    Form(5, 2, 5, 2, True), Form(4, 1, 0, 1, units=12), Form(8),
])  # fmt: skip
def test_a_form_is_one_number_that_no_own_format_has(form: Form) -> None:
    assert Form.of(form.kind) == form
    assert form.kind > 31
